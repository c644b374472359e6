/**
 * The metrics of a served model under vLLM's names, units and buckets, so that its dashboards and load tools work unchanged
 * (specs/runtime.md §16). Definitions: time to first token from arrival; inter-token latency per engine output; token counters count
 * tokens, not chunks.
 */
import type { FinishReason, GenerationStats, RuntimeTelemetry } from '../runtime/types.ts'
import { MetricsRegistry } from './metrics.ts'
import type { Histogram } from './metrics.ts'

const FIRST_TOKEN_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
]
const PER_TOKEN_SECONDS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
const REQUEST_SECONDS = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]

/** 1, 2, 5, 10, 20, 50, … up to `limit`: vLLM's buckets for token counts. */
export function tokenCountBuckets(limit: number): number[] {
  const buckets: number[] = []
  for (let decade = 1; decade <= limit; decade *= 10) {
    for (const step of [1, 2, 5]) if (decade * step <= limit) buckets.push(decade * step)
  }
  return buckets
}

export type RequestOutcome = FinishReason | 'error'

/** vLLM's word for an outcome; a full context is a `length` to every client. */
export function finishReasonLabel(outcome: RequestOutcome): 'stop' | 'length' | 'abort' | 'error' {
  switch (outcome) {
    case 'context':
      return 'length'
    case 'aborted':
      return 'abort'
    default:
      return outcome
  }
}

export class ServingMetrics {
  readonly #registry: MetricsRegistry
  readonly #promptTokens
  readonly #generationTokens
  readonly #cachedTokens
  readonly #success
  readonly #preemptions
  readonly #firstToken: Histogram
  readonly #interToken: Histogram
  readonly #perOutputToken: Histogram
  readonly #endToEnd: Histogram
  readonly #queue: Histogram
  readonly #prefill: Histogram
  readonly #decode: Histogram
  readonly #inference: Histogram
  readonly #promptSize: Histogram
  readonly #generationSize: Histogram

  constructor(modelName: string, contextLimit: number, telemetry: () => RuntimeTelemetry | null) {
    const registry = new MetricsRegistry({ model_name: modelName.replaceAll(/\s+/g, '-'), engine: '0' })
    this.#registry = registry
    registry.gauge('vllm:num_requests_running', 'Requests in execution.', () => telemetry()?.running ?? 0)
    registry.gauge('vllm:num_requests_waiting', 'Requests waiting to be processed.', () => telemetry()?.waiting ?? 0)
    registry.gauge('vllm:kv_cache_usage_perc', 'Share of KV-cache blocks in use, 0 to 1.', () => {
      const now = telemetry()
      return now === null || now.kvBlocksTotal === 0 ? 0 : now.kvBlocksUsed / now.kvBlocksTotal
    })
    this.#promptTokens = registry.counter('vllm:prompt_tokens', 'Prompt tokens processed.')
    this.#generationTokens = registry.counter('vllm:generation_tokens', 'Tokens generated.')
    this.#cachedTokens = registry.counter('vllm:prompt_tokens_cached', 'Prompt tokens taken from the prefix cache.')
    this.#preemptions = registry.counter('vllm:num_preemptions', 'Requests whose cache was taken away and recomputed.')
    this.#success = registry.counter(
      'vllm:request_success',
      'Finished requests by reason.',
      ['stop', 'length', 'abort', 'error', 'repetition'].map((finished_reason) => ({ finished_reason })),
    )
    this.#firstToken = registry.histogram('vllm:time_to_first_token_seconds', 'Arrival to first token.', FIRST_TOKEN_SECONDS)
    this.#interToken = registry.histogram('vllm:inter_token_latency_seconds', 'Gap between engine outputs.', PER_TOKEN_SECONDS)
    this.#perOutputToken = registry.histogram(
      'vllm:request_time_per_output_token_seconds',
      'Decode time per token after the first.',
      PER_TOKEN_SECONDS,
    )
    this.#endToEnd = registry.histogram('vllm:e2e_request_latency_seconds', 'Arrival to finish.', REQUEST_SECONDS)
    this.#queue = registry.histogram('vllm:request_queue_time_seconds', 'Arrival to first work.', REQUEST_SECONDS)
    this.#inference = registry.histogram('vllm:request_inference_time_seconds', 'First work to last token.', REQUEST_SECONDS)
    this.#prefill = registry.histogram('vllm:request_prefill_time_seconds', 'First work to first token.', REQUEST_SECONDS)
    this.#decode = registry.histogram('vllm:request_decode_time_seconds', 'First to last token.', REQUEST_SECONDS)
    this.#promptSize = registry.histogram('vllm:request_prompt_tokens', 'Prompt tokens per request.', tokenCountBuckets(contextLimit))
    this.#generationSize = registry.histogram(
      'vllm:request_generation_tokens',
      'Generated tokens per request.',
      tokenCountBuckets(contextLimit),
    )
  }

  /** One engine output after the first: the gap since the one before it. */
  gap(milliseconds: number): void {
    this.#interToken.observe(milliseconds / 1000)
  }

  finished(outcome: RequestOutcome, stats: GenerationStats | null): void {
    this.#success.add(1, { finished_reason: finishReasonLabel(outcome) })
    if (stats === null) return
    this.#promptTokens.add(stats.promptTokens)
    this.#cachedTokens.add(stats.cachedTokens)
    this.#generationTokens.add(stats.completionTokens)
    this.#preemptions.add(stats.preemptions)
    this.#promptSize.observe(stats.promptTokens)
    this.#generationSize.observe(stats.completionTokens)
    this.#endToEnd.observe(stats.totalMs / 1000)
    const { queueMs, firstTokenMs, lastTokenMs } = stats
    if (queueMs !== null) this.#queue.observe(queueMs / 1000)
    if (firstTokenMs === null || lastTokenMs === null || queueMs === null) return
    this.#firstToken.observe(firstTokenMs / 1000)
    this.#prefill.observe((firstTokenMs - queueMs) / 1000)
    this.#decode.observe((lastTokenMs - firstTokenMs) / 1000)
    this.#inference.observe((lastTokenMs - queueMs) / 1000)
    if (stats.completionTokens > 1) this.#perOutputToken.observe((lastTokenMs - firstTokenMs) / (stats.completionTokens - 1) / 1000)
  }

  expose(): string {
    return this.#registry.expose()
  }
}
