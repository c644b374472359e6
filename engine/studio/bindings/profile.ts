/**
 * One profiled prefill and decode step of a loaded model, kernel by kernel. The steps run between those of the requests being served, on blocks of
 * their own, so that a chat goes on beside it. Shares are what it is good for: timestamps slow the step down (engine/gpu/webgpu/profile.ts).
 */
import { syntheticPrompt } from '../../benchmark/throughput.ts'
import { LatheError } from '../../contract/index.ts'
import type { KernelShare } from '../../contract/index.ts'
import type { KernelTiming } from '../../gpu/program.ts'
import { LocalRuntime } from '../../runtime/local-runtime.ts'
import { Request } from '../../runtime/request.ts'
import { StepBuilder } from '../../runtime/step-builder.ts'
import type { Runtime } from '../../runtime/types.ts'

/** Enough rows to fill a GPU in prefill; fewer where the CPU computes, which is full with any. */
const PREFILL_TOKENS = { hardware: 256, software: 64 } as const

/** Throws `gpu.unsupported` where the adapter has no timestamps. */
export async function profileRuntime(
  runtime: Runtime,
  signal: AbortSignal,
): Promise<{ readonly decode: readonly KernelShare[]; readonly prefill: readonly KernelShare[] }> {
  if (!(runtime instanceof LocalRuntime)) {
    throw new LatheError('gpu.unsupported', `${runtime.info.modelId} does not run in this process.`, 'Load it here to profile it.')
  }
  const { core, info } = runtime
  const { executable, pool } = core
  const count = Math.min(
    info.software ? PREFILL_TOKENS.software : PREFILL_TOKENS.hardware,
    executable.capacity.tokens,
    info.contextLimit - 2,
  )
  // one more for the decode step, and a last one that is scored and never fed
  const tokens = syntheticPrompt(count + 2, info.vocabulary, 0)
  const builder = new StepBuilder(executable.capacity, pool.blockSize)
  try {
    using reservation = await runtime.reserve(tokens, signal)
    const request = new Request('profile', tokens, { kind: 'score', from: 1, topCount: 0 }, 0)
    request.table = [...reservation.table]
    const step = (start: number, length: number): Promise<readonly KernelTiming[]> =>
      core.exclusive(() =>
        executable.profile(builder.build({ entries: [{ request, start, count: length, rows: 1 }], tokens: length, rows: 1 })),
      )
    // the first run of each shape pays for what drivers put off until first use
    await step(0, count)
    const prefill = await step(0, count)
    await step(count, 1)
    const decode = await step(count, 1)
    return { decode: toShares(decode), prefill: toShares(prefill) }
  } finally {
    // the loop takes the blocks back between two steps; only then is the model idle again
    // (a core that failed has no blocks to take back, and its error is already on its way)
    await core.exclusive(async () => {}).catch(() => {})
  }
}

function toShares(timings: readonly KernelTiming[]): KernelShare[] {
  const total = timings.reduce((sum, timing) => sum + timing.milliseconds, 0)
  return timings
    .map(({ kernel, milliseconds, bytes, operations, dispatches }) => ({
      kernel,
      milliseconds,
      share: total === 0 ? 0 : milliseconds / total,
      gigabytesPerSecond: milliseconds === 0 ? null : bytes / milliseconds / 1e6,
      gigaflops: milliseconds === 0 ? null : operations / milliseconds / 1e6,
      dispatches,
    }))
    .toSorted((a, b) => b.milliseconds - a.milliseconds)
}
