/**
 * Served benchmarks to take away: in the shapes of GuideLLM and vLLM, a file each, or as Lathe's own table with a row a run and energy, which
 * neither of them has a field for.
 */
import type { BenchmarkExportFormat, ServedBenchmark, ServedRun } from '../../contract/index.ts'
import { guideLlmCsv, guideLlmJson } from './guidellm-export.ts'
import type { RequestRecord } from './load-target.ts'
import { vllmJson } from './vllm-export.ts'

export interface RawBenchmark {
  readonly benchmark: ServedBenchmark
  readonly records: readonly (readonly RequestRecord[])[]
  readonly startedAt: string
  readonly latheVersion: string
}

const LATENCIES = ['ttftMs', 'ttftFromSendMs', 'itlMs', 'tpotMs', 'e2eMs', 'e2eFromSendMs', 'queueMs'] as const

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
    'duration_seconds',
    'incomplete',
    'joules_per_output_token',
    'joules_per_request',
    'tokens_per_second_per_watt',
    'mean_watts',
    'energy_scope',
    'energy_counter',
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
    run.durationSeconds,
    run.incomplete,
    ...energyCells(run),
    ...LATENCIES.flatMap((name) => {
      const summary = run[name]
      return [summary?.mean, summary?.p50, summary?.p90, summary?.p95, summary?.p99].map((value) => value ?? '')
    }),
  ])
  return `${[head, ...rows].map((row) => row.join(',')).join('\n')}\n`
}

/** Empty where nothing was read. */
function energyCells({ energy }: ServedRun): (string | number)[] {
  if (energy?.kind !== 'measured') return ['', '', '', '', '', '']
  const { joulesPerOutputToken, joulesPerRequest, tokensPerSecondPerWatt, meanWatts, scope, counter } = energy
  return [joulesPerOutputToken, joulesPerRequest, tokensPerSecondPerWatt, meanWatts, scope, counter]
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
    case 'guidellm-csv':
      return { fileName: `benchmarks-${at}.csv`, text: guideLlmCsv(raw) }
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
