/**
 * One point of a server's course: gauges as they are, rates and quantiles of what happened since the scrape before. Metric names are vLLM's,
 * which Lathe's own server shares, with those of older versions as second choice (specs/benchmark.md §6).
 */
import type { Latency, MonitorSample } from '../contract/monitor.ts'
import { bucketsOf, bucketsSince, quantile } from './histogram.ts'
import type { Scrape } from './prometheus.ts'

export interface TimedScrape {
  /** Milliseconds since the epoch. */
  readonly atMs: number
  readonly scrape: Scrape
}

const COUNTERS = {
  prompt: ['vllm:prompt_tokens_total'],
  generated: ['vllm:generation_tokens_total'],
  requests: ['vllm:request_success_total'],
  preemptions: ['vllm:num_preemptions_total'],
  drafted: ['vllm:spec_decode_num_draft_tokens_total'],
  accepted: ['vllm:spec_decode_num_accepted_tokens_total'],
  cacheAsked: ['vllm:prefix_cache_queries_total', 'vllm:gpu_prefix_cache_queries_total'],
  cacheFound: ['vllm:prefix_cache_hits_total', 'vllm:gpu_prefix_cache_hits_total'],
  promptCached: ['vllm:prompt_tokens_cached_total'],
} as const

const HISTOGRAMS = {
  firstToken: ['vllm:time_to_first_token_seconds'],
  interToken: ['vllm:inter_token_latency_seconds', 'vllm:time_per_output_token_seconds'],
  endToEnd: ['vllm:e2e_request_latency_seconds'],
} as const

const KV_USAGE = ['vllm:kv_cache_usage_perc', 'vllm:gpu_cache_usage_perc'] as const

function valuesOf(scrape: Scrape, names: readonly string[]): readonly number[] | null {
  for (const name of names) {
    const series = scrape.get(name)
    if (series !== undefined) return series.map(({ value }) => value).filter((value) => Number.isFinite(value))
  }
  return null
}

function sumOf(scrape: Scrape, names: readonly string[]): number | null {
  return valuesOf(scrape, names)?.reduce((sum, value) => sum + value, 0) ?? null
}

/** Engines of one server each have their own cache. */
function meanOf(scrape: Scrape, names: readonly string[]): number | null {
  const values = valuesOf(scrape, names)
  if (values === null || values.length === 0) return null
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** The `model_name` labels, in order of first mention. */
export function modelsOf(scrape: Scrape): string[] {
  const names = new Set<string>()
  for (const series of scrape.values())
    for (const { labels } of series) if (labels['model_name'] !== undefined) names.add(labels['model_name'])
  return [...names]
}

/** Any counter that went back: the process that counted is another. */
export function hasRestarted(now: Scrape, before: Scrape): boolean {
  return Object.values(COUNTERS).some((names) => {
    const [current, earlier] = [sumOf(now, names), sumOf(before, names)]
    return current !== null && earlier !== null && current < earlier
  })
}

/** `before` is null for the first scrape and for the first after a restart: then only gauges are known. */
export function sampleOf(now: TimedScrape, before: TimedScrape | null): MonitorSample {
  const seconds = before === null ? 0 : (now.atMs - before.atMs) / 1000
  const grown = (names: readonly string[]): number | null => {
    const current = sumOf(now.scrape, names)
    const earlier = before === null ? null : sumOf(before.scrape, names)
    return current === null || earlier === null ? null : current - earlier
  }
  const rate = (names: readonly string[]): number | null => {
    const growth = grown(names)
    return growth === null || seconds <= 0 ? null : growth / seconds
  }
  const latency = (names: readonly string[]): Latency => latencyOf(now.scrape, before?.scrape ?? null, names)
  const asked = grown(COUNTERS.cacheAsked) ?? grown(COUNTERS.prompt)
  const found = grown(COUNTERS.cacheFound) ?? grown(COUNTERS.promptCached)
  return {
    at: new Date(now.atMs).toISOString(),
    running: sumOf(now.scrape, ['vllm:num_requests_running']),
    waiting: sumOf(now.scrape, ['vllm:num_requests_waiting']),
    kvUsage: meanOf(now.scrape, KV_USAGE),
    firstTokenMs: latency(HISTOGRAMS.firstToken),
    interTokenMs: latency(HISTOGRAMS.interToken),
    endToEndMs: latency(HISTOGRAMS.endToEnd),
    promptTokensPerSecond: rate(COUNTERS.prompt),
    generatedTokensPerSecond: rate(COUNTERS.generated),
    requestsPerSecond: rate(COUNTERS.requests),
    cacheHitRate: share(found, asked),
    draftAcceptance: share(grown(COUNTERS.accepted), grown(COUNTERS.drafted)),
    preemptionsPerSecond: rate(COUNTERS.preemptions),
  }
}

function share(part: number | null, whole: number | null): number | null {
  return part === null || whole === null || whole <= 0 ? null : Math.min(1, part / whole)
}

const MILLISECONDS = 1000

function latencyOf(now: Scrape, before: Scrape | null, names: readonly string[]): Latency {
  for (const name of names) {
    const current = bucketsOf(now, name)
    if (current === null) continue
    const earlier = before === null ? null : bucketsOf(before, name)
    const interval = earlier === null ? null : bucketsSince(current, earlier)
    const at = (position: number): number | null => {
      const seconds = interval === null ? null : quantile(interval, position)
      return seconds === null ? null : seconds * MILLISECONDS
    }
    return { p50: at(0.5), p90: at(0.9), p99: at(0.99) }
  }
  return { p50: null, p90: null, p99: null }
}
