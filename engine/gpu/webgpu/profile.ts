/**
 * Where a step's time goes: the plan again with one timestamped pass per dispatch. Timestamps exist only at pass boundaries, so this is a mode of
 * its own, slower than the real step (specs/dawn-node.md §3); shares are what it is good for. Sums by kernel, slowest first.
 */
import { LatheError } from '../../contract/errors.ts'
import type { KernelTiming } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { LedgerAccount } from './ledger.ts'
import type { Dispatch, StepShape } from './plan.ts'
import { readBuffer } from './readback.ts'

/** WebGPU's limit on the length of a query set. */
const MAX_QUERIES = 4096
const NANOSECONDS_PER_MS = 1e6

export async function profileStep(
  gpu: GpuDevice,
  account: LedgerAccount,
  dispatches: readonly Dispatch[],
  shape: StepShape,
): Promise<readonly KernelTiming[]> {
  if (!gpu.features.has('timestamp-query')) {
    throw new LatheError('gpu.unsupported', `${gpu.adapterId} has no timestamps.`, 'Measure whole steps instead: `lathe bench`.')
  }
  const sums = new Map<string, { milliseconds: number; bytes: number; operations: number; dispatches: number }>()
  const grid = new Uint32Array(3)
  const perRound = MAX_QUERIES / 2
  for (let start = 0; start < dispatches.length; start += perRound) {
    const round = dispatches.slice(start, start + perRound)
    const queries = gpu.device.createQuerySet({ label: 'profile', type: 'timestamp', count: 2 * round.length })
    const resolved = await account.allocateOne('profile', round.length * 16, GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC)
    try {
      const encoder = gpu.device.createCommandEncoder({ label: 'profile' })
      const ran: { dispatch: Dispatch; query: number }[] = []
      for (const dispatch of round) {
        const variant = dispatch.variants[dispatch.prepare(shape, grid)]
        if (variant === undefined) continue
        const query = 2 * ran.length
        const pass = encoder.beginComputePass({
          timestampWrites: { querySet: queries, beginningOfPassWriteIndex: query, endOfPassWriteIndex: query + 1 },
        })
        pass.setPipeline(variant.pipeline)
        pass.setBindGroup(0, variant.bindGroup)
        if (dispatch.immediates.length > 0) pass.setImmediates(0, dispatch.immediates)
        pass.dispatchWorkgroups(grid[0] ?? 1, grid[1], grid[2])
        pass.end()
        ran.push({ dispatch, query })
      }
      if (ran.length === 0) continue
      encoder.resolveQuerySet(queries, 0, 2 * ran.length, resolved, 0)
      gpu.device.queue.submit([encoder.finish()])
      const ticks = new BigUint64Array(await readBuffer(gpu, account, resolved, 0, ran.length * 16))
      for (const { dispatch, query } of ran) {
        const cost = dispatch.cost(shape)
        const sum = sums.get(dispatch.kernel) ?? { milliseconds: 0, bytes: 0, operations: 0, dispatches: 0 }
        sum.milliseconds += Number((ticks[query + 1] ?? 0n) - (ticks[query] ?? 0n)) / NANOSECONDS_PER_MS
        sum.bytes += cost.bytes
        sum.operations += cost.operations
        sum.dispatches += 1
        sums.set(dispatch.kernel, sum)
      }
    } finally {
      account.free(resolved)
      queries.destroy()
    }
  }
  return [...sums].map(([kernel, sum]) => ({ kernel, ...sum })).sort((a, b) => b.milliseconds - a.milliseconds)
}
