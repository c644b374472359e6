/**
 * A load with the keys that `vllm bench serve --save-detailed` writes (vllm/benchmarks/serve.py at 009e6d4), by its definitions: from sending,
 * population deviations, chunks for tokens. Texts of answers are not kept, so `generated_texts` is left out; so is energy, which it has no key for.
 */
import type { LatencySummary, ServedRun } from '../../contract/index.ts'
import type { RawBenchmark } from './export-benchmark.ts'
import type { RequestRecord } from './load-target.ts'
import { isGood, latencyTable, latenciesOf, mostInFlight } from './summarize-load.ts'

/** One object a run. */
export function vllmJson(raw: RawBenchmark): Record<string, unknown>[] {
  return raw.benchmark.runs.map((run, index) => vllmRun(raw, run, raw.records[index] ?? []))
}

function vllmRun(raw: RawBenchmark, run: ServedRun, all: readonly RequestRecord[]): Record<string, unknown> {
  const records = all.filter((record) => !record.isWarmup)
  const completed = records.filter(({ status }) => status === 'completed')
  const latencies = records.map((record) => (record.status === 'completed' ? latenciesOf(record) : null))
  const duration = run.durationSeconds
  const per = (count: number): number => (duration > 0 ? count / duration : 0)
  const output = completed.reduce((sum, record) => sum + record.outputTokens, 0)
  const input = completed.reduce((sum, record) => sum + record.inputTokens, 0)
  return {
    // e.g. 20261123-120000
    date: raw.startedAt.slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-'),
    endpoint_type: 'lathe',
    backend: 'lathe',
    label: null,
    model_id: raw.benchmark.model,
    num_prompts: records.length,
    request_rate: run.rate ?? 'inf',
    burstiness: run.profile === 'constant' ? 'inf' : 1,
    max_concurrency: run.concurrency,
    duration,
    completed: completed.length,
    failed: records.length - completed.length,
    total_input_tokens: input,
    total_output_tokens: output,
    request_throughput: per(completed.length),
    request_goodput: run.goodput === null ? null : per(goodOf(latencies, run.goodput.level)),
    output_throughput: per(output),
    total_token_throughput: per(input + output),
    ...Object.fromEntries(
      Object.entries(latencyTable(records, 'vllm')).flatMap(([key, summary]) => vllmStatistics(key.replace(/_ms$/, ''), summary)),
    ),
    input_lens: records.map((record) => record.inputTokens),
    output_lens: records.map((record) => (record.status === 'completed' ? record.outputTokens : 0)),
    ttfts: latencies.map((value) => (value?.ttftFromSendMs ?? 0) / 1000),
    itls: latencies.map((value) => (value?.chunkGapsMs ?? []).map((gap) => gap / 1000)),
    latencies: latencies.map((value) => (value?.e2eFromSendMs ?? 0) / 1000),
    start_times: records.map((record) => record.sentMs / 1000),
    queue_times: records.map((record) => (record.sentMs - record.scheduledMs) / 1000),
    errors: records.map((record) => record.error ?? ''),
    max_output_tokens_per_s: mostChunksInASecond(completed),
    max_concurrent_requests: mostInFlight(completed),
    rtfx: 0,
  }
}

function goodOf(latencies: readonly ReturnType<typeof latenciesOf>[], level: Parameters<typeof isGood>[1]): number {
  return latencies.filter(
    (value) => value !== null && isGood({ ttftMs: value.ttftFromSendMs, tpotMs: value.tpotMs, e2eMs: value.e2eFromSendMs }, level),
  ).length
}

/** Zeros where there is no value, as there. */
function vllmStatistics(name: string, summary: LatencySummary | null): [string, number][] {
  // n − 1 to n
  const population = summary?.std === null || summary === null ? 0 : summary.std * Math.sqrt((summary.n - 1) / summary.n)
  return [
    [`mean_${name}_ms`, summary?.mean ?? 0],
    [`median_${name}_ms`, summary?.p50 ?? 0],
    [`std_${name}_ms`, population],
    [`p90_${name}_ms`, summary?.p90 ?? 0],
    [`p95_${name}_ms`, summary?.p95 ?? 0],
    [`p99_${name}_ms`, summary?.p99 ?? 0],
  ]
}

/** Seconds are counted from the first request that completed; a chunk is a token there. */
function mostChunksInASecond(completed: readonly RequestRecord[]): number {
  const start = Math.min(...completed.map((record) => record.sentMs))
  const seconds = Map.groupBy(
    completed.flatMap((record) => record.chunksMs),
    (at) => Math.floor((at - start) / 1000),
  )
  return Math.max(0, ...Array.from(seconds.values(), (chunks) => chunks.length))
}
