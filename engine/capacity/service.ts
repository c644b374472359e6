/**
 * One copy of a model under load: how many sequences at once keep the SLO, what they yield together, what that costs and how many GPUs a number
 * of people need (specs/benchmark.md §7.3, §7.5). A steady state: while one answer is written, every other sequence's prompt is read once, so a
 * token waits for its own step and for its share of those prompts. Judged by the pessimistic end of the estimate.
 */
import type { CapacityPlan, CapacityRequest } from '../contract/index.ts'
import { DEFAULT_SEQUENCES } from './budget.ts'
import type { LimitsRange } from './machine.ts'
import type { MachineLimits, Placement } from './roofline.ts'
import { costPerMillionTokens, decodeStepSeconds, prefillSeconds } from './roofline.ts'

interface ServiceInput {
  readonly request: CapacityRequest
  readonly placement: Placement
  readonly limits: LimitsRange
  /** Cache in all; null where the budget is unknown. */
  readonly kvTokens: number | null
  /** GPUs of one copy. */
  readonly gpus: number
  readonly fits: boolean
}

interface Load {
  readonly perTokenSeconds: number
  readonly firstTokenSeconds: number
  readonly tokensPerSecond: number
}

/** `batch` sequences in steady state. */
export function loadOf(placement: Placement, request: CapacityRequest, batch: number, limits: MachineLimits): Load {
  const { promptTokens, outputTokens } = request
  const mean = promptTokens + outputTokens / 2
  const prefill = prefillSeconds(placement, promptTokens, limits)
  const step = decodeStepSeconds(placement, batch, mean, limits)
  const perTokenSeconds = step + ((batch - 1) * prefill) / outputTokens
  return {
    perTokenSeconds,
    firstTokenSeconds: prefill + (batch > 1 ? step : 0),
    tokensPerSecond: (batch * outputTokens) / (outputTokens * step + batch * prefill),
  }
}

export function planService({ request, placement, limits, kvTokens, gpus, fits }: ServiceInput): CapacityPlan['service'] {
  if (!fits) return null
  const { promptTokens, outputTokens, slo } = request
  const mean = promptTokens + outputTokens / 2
  const byMemory = kvTokens === null ? Infinity : Math.floor(kvTokens / mean)
  const byServer = DEFAULT_SEQUENCES[request.engine]
  const most = Math.min(byMemory, byServer)
  if (most < 1) return null
  const kept = (batch: number): 'per-token' | 'first-token' | null => {
    const load = loadOf(placement, request, batch, limits.low)
    if (slo.firstTokenMs !== null && load.firstTokenSeconds * 1000 > slo.firstTokenMs) return 'first-token'
    if (slo.perTokenMs !== null && load.perTokenSeconds * 1000 > slo.perTokenMs) return 'per-token'
    return null
  }
  const concurrency = largestThat((batch) => kept(batch) === null, most)
  const limitedBy = concurrency === most ? (byMemory <= byServer ? 'memory' : 'server') : (kept(concurrency + 1) ?? 'server')
  if (concurrency === 0)
    return { concurrency, limitedBy, tokensPerSecond: { low: 0, high: 0 }, costPerMillionTokens: null, gpusForUsers: null }
  const rate = (end: MachineLimits): number => loadOf(placement, request, concurrency, end).tokensPerSecond
  const tokensPerSecond = { low: rate(limits.low), high: rate(limits.high) }
  const cost = (tokens: number): number => costPerMillionTokens((request.costPerGpuHour ?? 0) * gpus, tokens, request.busyShare)
  return {
    concurrency,
    limitedBy,
    tokensPerSecond,
    costPerMillionTokens: request.costPerGpuHour === null ? null : { low: cost(tokensPerSecond.high), high: cost(tokensPerSecond.low) },
    gpusForUsers: request.users === null ? null : Math.ceil(request.users / concurrency) * gpus,
  }
}

/** Largest n ≤ most for which it holds, given that it holds up to some n and not beyond; 0 when it never does. */
function largestThat(holds: (n: number) => boolean, most: number): number {
  let low = 0
  let high = most
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (holds(middle)) low = middle
    else high = middle - 1
  }
  return low
}
