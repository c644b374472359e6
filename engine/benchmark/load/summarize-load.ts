/**
 * Figures from raw times (specs/benchmark.md §3, §4), under our own definitions and under the names that GuideLLM, vLLM and AIPerf give to the same
 * data. Percentiles are linear, deviations n−1; where a tool differs, its own rule is used for its own names.
 */
import type { LatencyConvention, LatencySummary, LoadProfile, ServedRun, ServiceLevel } from '../../contract/index.ts'
import { quantileOfSorted } from '../../evaluate/statistics.ts'
import type { RequestRecord } from './load-target.ts'

export interface RequestLatencies {
  readonly queueMs: number
  /** From the schedule, and from sending. */
  readonly ttftMs: number
  readonly ttftFromSendMs: number
  readonly e2eMs: number
  readonly e2eFromSendMs: number
  /** Mean gap without the first token; null for one token. */
  readonly tpotMs: number | null
  /** Every gap between tokens: that before a chunk of k tokens is k gaps of a k-th each. */
  readonly itlMs: readonly number[]
  /** Every gap between chunks. */
  readonly chunkGapsMs: readonly number[]
  /** (end − sent) / tokens: the first token included. */
  readonly e2ePerTokenMs: number
}

/** null for a request that gave no token. */
export function latenciesOf(record: RequestRecord): RequestLatencies | null {
  const [first] = record.chunksMs
  const last = record.chunksMs.at(-1)
  if (first === undefined || last === undefined || record.outputTokens < 1) return null
  const gaps = record.chunksMs.slice(1).map((at, i) => at - (record.chunksMs[i] ?? at))
  // Where it is not said how many tokens a chunk has, they are spread evenly over the chunks after the first, which may make no whole number.
  const tokensPerGap = gaps.length === 0 ? 1 : Math.max(1, (record.outputTokens - 1) / gaps.length)
  const tokensOf = (gap: number): number | null => record.chunkTokens?.[gap + 1] ?? null
  return {
    queueMs: record.sentMs - record.scheduledMs,
    ttftMs: first - record.scheduledMs,
    ttftFromSendMs: first - record.sentMs,
    e2eMs: last - record.scheduledMs,
    e2eFromSendMs: last - record.sentMs,
    tpotMs: record.outputTokens > 1 ? (last - first) / (record.outputTokens - 1) : null,
    itlMs: gaps.flatMap((gap, i) => {
      const tokens = tokensOf(i)
      return tokens === null ? [gap / tokensPerGap] : Array.from({ length: tokens }, () => gap / tokens)
    }),
    chunkGapsMs: gaps,
    e2ePerTokenMs: (last - record.sentMs) / record.outputTokens,
  }
}

export function summarizeValues(values: readonly number[]): LatencySummary | null {
  if (values.length === 0) return null
  const sorted = Float64Array.from(values).toSorted()
  const n = values.length
  const mean = values.reduce((sum, value) => sum + value, 0) / n
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  const at = (p: number): number => quantileOfSorted(sorted, p)
  return {
    n,
    mean,
    std: n > 1 ? Math.sqrt(squares / (n - 1)) : null,
    min: at(0),
    p50: at(0.5),
    p90: at(0.9),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
  }
}

/** An answer of one token has no gaps to be too long. */
export function isGood({ ttftMs, tpotMs, e2eMs }: Pick<RequestLatencies, 'ttftMs' | 'tpotMs' | 'e2eMs'>, level: ServiceLevel): boolean {
  return (
    (level.ttftMs === null || ttftMs <= level.ttftMs) &&
    (level.tpotMs === null || (tpotMs ?? 0) <= level.tpotMs) &&
    (level.e2eMs === null || e2eMs <= level.e2eMs)
  )
}

/** Highest rate at which at least this share of the requests met their level; null = at none. */
export function rateWithin(runs: readonly Pick<ServedRun, 'rate' | 'requestsPerSecond' | 'goodput'>[], share: number): number | null {
  const met = runs.filter(({ goodput }) => goodput !== null && goodput.share >= share)
  return met.length === 0 ? null : Math.max(...met.map(({ rate, requestsPerSecond }) => rate ?? requestsPerSecond))
}

/** Below this many values the 99 % percentile is little more than the largest (specs/benchmark.md §3). */
const LEAST_FOR_P99 = 300
/** A client that is late by more than this share of a gap measures itself. */
const MOST_LAG = 0.05
/** What a chat template puts before every prompt may be cached; more than this share was asked before. */
const MOST_CACHED = 0.1

/** Without warm-up: from when the first counted request was due to the end of the last; on the clock of the records. */
export interface SteadyWindow {
  readonly fromMs: number
  readonly toMs: number
}

/** null where nothing was counted. */
export function steadyWindow(records: readonly RequestRecord[]): SteadyWindow | null {
  const counted = records.filter((record) => !record.isWarmup)
  if (counted.length === 0) return null
  return { fromMs: Math.min(...counted.map((record) => record.scheduledMs)), toMs: Math.max(...counted.map((record) => record.endMs)) }
}

/** Tokens that came within a window, whoever asked for them. Those that came as it began were made before it. */
export function tokensWithin(records: readonly RequestRecord[], { fromMs, toMs }: SteadyWindow): number {
  return records.reduce((total, record) => {
    const tokens = tokensOfChunks(record)
    return total + record.chunksMs.reduce((sum, at, i) => sum + (at > fromMs && at <= toMs ? (tokens[i] ?? 0) : 0), 0)
  }, 0)
}

/** Milliseconds that requests were in flight within a window, added up. */
function flightMs(records: readonly RequestRecord[], { fromMs, toMs }: SteadyWindow): number {
  return records.reduce((sum, { sentMs, endMs }) => sum + Math.max(0, Math.min(endMs, toMs) - Math.max(sentMs, fromMs)), 0)
}

/** Most requests in flight at once; one that ends as another is sent leaves its place to it. */
export function mostInFlight(records: readonly RequestRecord[]): number {
  const events = records
    .flatMap((record) => [[record.sentMs, 1] as const, [record.endMs, -1] as const])
    .toSorted((a, b) => a[0] - b[0] || a[1] - b[1])
  let now = 0
  return events.reduce((most, [, change]) => Math.max(most, (now += change)), 0)
}

/** Many in flight at a model with few places measure the line before it. */
function crowdWarnings(inFlight: number, places: number | null): string[] {
  if (places === null || inFlight <= places) return []
  return [
    `Up to ${inFlight} requests were in flight, and the model was loaded with room for ${places} of this length: the others waited, which is in their time to the first token.`,
  ]
}

/** As the target counted them; else spread evenly, and a token a chunk of a request that never said how many it made. */
function tokensOfChunks({ chunksMs, chunkTokens, outputTokens }: RequestRecord): readonly number[] {
  return chunkTokens ?? chunksMs.map(() => Math.max(1, outputTokens / chunksMs.length))
}

export interface RunFacts {
  readonly profile: LoadProfile
  readonly concurrency: number | null
  readonly rate: number | null
  readonly level: ServiceLevel | null
  readonly clientLagP99Ms: number | null
  /** Requests of this length that the target can work on at once; absent or null: unknown. */
  readonly places?: number | null
  /** No two prompts begin alike, so that a cache has nothing to give. */
  readonly uniquePrompts?: boolean
}

export function summarizeRun(records: readonly RequestRecord[], facts: RunFacts): ServedRun {
  const counted = records.filter((record) => !record.isWarmup)
  const completed = counted.filter((record) => record.status === 'completed')
  const latencies = completed.map(latenciesOf).filter((value) => value !== null)
  const steady = steadyWindow(records)
  const seconds = steady === null ? 0 : Math.max(0, steady.toMs - steady.fromMs) / 1000
  const fullSeconds =
    records.length === 0
      ? 0
      : (Math.max(...records.map((record) => record.endMs)) - Math.min(...records.map((record) => record.scheduledMs))) / 1000
  const sum = (of: (record: RequestRecord) => number): number => completed.reduce((total, record) => total + of(record), 0)
  const per = (total: number): number => (seconds > 0 ? total / seconds : 0)
  const input = sum((record) => record.inputTokens)
  // By their own times: of a request that overlaps the edge of the warm-up, the tokens after it count.
  const output = steady === null ? 0 : tokensWithin(records, steady)
  const good = facts.level === null ? 0 : latencies.filter((value) => isGood(value, facts.level as ServiceLevel)).length
  const itl = summarizeValues(latencies.flatMap((value) => value.itlMs))
  const failures = counted.filter((record) => record.status === 'failed')
  const cached = sum((record) => record.cachedTokens)
  return {
    profile: facts.profile,
    concurrency: facts.concurrency,
    rate: facts.rate,
    durationSeconds: seconds,
    fullDurationSeconds: fullSeconds,
    completed: completed.length,
    failed: failures.length,
    incomplete: counted.filter((record) => record.status === 'incomplete').length,
    warmup: records.length - counted.length,
    requestsPerSecond: per(completed.length),
    inputTokensPerSecond: per(input),
    outputTokensPerSecond: per(output),
    totalTokensPerSecond: per(input + output),
    meanConcurrency: per(steady === null ? 0 : flightMs(records, steady) / 1000),
    errorShare: counted.length === 0 ? 0 : failures.length / counted.length,
    tokensPerSecondPerUser: summarizeValues(latencies.flatMap(({ tpotMs }) => (tpotMs === null || tpotMs === 0 ? [] : 1000 / tpotMs))),
    e2eFromSendMs: summarizeValues(latencies.map((value) => value.e2eFromSendMs)),
    goodput:
      facts.level === null
        ? null
        : { level: facts.level, requestsPerSecond: per(good), share: counted.length === 0 ? 0 : good / counted.length },
    queueMs: summarizeValues(latencies.map((value) => value.queueMs)),
    ttftMs: summarizeValues(latencies.map((value) => value.ttftMs)),
    ttftFromSendMs: summarizeValues(latencies.map((value) => value.ttftFromSendMs)),
    itlMs: itl,
    tpotMs: summarizeValues(latencies.flatMap((value) => value.tpotMs ?? [])),
    e2eMs: summarizeValues(latencies.map((value) => value.e2eMs)),
    inputTokens: summarizeValues(completed.map((record) => record.inputTokens)),
    outputTokens: summarizeValues(completed.map((record) => record.outputTokens)),
    cachedTokens: cached,
    clientLagP99Ms: facts.clientLagP99Ms,
    warnings: [
      ...crowdWarnings(mostInFlight(records), facts.places ?? null),
      ...warningsOf(latencies.length, failures.length, counted.length, itl, facts.clientLagP99Ms),
      ...(facts.uniquePrompts === true && cached > MOST_CACHED * input
        ? [
            `${cached} of ${input} prompt tokens came from the server’s prefix cache though no two prompts begin alike: it has seen this load before. First tokens came earlier for it; another seed gives new prompts.`,
          ]
        : []),
    ],
    errors: Array.from(
      Map.groupBy(failures, (record) => record.error ?? 'failed'),
      ([message, group]) => ({ message, count: group.length }),
    ),
  }
}

function warningsOf(measured: number, failed: number, counted: number, itl: LatencySummary | null, lagMs: number | null): string[] {
  const warnings: string[] = []
  if (measured > 0 && measured < LEAST_FOR_P99) warnings.push(`${measured} requests: the 99 % percentiles are close to the largest value.`)
  if (failed > 0) warnings.push(`${failed} of ${counted} requests failed.`)
  if (lagMs !== null && itl !== null && itl.p50 > 0 && lagMs > MOST_LAG * itl.p50) {
    warnings.push(
      `The client itself was late by ${lagMs.toFixed(1)} ms (99 %), more than ${MOST_LAG * 100} % of the gap between tokens: the figures include it.`,
    )
  }
  return warnings
}

/** The latencies of a run under the names of one tool. */
export function latencyTable(
  records: readonly RequestRecord[],
  convention: LatencyConvention,
): Readonly<Record<string, LatencySummary | null>> {
  const all = records.filter((record) => !record.isWarmup && record.status === 'completed').flatMap((record) => latenciesOf(record) ?? [])
  const of = (pick: (value: RequestLatencies) => number | null | readonly number[]): LatencySummary | null =>
    summarizeValues(
      all.flatMap((value) => {
        const picked = pick(value)
        return picked === null ? [] : typeof picked === 'number' ? [picked] : [...picked]
      }),
    )
  switch (convention) {
    case 'lathe':
      return {
        ttft_ms: of((v) => v.ttftMs),
        itl_ms: of((v) => v.itlMs),
        tpot_ms: of((v) => v.tpotMs),
        e2e_ms: of((v) => v.e2eMs),
        queue_ms: of((v) => v.queueMs),
        e2e_per_token_ms: of((v) => v.e2ePerTokenMs),
      }
    case 'guidellm':
      // Its ITL is our mean gap; its TPOT includes the first token; both from sending.
      return {
        time_to_first_token_ms: of((v) => v.ttftFromSendMs),
        inter_token_latency_ms: of((v) => v.tpotMs),
        time_per_output_token_ms: of((v) => v.e2ePerTokenMs),
        request_latency_ms: of((v) => v.e2eFromSendMs),
      }
    case 'vllm':
      // Its ITL pools the gaps between chunks, whatever they hold; a one-token answer has no TPOT (in its goodput alone one of 0).
      return {
        ttft_ms: of((v) => v.ttftFromSendMs),
        tpot_ms: of((v) => v.tpotMs),
        itl_ms: of((v) => v.chunkGapsMs),
        e2el_ms: of((v) => v.e2eFromSendMs),
      }
    case 'aiperf':
      return {
        time_to_first_token: of((v) => v.ttftFromSendMs),
        time_to_second_token: of((v) => (v.chunkGapsMs.length > 0 ? (v.chunkGapsMs[0] ?? null) : null)),
        inter_token_latency: of((v) => v.tpotMs),
        inter_chunk_latency: of((v) => v.chunkGapsMs),
        request_latency: of((v) => v.e2eFromSendMs),
      }
  }
}
