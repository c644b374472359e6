/**
 * Served benchmarks in the shapes of other tools, from the raw times: GuideLLM's JSON (the fields of specs/benchmark.md §1.4), vLLM's bench keys
 * (§2), and CSV with a row a run. Each uses its own tool's definitions, and says where it comes from.
 */
import type { BenchmarkExportFormat, LatencySummary, ServedBenchmark, ServedRun } from '../../contract/index.ts'
import type { RequestRecord } from './load-target.ts'
import { latencyTable, latenciesOf } from './summarize-load.ts'

export interface RawBenchmark {
  readonly benchmark: ServedBenchmark
  readonly records: readonly (readonly RequestRecord[])[]
  readonly startedAt: string
  readonly latheVersion: string
}

const GUIDELLM_PERCENTILES = {
  p001: 0.001,
  p01: 0.01,
  p05: 0.05,
  p10: 0.1,
  p25: 0.25,
  p50: 0.5,
  p75: 0.75,
  p90: 0.9,
  p95: 0.95,
  p99: 0.99,
  p999: 0.999,
}

/** Nearest rank on the weighted distribution, population deviation, as GuideLLM has them. */
function distribution(pairs: readonly { readonly value: number; readonly weight: number }[]): Record<string, unknown> {
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
  const percentiles = Object.fromEntries(Object.entries(GUIDELLM_PERCENTILES).map(([name, p]) => [name, at(p)]))
  return {
    mean,
    median: at(0.5),
    mode,
    variance,
    std_dev: Math.sqrt(variance),
    min: sorted[0]?.value ?? 0,
    max: sorted.at(-1)?.value ?? 0,
    count: sorted.length,
    total_sum: sum,
    percentiles,
  }
}

function byStatus(
  records: readonly RequestRecord[],
  of: (record: RequestRecord) => { readonly value: number; readonly weight?: number } | null,
): Record<string, unknown> {
  const pick = (status: RequestRecord['status'] | null): Record<string, unknown> =>
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

const rate = (value: number): Record<string, unknown> => ({
  successful: distribution([{ value, weight: 1 }]),
  incomplete: distribution([]),
  errored: distribution([]),
  total: distribution([{ value, weight: 1 }]),
})

function guideLlmRun(run: ServedRun, all: readonly RequestRecord[], started: number, index: number): Record<string, unknown> {
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
      request_concurrency: rate(run.meanConcurrency),
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

/** One object a run with `vllm bench serve`'s keys; population deviations and its own ITL and TPOT. */
export function vllmJson(raw: RawBenchmark): Record<string, unknown>[] {
  return raw.benchmark.runs.map((run, index) => {
    const records = (raw.records[index] ?? []).filter((record) => !record.isWarmup)
    const completed = records.filter(({ status }) => status === 'completed')
    const table = latencyTable(records, 'vllm')
    const statistics = Object.entries(table).flatMap(([key, summary]) => {
      const name = key.replace(/_ms$/, '')
      return summary === null ? [] : vllmStatistics(name, summary)
    })
    const duration = run.durationSeconds
    const per = (count: number): number => (duration > 0 ? count / duration : 0)
    const output = completed.reduce((sum, record) => sum + record.outputTokens, 0)
    const input = completed.reduce((sum, record) => sum + record.inputTokens, 0)
    return {
      date: raw.startedAt,
      backend: 'lathe',
      model_id: raw.benchmark.model,
      request_rate: run.rate ?? 'inf',
      max_concurrency: run.concurrency,
      duration,
      completed: run.completed,
      failed: run.failed,
      total_input_tokens: input,
      total_output_tokens: output,
      request_throughput: per(completed.length),
      request_goodput: run.goodput?.requestsPerSecond ?? null,
      output_throughput: per(output),
      total_token_throughput: per(input + output),
      ...Object.fromEntries(statistics),
      input_lens: records.map((record) => record.inputTokens),
      output_lens: records.map((record) => record.outputTokens),
      ttfts: records.map((record) => (latenciesOf(record)?.ttftFromSendMs ?? 0) / 1000),
      itls: records.map((record) => (latenciesOf(record)?.chunkGapsMs ?? []).map((gap) => gap / 1000)),
      start_times: records.map((record) => record.sentMs / 1000),
      queue_times: records.map((record) => (record.sentMs - record.scheduledMs) / 1000),
      errors: records.map((record) => record.error ?? ''),
    }
  })
}

function vllmStatistics(name: string, summary: LatencySummary): [string, number][] {
  // n − 1 to n
  const population = summary.std === null ? 0 : summary.std * Math.sqrt((summary.n - 1) / summary.n)
  return [
    [`mean_${name}_ms`, summary.mean],
    [`median_${name}_ms`, summary.p50],
    [`std_${name}_ms`, population],
    [`p90_${name}_ms`, summary.p90],
    [`p95_${name}_ms`, summary.p95],
    [`p99_${name}_ms`, summary.p99],
  ]
}

const LATENCIES = ['ttftMs', 'ttftFromSendMs', 'itlMs', 'tpotMs', 'e2eMs', 'queueMs'] as const

export function benchmarkCsv(benchmark: ServedBenchmark): string {
  const head = [
    'profile',
    'concurrency',
    'rate',
    'requests_per_second',
    'output_tokens_per_second',
    'total_tokens_per_second',
    'completed',
    'failed',
    'goodput_share',
    'mean_concurrency',
    ...LATENCIES.flatMap((name) => ['mean', 'p50', 'p90', 'p95', 'p99'].map((statistic) => `${snake(name)}_${statistic}`)),
  ]
  const rows = benchmark.runs.map((run) => [
    run.profile,
    run.concurrency ?? '',
    run.rate ?? '',
    run.requestsPerSecond,
    run.outputTokensPerSecond,
    run.totalTokensPerSecond,
    run.completed,
    run.failed,
    run.goodput?.share ?? '',
    run.meanConcurrency,
    ...LATENCIES.flatMap((name) => {
      const summary = run[name]
      return [summary?.mean, summary?.p50, summary?.p90, summary?.p95, summary?.p99].map((value) => value ?? '')
    }),
  ])
  return `${[head, ...rows].map((row) => row.join(',')).join('\n')}\n`
}

function snake(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** File name and text. */
export function exportBenchmark(raw: RawBenchmark, format: BenchmarkExportFormat): { readonly fileName: string; readonly text: string } {
  const at = raw.startedAt.slice(0, 19).replaceAll(':', '-')
  switch (format) {
    case 'guidellm':
      return { fileName: `benchmarks-${at}.json`, text: `${JSON.stringify(guideLlmJson(raw), null, 2)}\n` }
    case 'vllm':
      return {
        fileName: `vllm-bench-${at}.jsonl`,
        text: vllmJson(raw)
          .map((run) => `${JSON.stringify(run)}\n`)
          .join(''),
      }
    case 'csv':
      return { fileName: `benchmark-${at}.csv`, text: benchmarkCsv(raw.benchmark) }
    case 'raw':
      return { fileName: `benchmark-${at}-raw.json`, text: `${JSON.stringify(raw)}\n` }
  }
}
