/**
 * One step of a chosen shape, kernel by kernel, on a model that is being served: between two steps of its core and on blocks of its own.
 * The sequence's content is whatever its blocks held before; kernels take the same time for any.
 */
import { LatheError } from '../contract/errors.ts'
import type { KernelTiming } from '../gpu/program.ts'
import { DisaggregatedRuntime } from './disaggregation/disaggregated-runtime.ts'
import { LocalRuntime } from './local-runtime.ts'
import { Request } from './request.ts'
import { resolveSampling } from './sampling.ts'
import { StepBuilder } from './step-builder.ts'
import type { Runtime } from './types.ts'

export interface ProfileShape {
  /** New tokens of the step: 1 = decode. Clamped to what a step can hold. */
  readonly tokens: number
  /** Length of the sequence after the step. Clamped to the context. */
  readonly context: number
}

/** Throws `runtime.aborted` when cancelled while it waits for its turn, and what a step throws. */
export async function profileStep(whole: Runtime, shape: ProfileShape, signal?: AbortSignal): Promise<readonly KernelTiming[]> {
  const runtime = whole instanceof DisaggregatedRuntime ? whole.decode : whole
  if (!(runtime instanceof LocalRuntime)) {
    throw new LatheError('gpu.unsupported', `${runtime.info.modelId} does not run in this process.`, 'Load it here to profile it.')
  }
  const { core, info } = runtime
  const { capacity } = core.executable
  const context = Math.max(1, Math.min(shape.context, info.contextLimit))
  const count = Math.max(1, Math.min(shape.tokens, capacity.tokens, context))
  using reservation = await runtime.reserve(new Uint32Array(context + 1), signal)
  const sampling = resolveSampling({ ...info.defaultSampling, seed: 0 })
  const work = { kind: 'generate', sampling, maxTokens: null, stopTokenIds: new Set<number>() } as const
  const request = new Request('profile', new Uint32Array(context), work, 0)
  request.table = [...reservation.table]
  return core.exclusive(async () => {
    const entry = { request, start: context - count, count, rows: 1 }
    const input = new StepBuilder(capacity, core.pool.blockSize).build({ entries: [entry], tokens: count, rows: 1 })
    // What drivers put off until first use must not be in the figures.
    await core.executable.step(input)
    return core.executable.profile(input)
  })
}
