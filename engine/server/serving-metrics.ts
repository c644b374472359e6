/**
 * The metrics of a served model under vLLM's names, units and buckets, so that its dashboards and load tools work unchanged
 * (specs/runtime.md §16). Definitions: time to first token from arrival; inter-token latency per engine output; token counters count
 * tokens, not chunks. What vLLM does not have stands under `studio:`. All series exist from the start; those of things that this server does not
 * have (images, adapters) stay at 0.
 */
import { DEFAULT_BLOCK_SIZE } from '../model/memory.ts'
import type { FinishReason, GenerationStats, Runtime, RuntimeTelemetry } from '../runtime/types.ts'
import { MetricsRegistry } from './metrics.ts'
import type { Counter, Histogram } from './metrics.ts'

const FIRST_TOKEN_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
]
const PER_TOKEN_SECONDS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
const REQUEST_SECONDS = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]
const STEP_TOKENS = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]
const CHOICES = [1, 2, 5, 10, 20]
const STEP_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
const OUTCOMES = ['stop', 'length', 'abort', 'error', 'repetition']
/** Positions of a proposal whose series exist from the start; the runtime's own default. */
const DRAFT_POSITIONS = 4

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

/** Counters that a runtime keeps from its load on, summed over the loads of one served model. */
interface EngineCounters {
  readonly prefixQueries: number
  readonly prefixHits: number
  readonly preemptions: number
  readonly drafts: number
  readonly draftTokens: number
  readonly acceptedTokens: number
  readonly acceptedPerPosition: readonly number[]
  readonly transfers: number
  readonly transferBytes: number
  readonly transferMs: number
  readonly recomputedPrompts: number
}

const NO_COUNTERS: EngineCounters = {
  prefixQueries: 0,
  prefixHits: 0,
  preemptions: 0,
  drafts: 0,
  draftTokens: 0,
  acceptedTokens: 0,
  acceptedPerPosition: [],
  transfers: 0,
  transferBytes: 0,
  transferMs: 0,
  recomputedPrompts: 0,
}

export class ServingMetrics {
  readonly #registry: MetricsRegistry
  readonly #promptTokens: Counter
  readonly #bySource: Counter
  readonly #generationTokens: Counter
  readonly #cachedTokens: Counter
  readonly #externalQueries: Counter
  readonly #externalHits: Counter
  readonly #success: Counter
  readonly #corrupted: Counter
  readonly #histograms: Readonly<Record<HistogramName, Histogram>>
  #runtime: Runtime
  #before: EngineCounters = NO_COUNTERS
  #stopListening: () => void

  constructor(modelName: string, runtime: Runtime, asleep: () => boolean) {
    const registry = new MetricsRegistry({ model_name: modelName.replaceAll(/\s+/g, '-'), engine: '0' })
    this.#registry = registry
    this.#runtime = runtime
    addGauges(registry, () => this.#telemetry(), runtime, asleep)
    addEngineCounters(registry, () => this.#counters())
    this.#promptTokens = registry.counter('vllm:prompt_tokens', 'Prompt tokens processed.')
    this.#bySource = registry.counter(
      'vllm:prompt_tokens_by_source',
      'Prompt tokens by where their keys and values came from.',
      ['local_compute', 'local_cache_hit', 'external_kv_transfer'].map((source) => ({ source })),
    )
    this.#generationTokens = registry.counter('vllm:generation_tokens', 'Tokens generated.')
    this.#cachedTokens = registry.counter('vllm:prompt_tokens_cached', 'Prompt tokens taken from the prefix cache.')
    this.#externalQueries = registry.counter('vllm:external_prefix_cache_queries', 'Prompt tokens asked of another engine.')
    this.#externalHits = registry.counter('vllm:external_prefix_cache_hits', 'Prompt tokens that another engine had computed.')
    this.#success = registry.counter(
      'vllm:request_success',
      'Finished requests by reason.',
      OUTCOMES.map((finished_reason) => ({ finished_reason })),
    )
    this.#corrupted = registry.counter('vllm:corrupted_requests', 'Requests whose logits were not finite.')
    this.#histograms = addHistograms(registry, runtime.info.contextLimit)
    this.#stopListening = this.#listen(runtime)
  }

  /** The model was loaded again: its runtime's counters start anew, those shown do not. */
  attach(runtime: Runtime): void {
    if (runtime === this.#runtime) return
    this.#before = this.#counters()
    this.#stopListening()
    this.#runtime = runtime
    this.#stopListening = this.#listen(runtime)
  }

  arrived(choices: number, maxTokens: number): void {
    this.#histograms.choices.observe(choices)
    this.#histograms.paramsMaxTokens.observe(maxTokens)
    this.#histograms.maxTokens.observe(maxTokens)
  }

  /** One engine output after the first: the gap since the one before it. */
  gap(milliseconds: number): void {
    this.#histograms.interToken.observe(milliseconds / 1000)
  }

  finished(outcome: RequestOutcome, stats: GenerationStats | null, corrupted = false): void {
    this.#success.add(1, { finished_reason: finishReasonLabel(outcome) })
    if (corrupted) this.#corrupted.add(1)
    if (stats === null) return
    const { queueMs, firstTokenMs, lastTokenMs, promptTokens, cachedTokens, completionTokens } = stats
    const histograms = this.#histograms
    const { transferredTokens } = stats
    const computed = Math.max(0, promptTokens - cachedTokens - (transferredTokens ?? 0))
    if (transferredTokens !== undefined) {
      this.#externalQueries.add(promptTokens - cachedTokens)
      this.#externalHits.add(transferredTokens)
      this.#bySource.add(transferredTokens, { source: 'external_kv_transfer' })
    }
    this.#promptTokens.add(promptTokens)
    this.#cachedTokens.add(cachedTokens)
    this.#bySource.add(computed, { source: 'local_compute' })
    this.#bySource.add(cachedTokens, { source: 'local_cache_hit' })
    this.#generationTokens.add(completionTokens)
    histograms.promptSize.observe(promptTokens)
    histograms.generationSize.observe(completionTokens)
    histograms.computedSize.observe(computed)
    histograms.endToEnd.observe(stats.totalMs / 1000)
    if (queueMs !== null) histograms.queue.observe(queueMs / 1000)
    if (firstTokenMs === null || lastTokenMs === null || queueMs === null) return
    histograms.firstToken.observe(firstTokenMs / 1000)
    histograms.prefill.observe((firstTokenMs - queueMs) / 1000)
    histograms.decode.observe((lastTokenMs - firstTokenMs) / 1000)
    histograms.inference.observe((lastTokenMs - queueMs) / 1000)
    if (completionTokens > 1) histograms.perOutputToken.observe((lastTokenMs - firstTokenMs) / (completionTokens - 1) / 1000)
  }

  get registry(): MetricsRegistry {
    return this.#registry
  }

  #listen(runtime: Runtime): () => void {
    const stop = runtime.onStep?.((tokens, milliseconds) => {
      this.#histograms.stepTokens.observe(tokens)
      this.#histograms.stepSeconds.observe(milliseconds / 1000)
    })
    return stop ?? ((): void => {})
  }

  #telemetry(): RuntimeTelemetry | null {
    return this.#runtime.failure === null ? this.#runtime.telemetry() : null
  }

  #counters(): EngineCounters {
    // A runtime that has failed still knows what it did.
    const now = this.#runtime.telemetry()
    const { speculation, transfers } = now
    const before = this.#before
    const positions = Math.max(before.acceptedPerPosition.length, speculation?.acceptedPerPosition.length ?? 0, DRAFT_POSITIONS)
    return {
      prefixQueries: before.prefixQueries + now.promptTokens,
      prefixHits: before.prefixHits + now.cachedPromptTokens,
      preemptions: before.preemptions + now.preemptions,
      drafts: before.drafts + (speculation?.drafts ?? 0),
      draftTokens: before.draftTokens + (speculation?.draftTokens ?? 0),
      acceptedTokens: before.acceptedTokens + (speculation?.acceptedTokens ?? 0),
      acceptedPerPosition: Array.from(
        { length: positions },
        (_, position) => (before.acceptedPerPosition[position] ?? 0) + (speculation?.acceptedPerPosition[position] ?? 0),
      ),
      transfers: before.transfers + (transfers?.transfers ?? 0),
      transferBytes: before.transferBytes + (transfers?.bytes ?? 0),
      transferMs: before.transferMs + (transfers?.milliseconds ?? 0),
      recomputedPrompts: before.recomputedPrompts + (transfers?.recomputed ?? 0),
    }
  }
}

function addGauges(registry: MetricsRegistry, telemetry: () => RuntimeTelemetry | null, runtime: Runtime, asleep: () => boolean): void {
  registry.gauge('vllm:num_requests_running', 'Requests in execution.', () => telemetry()?.running ?? 0)
  registry.gauge('vllm:num_requests_waiting', 'Requests waiting to be processed.', () => telemetry()?.waiting ?? 0)
  for (const reason of ['capacity', 'deferred']) {
    const waiting = reason === 'capacity' ? () => telemetry()?.waiting ?? 0 : () => 0
    registry.gauge('vllm:num_requests_waiting_by_reason', 'Requests waiting, by what they wait for.', waiting, { reason })
  }
  registry.gauge('vllm:kv_cache_usage_perc', 'Share of KV-cache blocks in use, 0 to 1.', () => {
    const now = telemetry()
    return now === null || now.kvBlocksTotal === 0 ? 0 : now.kvBlocksUsed / now.kvBlocksTotal
  })
  for (const sleep_state of ['awake', 'weights_offloaded', 'discard_all']) {
    const shown = (): number => Number(asleep() ? sleep_state === 'discard_all' : sleep_state === 'awake')
    registry.gauge('vllm:engine_sleep_state', 'Whether the model is in memory.', shown, { sleep_state })
  }
  registry.gauge('vllm:lora_requests_info', 'Adapters in use; this server has none.', () => 0, {
    max_lora: '0',
    running_lora_adapters: '',
    waiting_lora_adapters: '',
  })
  const { kvDtype, kvScales } = runtime.info
  registry.gauge('vllm:cache_config_info', 'How the KV cache is made.', () => 1, {
    block_size: String(DEFAULT_BLOCK_SIZE),
    num_gpu_blocks: String(telemetry()?.kvBlocksTotal ?? 0),
    cache_dtype: typeof kvDtype === 'string' ? kvDtype : JSON.stringify(kvDtype).replaceAll(' ', ''),
    // vLLM's name: whether scales are found while serving instead of by calibration.
    calculate_kv_scales: String(kvScales === 'rows'),
    enable_prefix_caching: String(runtime.resetPrefixCache !== undefined),
  })
  registry.gauge('studio:token_budget', 'Tokens that the next step may process.', () => telemetry()?.tokenBudget ?? 0)
  registry.gauge('studio:host_ms_per_step', 'Time of a step outside of the device, smoothed.', () => telemetry()?.hostMsPerStep ?? 0)
  registry.gauge('studio:gpu_bytes', 'Device memory that the model holds.', () => {
    const { weightBytes, kvBytes, otherBytes } = runtime.info
    return asleep() ? 0 : weightBytes + kvBytes + otherBytes
  })
}

function addEngineCounters(registry: MetricsRegistry, read: () => EngineCounters): void {
  registry.counterFrom('vllm:prefix_cache_queries', 'Prompt tokens looked up in the prefix cache.', () => read().prefixQueries)
  registry.counterFrom('vllm:prefix_cache_hits', 'Prompt tokens found in the prefix cache.', () => read().prefixHits)
  registry.counterFrom('vllm:mm_cache_queries', 'Images looked up; this server reads text only.', () => 0)
  registry.counterFrom('vllm:mm_cache_hits', 'Images found; this server reads text only.', () => 0)
  registry.counterFrom('vllm:num_preemptions', 'Requests whose cache was taken away and recomputed.', () => read().preemptions)
  registry.counterFrom('vllm:spec_decode_num_drafts', 'Proposals verified.', () => read().drafts)
  registry.counterFrom('vllm:spec_decode_num_draft_tokens', 'Tokens proposed.', () => read().draftTokens)
  registry.counterFrom('vllm:spec_decode_num_accepted_tokens', 'Proposed tokens that the model chose too.', () => read().acceptedTokens)
  registry.counterFrom('studio:kv_transfers', 'Prompts handed over by the runtime that reads them.', () => read().transfers)
  registry.counterFrom('studio:kv_transfer_bytes', 'Bytes of keys and values handed over.', () => read().transferBytes)
  registry.counterFrom('studio:kv_transfer_seconds', 'Time of handing over.', () => read().transferMs / 1000)
  registry.counterFrom(
    'studio:kv_transfer_recomputed',
    'Prompts computed here because handing over failed.',
    () => read().recomputedPrompts,
  )
  registry.counters('vllm:spec_decode_num_accepted_tokens_per_pos', 'Accepted tokens by place in their proposal.', () =>
    read().acceptedPerPosition.map((count, position) => [{ position: String(position) }, count] as const),
  )
}

type HistogramName = keyof ReturnType<typeof addHistograms>

function addHistograms(registry: MetricsRegistry, contextLimit: number) {
  const tokens = tokenCountBuckets(contextLimit)
  return {
    firstToken: registry.histogram('vllm:time_to_first_token_seconds', 'Arrival to first token.', FIRST_TOKEN_SECONDS),
    interToken: registry.histogram('vllm:inter_token_latency_seconds', 'Gap between engine outputs.', PER_TOKEN_SECONDS),
    perOutputToken: registry.histogram(
      'vllm:request_time_per_output_token_seconds',
      'Decode time per token after the first.',
      PER_TOKEN_SECONDS,
    ),
    endToEnd: registry.histogram('vllm:e2e_request_latency_seconds', 'Arrival to finish.', REQUEST_SECONDS),
    queue: registry.histogram('vllm:request_queue_time_seconds', 'Arrival to first work.', REQUEST_SECONDS),
    inference: registry.histogram('vllm:request_inference_time_seconds', 'First work to last token.', REQUEST_SECONDS),
    prefill: registry.histogram('vllm:request_prefill_time_seconds', 'First work to first token.', REQUEST_SECONDS),
    decode: registry.histogram('vllm:request_decode_time_seconds', 'First to last token.', REQUEST_SECONDS),
    promptSize: registry.histogram('vllm:request_prompt_tokens', 'Prompt tokens per request.', tokens),
    generationSize: registry.histogram('vllm:request_generation_tokens', 'Generated tokens per request.', tokens),
    maxTokens: registry.histogram('vllm:request_max_num_generation_tokens', 'Most tokens that requests may generate.', tokens),
    paramsMaxTokens: registry.histogram('vllm:request_params_max_tokens', 'max_tokens of requests.', tokens),
    computedSize: registry.histogram('vllm:request_prefill_kv_computed_tokens', 'Prompt tokens computed per request.', tokens),
    stepTokens: registry.histogram('vllm:iteration_tokens_total', 'Tokens per engine step.', STEP_TOKENS),
    choices: registry.histogram('vllm:request_params_n', 'n of requests.', CHOICES),
    stepSeconds: registry.histogram('studio:step_seconds', 'Time of an engine step.', STEP_SECONDS),
  } as const
}
