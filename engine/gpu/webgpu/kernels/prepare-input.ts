/**
 * What a linear multiplies in place of its input: gathered where the weight's columns are in another order, rounded where the operation says so
 * (InputQuantization). One dispatch ahead of the linear's own, into scratch memory that all linears share. As f32, q·s; or as packed int8 codes
 * with a scale per row, for linear-int8.wgsl.
 */
import type { Capacity, InputQuantization, Operation } from '../../program.ts'
import type { BufferSlice } from '../kernel.ts'
import { type Dispatch, extentOf, type PlanContext, single, strideOf } from '../plan.ts'
import type { ShaderConstants } from '../shader.ts'
import { fill } from './rowwise.ts'

type Linear = Extract<Operation, { op: 'linear' }>

/** Half the steps of int8, and the largest finite magnitudes of the floats. */
const LIMIT = { int8: 127.5, e4m3: 448, e2m1: 6 } as const
/** How far below the largest magnitude's exponent an E8M0 scale lies (specs/compressed-tensors.md §6.4). */
const EXPONENT_OFFSET = { int8: 0, e4m3: 8, e2m1: 2 } as const
/** Codes per 16-byte unit of a row of int8. */
const UNIT_CODES = 16

/** Codes on both sides and one scale a row: what linear-int8.wgsl multiplies. */
export function multipliesIntegers({ weight, inputQuantization }: Linear): boolean {
  const { format, cols } = weight
  return (
    inputQuantization?.element === 'int8' &&
    format.kind === 'packed-int' &&
    format.bits === 8 &&
    !format.hasZeroPoint &&
    format.groupSize >= cols
  )
}

export function needsPreparation(operation: Linear): boolean {
  return (operation.inputQuantization ?? null) !== null || operation.weight.parts.some((part) => (part.groupIndex ?? null) !== null)
}

export interface InputScratchBytes {
  readonly values: number
  readonly scales: number
}

/** Scratch memory that the largest prepared input needs. */
export function inputScratchBytes(operations: readonly Operation[], capacity: Capacity): InputScratchBytes {
  let values = 4
  let rows = 1
  for (const operation of operations) {
    if (operation.op !== 'linear' || !needsPreparation(operation)) continue
    const count = extentOf(operation.x, capacity)
    rows = Math.max(rows, count)
    // A row of codes is never longer than its row of f32, but for very short ones.
    values = Math.max(values, count * Math.max(strideOf(operation.x.width) * 4, UNIT_CODES))
  }
  return { values, scales: rows * 4 }
}

/** The dispatch, and the slices that the linear reads: `scales` only beside codes. */
export async function planInput(
  context: PlanContext,
  operation: Linear,
): Promise<{ readonly dispatch: Dispatch; readonly values: BufferSlice; readonly scales: BufferSlice }> {
  const { x, weight } = operation
  const quantization = operation.inputQuantization ?? null
  const { order } = context.matrix(weight)
  const codes = multipliesIntegers(operation)
  const stride = codes ? Math.ceil(x.width / UNIT_CODES) * 4 : strideOf(x.width)
  const { values, scales } = context.inputScratch
  const gather = order !== null
  const kernel = await context.kernel({
    name: 'prepare-input',
    constants: {
      WORKGROUP: context.tuning.rowWorkgroup,
      WIDTH: x.width,
      X_STRIDE: strideOf(x.width),
      OUT_STRIDE: stride,
      ...(gather ? { GATHER: true } : {}),
      ...(codes ? { CODES: true } : {}),
      ...(quantization === null ? {} : roundingConstants(quantization, x.width)),
    },
    bindings: ['read', 'write', ...(codes ? (['write'] as const) : []), ...(gather ? (['read'] as const) : [])],
    immediateWords: 1,
  })
  const buffers = [context.value(x), values, ...(codes ? [scales] : []), ...(order === null ? [] : [{ buffer: order }])]
  const immediates = new Uint32Array(Float32Array.of(quantization === null ? 0 : context.staticScale(quantization)).buffer)
  const dispatch = single(kernel, context.variant(kernel, buffers), {
    immediates,
    prepare: (step, grid) => fill(grid, extentOf(x, step), 1),
    cost: (step) => ({ bytes: extentOf(x, step) * (4 * x.width + 4 * stride), operations: 2 * x.width * extentOf(x, step) }),
  })
  return { dispatch, values, scales }
}

function roundingConstants(quantization: InputQuantization, width: number): ShaderConstants {
  const { element, scale, groupSize, scaleDtype } = quantization
  const span = groupSize ?? width
  return {
    ROUND: true,
    [element.toUpperCase()]: true,
    [scale.toUpperCase()]: true,
    LIMIT: { float: LIMIT[element] },
    EXPONENT_OFFSET: EXPONENT_OFFSET[element],
    ...(scale === 'group' ? { GROUP_SIZE: span, GROUPS: Math.ceil(width / span) } : {}),
    ...(scaleDtype === 'f32' ? {} : { [`SCALE_${scaleDtype.toUpperCase()}`]: true }),
  }
}
