/**
 * One profiled prefill and decode step of a loaded model, as shares of its time. Shares are what it is good for: timestamps slow the step down
 * (engine/gpu/webgpu/profile.ts).
 */
import type { KernelShare } from '../../contract/index.ts'
import type { KernelTiming } from '../../gpu/program.ts'
import { LocalRuntime } from '../../runtime/local-runtime.ts'
import { profileStep } from '../../runtime/profile.ts'
import type { Runtime } from '../../runtime/types.ts'

/** Enough rows to fill a GPU in prefill; fewer where the CPU computes, which is full with any. */
const PREFILL_TOKENS = { hardware: 256, software: 64 } as const

/** Throws `gpu.unsupported` where the adapter has no timestamps. */
export async function profileRuntime(
  runtime: Runtime,
  signal: AbortSignal,
): Promise<{ readonly decode: readonly KernelShare[]; readonly prefill: readonly KernelShare[] }> {
  const context = runtime.info.software ? PREFILL_TOKENS.software : PREFILL_TOKENS.hardware
  try {
    const prefill = await profileStep(runtime, { tokens: context, context }, signal)
    const decode = await profileStep(runtime, { tokens: 1, context }, signal)
    return { decode: toShares(decode), prefill: toShares(prefill) }
  } finally {
    // The loop takes the blocks back between two steps; only then is the model idle and may be unloaded. A loop that failed has none to take
    // back, and its error is already on its way.
    if (runtime instanceof LocalRuntime) await runtime.core.exclusive(async () => {}).catch(() => {})
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
