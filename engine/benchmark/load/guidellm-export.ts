/**
 * Served benchmarks in GuideLLM's shapes (its report JSON and CSV, the fields of specs/benchmark.md §1.4), from the raw times and by its definitions:
 * from sending, nearest rank, population deviations, distributions weighted by tokens. Where it has a field that nobody here measures, it is left out.
 */
import type { ServedRun } from '../../contract/index.ts'
import type { RawBenchmark } from './export-benchmark.ts'
import type { RequestRecord } from './load-target.ts'
import { latenciesOf } from './summarize-load.ts'

interface Distribution {
  readonly mean: number
  readonly median: number
  readonly mode: number
  readonly variance: number
  readonly std_dev: number
  readonly min: number
  readonly max: number
  readonly count: number
  readonly total_sum: number
  readonly percentiles: Readonly<Record<'p001' | 'p01' | 'p05' | 'p10' | 'p25' | 'p50' | 'p75' | 'p90' | 'p95' | 'p99' | 'p999', number>>
}

type ByStatus = Readonly<Record<'successful' | 'incomplete' | 'errored' | 'total', Distribution>>

/** Nearest rank on the weighted distribution, population deviation, as GuideLLM has them. */
function distribution(pairs: readonly { readonly value: number; readonly weight: number }[]): Distribution {
  const sorted = pairs.toSorted((a, b) => a.value - b.value)
  const total = sorted.reduce((sum, { weight }) => sum + weight, 0)
  const sum = sorted.reduce((all, { value, weight }) => all + value * weight, 0)
  const mean = total > 0 ? sum / total : 0
  const variance = total > 0 ? sorted.reduce((all, { value, weight }) => all + weight * (value - mean) ** 2, 0) / total : 0
  const at = (p: number): number => {
    let seen = 0
    for (const { value, weight } of sorted) {
      seen += weight
      if (seen >= p * total - 1e-12) return value
    }
    return sorted.at(-1)?.value ?? 0
  }
  const counts = new Map<number, number>()
  for (const { value, weight } of sorted) counts.set(value, (counts.get(value) ?? 0) + weight)
  const mode = [...counts].reduce<readonly [number, number]>((best, entry) => (entry[1] > best[1] ? entry : best), [0, 0])[0]
  return {
    mean,
    median: at(0.5),
    mode,
    variance,
    std_dev: Math.sqrt(variance),
    min: sorted[0]?.value ?? 0,
    max: sorted.at(-1)?.value ?? 0,
    // Weights count as so many values, there too.
    count: Math.round(total),
    total_sum: sum,
    percentiles: {
      p001: at(0.001),
      p01: at(0.01),
      p05: at(0.05),
      p10: at(0.1),
      p25: at(0.25),
      p50: at(0.5),
      p75: at(0.75),
      p90: at(0.9),
      p95: at(0.95),
      p99: at(0.99),
      p999: at(0.999),
    },
  }
}

function byStatus(
  records: readonly RequestRecord[],
  of: (record: RequestRecord) => { readonly value: number; readonly weight?: number } | null,
): ByStatus {
  const pick = (status: RequestRecord['status'] | null): Distribution =>
    distribution(
      records
        .filter((record) => status === null || record.status === status)
        .flatMap((record) => {
          const picked = of(record)
          return picked === null ? [] : [{ value: picked.value, weight: picked.weight ?? 1 }]
        }),
    )
  return { successful: pick('completed'), incomplete: pick('incomplete'), errored: pick('failed'), total: pick(null) }
}

export function guideLlmJson(raw: RawBenchmark): Record<string, unknown> {
  const started = new Date(raw.startedAt).getTime() / 1000
  return {
    metadata: {
      version: 2,
      guidellm_version: `n/a (Lathe ${raw.latheVersion})`,
      python_version: 'n/a',
      platform: `${process.platform}-${process.arch}`,
    },
    config: { metadata: {}, spec: { backend: { target: raw.benchmark.url, model: raw.benchmark.model }, data: raw.benchmark.load } },
    benchmarks: raw.benchmark.runs.map((run, index) => guideLlmRun(run, raw.records[index] ?? [], started, index)),
  }
}

/** Levels of concurrency weighted by how long they lasted, between the first request and the end of the last. */
function concurrency(records: readonly RequestRecord[]): Distribution {
  const events = records.flatMap((record) => [[record.sentMs, 1] as const, [record.endMs, -1] as const]).toSorted((a, b) => a[0] - b[0])
  let level = 0
  const levels = events.flatMap(([at, change], i) => {
    level += change
    const next = events[i + 1]
    return next === undefined || next[0] === at ? [] : [{ value: level, weight: next[0] - at }]
  })
  return { ...distribution(levels), count: records.length }
}

const rate = (value: number): ByStatus => ({
  successful: distribution([{ value, weight: 1 }]),
  incomplete: distribution([]),
  errored: distribution([]),
  total: distribution([{ value, weight: 1 }]),
})

function guideLlmRun(run: ServedRun, all: readonly RequestRecord[], started: number, index: number) {
  const records = all.filter((record) => !record.isWarmup)
  const latency = (
    of: (
      value: NonNullable<ReturnType<typeof latenciesOf>>,
      record: RequestRecord,
    ) => { readonly value: number; readonly weight?: number } | null,
  ) =>
    byStatus(records, (record) => {
      const value = latenciesOf(record)
      return value === null ? null : of(value, record)
    })
  const request = (record: RequestRecord): Record<string, unknown> => ({
    request_id: String(record.index),
    scheduled_at: started + record.scheduledMs / 1000,
    request_start_time: started + record.sentMs / 1000,
    request_end_time: started + record.endMs / 1000,
    first_token_time: record.chunksMs[0] === undefined ? null : started + record.chunksMs[0] / 1000,
    prompt_tokens: record.inputTokens,
    output_tokens: record.outputTokens,
    error: record.error,
  })
  const times = records.map((record) => record.endMs)
  return {
    type_: 'generative_benchmark',
    config: {
      id_: `run-${index}`,
      run_index: index,
      strategy: { type_: run.profile, streams: run.concurrency, rate: run.rate },
      warmup: run.warmup,
      cooldown: null,
    },
    scheduler_metrics: {
      requests_made: {
        successful: run.completed,
        incomplete: run.incomplete,
        errored: run.failed,
        total: run.completed + run.incomplete + run.failed,
      },
    },
    metrics: {
      request_totals: {
        successful: run.completed,
        incomplete: run.incomplete,
        errored: run.failed,
        total: run.completed + run.incomplete + run.failed,
      },
      requests_per_second: rate(run.requestsPerSecond),
      request_concurrency: {
        successful: concurrency(records.filter(({ status }) => status === 'completed')),
        incomplete: concurrency(records.filter(({ status }) => status === 'incomplete')),
        errored: concurrency(records.filter(({ status }) => status === 'failed')),
        total: concurrency(records),
      },
      request_latency: latency((value) => ({ value: value.e2eFromSendMs / 1000 })),
      prompt_token_count: byStatus(records, (record) => ({ value: record.inputTokens })),
      output_token_count: byStatus(records, (record) => ({ value: record.outputTokens })),
      total_token_count: byStatus(records, (record) => ({ value: record.inputTokens + record.outputTokens })),
      time_to_first_token_ms: latency((value) => ({ value: value.ttftFromSendMs })),
      time_per_output_token_ms: latency((value, record) => ({ value: value.e2ePerTokenMs, weight: record.outputTokens })),
      inter_token_latency_ms: latency((value, record) =>
        value.tpotMs === null ? null : { value: value.tpotMs, weight: record.outputTokens - 1 },
      ),
      prompt_tokens_per_second: rate(run.inputTokensPerSecond),
      output_tokens_per_second: rate(run.outputTokensPerSecond),
      tokens_per_second: rate(run.totalTokensPerSecond),
    },
    requests: {
      successful: records.filter(({ status }) => status === 'completed').map(request),
      incomplete: records.filter(({ status }) => status === 'incomplete').map(request),
      errored: records.filter(({ status }) => status === 'failed').map(request),
    },
    start_time: started,
    end_time: started + Math.max(0, ...times) / 1000,
    duration: run.durationSeconds,
    warmup_duration: Math.max(0, run.fullDurationSeconds - run.durationSeconds),
    cooldown_duration: 0,
  }
}

/** Head of a column: group, field, unit or statistic. One row of the file each. */
type Column = readonly [group: string, field: string, unit: string, value: string | number]

/** Groups and names as in its CSV writer (src/guidellm/benchmark/outputs/csv.py). */
const CSV_METRICS = [
  ['request_latency', 'Request Latency', 'Sec'],
  ['time_to_first_token_ms', 'Time to First Token', 'ms'],
  ['time_per_output_token_ms', 'Time per Output Token', 'ms'],
  ['inter_token_latency_ms', 'Inter Token Latency', 'ms'],
  ['requests_per_second', 'Server Throughput', 'Requests/Sec'],
  ['request_concurrency', 'Server Throughput', 'Concurrency'],
  ['prompt_token_count', 'Token Metrics', 'Input Tokens'],
  ['output_token_count', 'Token Metrics', 'Output Tokens'],
  ['total_token_count', 'Token Metrics', 'Total Tokens'],
  ['prompt_tokens_per_second', 'Token Throughput', 'Input Tokens/Sec'],
  ['output_tokens_per_second', 'Token Throughput', 'Output Tokens/Sec'],
  ['tokens_per_second', 'Token Throughput', 'Total Tokens/Sec'],
] as const
/** Its own leaves out a status without values, which moves the columns of such a run; here every run has all of them. */
const CSV_STATUSES = ['successful', 'incomplete', 'errored'] as const
const CSV_PERCENTILES = ['p001', 'p01', 'p05', 'p10', 'p25', 'p75', 'p90', 'p95', 'p99'] as const

/** One row a run under three rows of heads. */
export function guideLlmCsv(raw: RawBenchmark): string {
  const started = new Date(raw.startedAt).getTime() / 1000
  const runs = raw.benchmark.runs.map((run, index) =>
    csvColumns(raw, run, index, guideLlmRun(run, raw.records[index] ?? [], started, index)),
  )
  const heads = [0, 1, 2].map((level) => (runs[0] ?? []).map((column) => column[level] ?? ''))
  return `${[...heads, ...runs.map((columns) => columns.map((column) => column[3]))].map((row) => row.map(csvCell).join(',')).join('\r\n')}\r\n`
}

function csvCell(value: string | number): string {
  const text = String(value)
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** Seconds since 1970, in UTC. */
function utcText(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')
}

function csvColumns(raw: RawBenchmark, run: ServedRun, index: number, guide: ReturnType<typeof guideLlmRun>): Column[] {
  const { metrics } = guide
  return [
    ['Run Info', 'Run Index', '', index],
    ['Run Info', 'Profile', '', JSON.stringify(guide.config.strategy)],
    ['Run Info', 'Requests', '', raw.benchmark.load],
    ['Run Info', 'Backend', '', JSON.stringify({ target: raw.benchmark.url, model: raw.benchmark.model })],
    ['Benchmark', 'Type', '', guide.type_],
    ['Benchmark', 'ID', '', guide.config.id_],
    ['Benchmark', 'Strategy', '', run.profile],
    ['Timings', 'Start Time', '', utcText(guide.start_time)],
    ['Timings', 'End Time', '', utcText(guide.end_time)],
    ['Timings', 'Duration', 'Sec', guide.duration],
    ['Timings', 'Warmup', 'Sec', guide.warmup_duration],
    ['Timings', 'Cooldown', 'Sec', guide.cooldown_duration],
    ['Request Counts', 'Successful', '', metrics.request_totals.successful],
    ['Request Counts', 'Incomplete', '', metrics.request_totals.incomplete],
    ['Request Counts', 'Errored', '', metrics.request_totals.errored],
    ['Request Counts', 'Total', '', metrics.request_totals.total],
    ...CSV_METRICS.flatMap(([key, group, unit]) =>
      CSV_STATUSES.flatMap((status): Column[] => {
        const { mean, median, std_dev, min, max, percentiles } = metrics[key][status]
        const field = `${status.charAt(0).toUpperCase()}${status.slice(1)} ${unit}`
        return [
          [group, field, 'Mean', mean],
          [group, field, 'Median', median],
          [group, field, 'Std Dev', std_dev],
          [group, field, 'Percentiles', `[${[min, ...CSV_PERCENTILES.map((p) => percentiles[p]), max].join(', ')}]`],
        ]
      }),
    ),
  ]
}
