/**
 * Matrix units for one executable: the memory that its linears share, and the scales of its weights' rows, found on the device once the weights
 * are there. Null where the mode was not asked for.
 */
import type { Capacity } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { Linear } from './kernels/linear.ts'
import { planRowRange, takesMatrixUnits } from './kernels/linear-matrix.ts'
import type { LedgerAccount } from './ledger.ts'
import { type MatrixMode, type MatrixPlan, paddedColumns, paddedElements } from './matrix-units.ts'
import { type Dispatch, extentOf, type PlanContext, type StepShape } from './plan.ts'
import type { DeviceMatrix } from './weights.ts'

/** A half, a float. */
const HALF_BYTES = 2
const FLOAT_BYTES = 4

/** Ranges do not depend on a step. */
const NO_STEP: StepShape = {
  tokens: 0,
  rows: 0,
  longestContext: 0,
  topCount: 0,
  samples: false,
  adjusts: false,
  mostEdits: 0,
}

export async function planMatrixUnits(
  gpu: GpuDevice,
  account: LedgerAccount,
  mode: MatrixMode,
  linears: readonly Linear[],
  capacity: Capacity,
  context: Pick<PlanContext, 'kernel' | 'variant' | 'nothing' | 'matrix'>,
): Promise<MatrixPlan> {
  const taken = linears.filter(takesMatrixUnits)
  const columns = paddedColumns(mode, Math.max(1, ...taken.map(({ x }) => extentOf(x, capacity))))
  const elements = Math.max(mode.stage, ...taken.map(({ weight }) => paddedElements(mode, weight.cols)))
  const matrices = new Map<number, DeviceMatrix>(taken.map(({ weight }) => [weight.id, context.matrix(weight)]))
  const usage = GPUBufferUsage.STORAGE
  const [inputs, inputScales, ...scales] = await account.allocate([
    { name: 'matrix inputs', bytes: columns * elements * HALF_BYTES, usage },
    { name: 'matrix input scales', bytes: columns * FLOAT_BYTES, usage },
    ...[...matrices.values()].map(({ spec }) => ({ name: `${spec.name} row scales`, bytes: spec.rows * FLOAT_BYTES, usage })),
  ])
  if (inputs === undefined || inputScales === undefined) throw new Error('no buffers')
  const rowScales = new Map(
    [...matrices.keys()].flatMap((id, index) => (scales[index] === undefined ? [] : [[id, scales[index]] as const])),
  )
  const ranges = await Promise.all(
    [...matrices].map(([id, matrix]) => {
      const buffer = rowScales.get(id)
      return buffer === undefined ? null : planRowRange(context, matrix, { buffer })
    }),
  )
  run(
    gpu,
    ranges.flatMap((dispatches) => dispatches ?? []),
  )
  return {
    ...mode,
    inputs: { buffer: inputs },
    inputScales: { buffer: inputScales },
    rowScales(weightId) {
      const buffer = rowScales.get(weightId)
      if (buffer === undefined) throw new Error(`weight ${weightId} has no row scales`)
      return { buffer }
    },
  }
}

/** A submit for each: a range is one reading of its weight, which a driver must not take for a hang. */
function run(gpu: GpuDevice, dispatches: readonly Dispatch[]): void {
  const grid = new Uint32Array(3)
  for (const dispatch of dispatches) {
    const variant = dispatch.variants[dispatch.prepare(NO_STEP, grid)]
    if (variant === undefined) continue
    const encoder = gpu.device.createCommandEncoder({ label: dispatch.kernel })
    const pass = encoder.beginComputePass()
    pass.setPipeline(variant.pipeline)
    pass.setBindGroup(0, variant.bindGroup)
    pass.setImmediates(0, dispatch.immediates)
    pass.dispatchWorkgroups(grid[0] ?? 1, grid[1], grid[2])
    pass.end()
    gpu.device.queue.submit([encoder.finish()])
  }
}
