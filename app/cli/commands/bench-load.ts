/** The load part of `lathe bench`: options of the profiles, the target that is loaded, and the runs as DESIGN §10 has them. */
import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { exportBenchmark } from '../../../engine/benchmark/load/export-benchmark.ts'
import { createHttpLoadTarget } from '../../../engine/benchmark/load/http-load-target.ts'
import type { LoadTarget } from '../../../engine/benchmark/load/load-target.ts'
import { readTrace } from '../../../engine/benchmark/load/schedule.ts'
import { runServedBenchmark } from '../../../engine/benchmark/load/served-benchmark.ts'
import type { BenchmarkOutcome, ServedBenchmarkOptions } from '../../../engine/benchmark/load/served-benchmark.ts'
import { latencyTable } from '../../../engine/benchmark/load/summarize-load.ts'
import type { EnergyChoice } from '../../../engine/benchmark/energy/energy-source.ts'
import type { Tokenize } from '../../../engine/benchmark/load/synthetic-prompts.ts'
import { SERVICE_LEVELS } from '../../../engine/contract/index.ts'
import type {
  BenchmarkExportFormat,
  LatencyConvention,
  LatencySummary,
  LoadProfile,
  ServedBenchmark,
  ServedRun,
} from '../../../engine/contract/index.ts'
import { OpenAiClient } from '../../../engine/evaluate/remote/openai-client.ts'
import type { Arguments, OptionSpec } from '../arguments.ts'
import { latheVersion } from '../assets.ts'
import type { CommandContext } from '../command.ts'
import { describeEnergy, energyJson } from '../energy.ts'
import { formatTable } from '../format.ts'

export const PROFILES = ['synchronous', 'concurrent', 'throughput', 'constant', 'poisson', 'sweep', 'trace'] as const
const CONVENTIONS = ['lathe', 'guidellm', 'vllm', 'aiperf'] as const
const LEVELS = SERVICE_LEVELS.map(({ name }) => name)

export const LOAD_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  profile: { type: 'string', value: 'NAME', help: `${PROFILES.join(', ')} (synchronous)` },
  concurrency: { type: 'string', value: 'N,N…', help: 'streams of the concurrent profile, a run each (1,4)' },
  rate: { type: 'string', value: 'R,R…', help: 'requests per second of constant and poisson, a run each (1)' },
  'sweep-steps': { type: 'string', value: 'N', help: 'runs of a sweep, both ends included (6)' },
  requests: { type: 'string', value: 'N', help: 'requests of each run (an address 32, a folder 16, on software adapters 4)' },
  'warmup-requests': { type: 'string', value: 'N', help: 'requests sent first and not counted (1)' },
  'max-seconds': { type: 'string', value: 'S', help: 'longest time of a run (120)' },
  'prompt-tokens': { type: 'string', value: 'N', help: 'length of the prompt (an address 256, a folder by its size and the adapter)' },
  'generate-tokens': {
    type: 'string',
    value: 'N',
    help: 'tokens generated per request (an address 64, a folder by its size and the adapter)',
  },
  'shared-prefix': { type: 'string', value: 'N', help: 'tokens that all prompts begin with; 0 = none, so that no cache helps (0)' },
  slo: {
    type: 'string',
    value: 'NAME',
    help: `count requests that meet a service level: ${LEVELS.join(', ')}, or ttft:tpot:e2e in ms ("200:50:")`,
  },
  trace: { type: 'string', value: 'JSONL', help: 'recorded arrivals for --profile trace' },
  'time-scale': {
    type: 'string',
    value: 'X',
    help: 'replays the trace so many times slower (1; 1000 where its time stamps are seconds, as GuideLLM’s)',
  },
  seed: { type: 'string', value: 'N', help: 'of prompts and arrivals (1)' },
  convention: { type: 'string', value: 'NAME', help: `whose names and definitions of latency: ${CONVENTIONS.join(', ')} (lathe)` },
  export: {
    type: 'string',
    multiple: true,
    value: 'FILE',
    help: 'write .csv, .json or .guidellm.csv (GuideLLM’s forms), .jsonl (vLLM’s keys) or .raw.json (all timestamps)',
  },
  model: { type: 'string', value: 'NAME', help: 'for an address: the model’s name (the only one served)' },
  'api-key': { type: 'string', value: 'K', help: 'for an address: its key (LATHE_API_KEY)' },
  chat: { type: 'boolean', help: 'for an address: use /v1/chat/completions' },
}

/** By the end of the name, the longer ones first. */
const EXPORTS = [
  ['.raw.json', 'raw'],
  ['.guidellm.csv', 'guidellm-csv'],
  ['.csv', 'csv'],
  ['.jsonl', 'vllm'],
  ['.json', 'guidellm'],
] as const satisfies readonly (readonly [string, BenchmarkExportFormat])[]

/** Options of a load that say nothing to the engine's own benchmark, which a folder gets without --profile. */
const ONLY_LOAD = [
  'concurrency',
  'rate',
  'sweep-steps',
  'requests',
  'warmup-requests',
  'max-seconds',
  'shared-prefix',
  'slo',
  'trace',
  'time-scale',
  'convention',
  'export',
] as const

/** Throws where one is given and no load is asked for: a file that is never written must not look like one. */
export function mustHaveProfile(args: Arguments): void {
  const given = ONLY_LOAD.find((name) => (name === 'export' ? args.texts(name).length > 0 : args.text(name) !== null))
  if (given !== undefined)
    throw args.invalid(`--${given} is for a load, and of a folder none is asked for.`, 'Add --profile, for example --profile synchronous.')
}

export interface LoadDefaults {
  readonly requests: number
  readonly promptTokens: number
  readonly outputTokens: number
}

export async function loadOptions(args: Arguments, defaults: LoadDefaults, sharesGpu: boolean): Promise<ServedBenchmarkOptions> {
  const profile: LoadProfile = args.oneOf('profile', PROFILES, 'synchronous')
  const tracePath = args.text('trace')
  return {
    profile,
    concurrency: [...wholeNumbers(args, 'concurrency', [1, 4])],
    rates: numbers(args, 'rate', [1]),
    sweepSteps: args.integer('sweep-steps', { min: 3, max: 20 }) ?? 6,
    requests: args.integer('requests', { min: 1, max: 100_000 }) ?? defaults.requests,
    maxSeconds: args.number('max-seconds', { min: 0.1 }) ?? 120,
    warmupRequests: args.integer('warmup-requests', { min: 0 }) ?? 1,
    promptTokens: args.integer('prompt-tokens', { min: 1 }) ?? defaults.promptTokens,
    outputTokens: args.integer('generate-tokens', { min: 1 }) ?? defaults.outputTokens,
    sharedPrefixTokens: args.integer('shared-prefix', { min: 0 }) ?? 0,
    level: serviceLevel(args),
    trace: tracePath === null ? null : await readTrace(resolve(tracePath), args.number('time-scale', { min: 0.001 }) ?? 1),
    seed: args.integer('seed', { min: 0 }) ?? 1,
    sharesGpu,
  }
}

function numbers(args: Arguments, name: string, fallback: readonly number[]): readonly number[] {
  const text = args.text(name)
  if (text === null) return fallback
  const values = text.split(',').map(Number)
  if (values.some((value) => !Number.isFinite(value) || value <= 0))
    throw args.invalid(`--${name} must be numbers above 0 with commas between, not "${text}".`)
  return values
}

export function wholeNumbers(args: Arguments, name: string, fallback: readonly number[]): readonly number[] {
  return args.text(name) === null ? fallback : numbers(args, name, []).map(Math.round)
}

const limit = (part: string | undefined): number | null => (part === undefined || part === '' ? null : Number(part))

function serviceLevel(args: Arguments): ServedBenchmarkOptions['level'] {
  const text = args.text('slo')
  if (text === null) return null
  const named = SERVICE_LEVELS.find(({ name }) => name === text)
  if (named !== undefined) return named
  const parts = text.split(':')
  const [ttftMs, tpotMs, e2eMs] = [limit(parts[0]), limit(parts[1]), limit(parts[2])]
  if (parts.length > 3 || parts.length < 2 || [ttftMs, tpotMs, e2eMs].some((value) => value !== null && !(value > 0))) {
    throw args.invalid(`--slo can't be "${text}".`, `Use one of ${LEVELS.join(', ')}, or ttft:tpot:e2e in ms, e.g. "200:50:".`)
  }
  return { name: text, ttftMs, tpotMs, e2eMs }
}

/** A server elsewhere, with its own tokenizer where it shows one. */
export async function remoteLoadTarget(
  context: CommandContext,
  args: Arguments,
  url: string,
): Promise<{ readonly target: LoadTarget; readonly tokenize: Tokenize | null }> {
  const client = new OpenAiClient({ url, apiKey: args.text('api-key') ?? process.env['LATHE_API_KEY'] ?? null })
  const model = await client.pick(args.text('model'), context.signal)
  const chat = args.flag('chat')
  const tokenizes = !chat && (await client.canTokenize(model.id, context.signal))
  const tokenize: Tokenize | null = tokenizes ? (text) => client.tokenize(model.id, text, { signal: context.signal }) : null
  return { target: createHttpLoadTarget({ client, model: model.id, api: chat ? 'chat' : 'completions' }), tokenize }
}

function exportsOf(args: Arguments): readonly { readonly path: string; readonly format: BenchmarkExportFormat }[] {
  return args.texts('export').map((path) => {
    const format = EXPORTS.find(([ending]) => path.endsWith(ending))?.[1]
    if (format === undefined)
      throw args.invalid(`--export can't write "${path}".`, 'Use a name that ends in .csv, .json, .guidellm.csv, .jsonl or .raw.json.')
    return { path, format }
  })
}

export async function runLoadCommand(
  context: CommandContext,
  args: Arguments,
  target: LoadTarget,
  tokenize: Tokenize | null,
  options: ServedBenchmarkOptions,
  energy: EnergyChoice,
) {
  // What can't be written is said before the first request.
  const exports = exportsOf(args)
  const startedAt = new Date().toISOString()
  const outcome = await runServedBenchmark(target, options, {
    tokenize,
    energy,
    signal: context.signal,
    onProgress: (done, total, what) => context.progress(`${what}: ${done} of ${total} requests`),
  })
  context.progress(null)
  const files: string[] = []
  for (const { path, format } of exports) {
    const { text } = exportBenchmark({ ...outcome, startedAt, latheVersion: latheVersion() }, format)
    await writeFile(resolve(path), text)
    files.push(resolve(path))
  }
  const convention: LatencyConvention = args.oneOf('convention', CONVENTIONS, 'lathe')
  const { withinLevel = null } = outcome.benchmark
  const withinSlo = withinLevel === null ? null : { slo: withinLevel.level, rate_99: withinLevel.rate99, rate_90: withinLevel.rate90 }
  return { outcome, files, withinSlo, json: runsJson(outcome, convention), text: describeRuns(outcome) }
}

function percentiles(summary: LatencySummary | null) {
  return summary === null
    ? null
    : {
        p50: summary.p50,
        p90: summary.p90,
        p95: summary.p95,
        p99: summary.p99,
        mean: summary.mean,
        min: summary.min,
        max: summary.max,
        n: summary.n,
      }
}

function runsJson({ benchmark, records }: BenchmarkOutcome, convention: LatencyConvention) {
  return benchmark.runs.map((run, index) => ({
    profile: run.profile,
    concurrency: run.concurrency,
    rate: run.rate,
    requests_per_second: run.requestsPerSecond,
    output_tokens_per_second: run.outputTokensPerSecond,
    total_tokens_per_second: run.totalTokensPerSecond,
    ttft_ms: percentiles(run.ttftMs),
    itl_ms: percentiles(run.itlMs),
    tpot_ms: percentiles(run.tpotMs),
    e2e_ms: percentiles(run.e2eMs),
    queue_ms: percentiles(run.queueMs),
    ttft_from_send_ms: percentiles(run.ttftFromSendMs),
    e2e_from_send_ms: percentiles(run.e2eFromSendMs ?? null),
    tokens_per_second_per_user: percentiles(run.tokensPerSecondPerUser ?? null),
    error_share: run.errorShare ?? null,
    mean_concurrency: run.meanConcurrency,
    completed: run.completed,
    failed: run.failed,
    incomplete: run.incomplete,
    warmup: run.warmup,
    duration_seconds: run.durationSeconds,
    full_duration_seconds: run.fullDurationSeconds,
    cached_tokens: run.cachedTokens,
    goodput:
      run.goodput === null
        ? null
        : { slo: run.goodput.level, requests_per_second: run.goodput.requestsPerSecond, share: run.goodput.share },
    client_lag_p99_ms: run.clientLagP99Ms,
    ...energyJson(run.energy),
    warnings: run.warnings,
    errors: run.errors,
    ...(convention === 'lathe'
      ? {}
      : {
          convention,
          [convention]: Object.fromEntries(
            Object.entries(latencyTable(records[index] ?? [], convention)).map(([name, summary]) => [name, percentiles(summary)]),
          ),
        }),
  }))
}

const showSummary = (summary: LatencySummary | null): string => (summary === null ? '–' : `${digits(summary.p50)} / ${digits(summary.p99)}`)

function describeRuns({ benchmark }: BenchmarkOutcome): string {
  const rows = benchmark.runs.map((run) => [
    label(run),
    digits(run.requestsPerSecond),
    digits(run.outputTokensPerSecond),
    showSummary(run.ttftMs),
    showSummary(run.itlMs),
    showSummary(run.e2eMs),
    run.goodput === null ? '' : `${Math.round(run.goodput.share * 100)} %`,
    run.failed > 0 ? `${run.failed} failed` : '',
  ])
  const warnings = [...new Set(benchmark.runs.flatMap((run) => run.warnings))]
  return [
    formatTable([['Load', 'req/s', 'tok/s', 'First token, ms (50/99 %)', 'Between tokens, ms', 'Whole, ms', 'Good', ''], ...rows]),
    `${benchmark.load}; ${benchmark.target === 'server' ? `over HTTP at ${benchmark.url}` : 'driven in this process, without HTTP'}; latencies from the schedule`,
    ...withinLine(benchmark),
    ...energyLines(benchmark.runs),
    ...warnings,
  ].join('\n')
}

function withinLine({ withinLevel }: ServedBenchmark): string[] {
  if (withinLevel === undefined || withinLevel === null) return []
  const { level, rate99, rate90 } = withinLevel
  return [`within "${level.name}": 99 % of the requests up to ${rateText(rate99)}, 90 % up to ${rateText(rate90)}`]
}

function rateText(rate: number | null): string {
  return rate === null ? 'none of these loads' : `${digits(rate)} req/s`
}

/** One line where none was measured; otherwise one a load. */
function energyLines(runs: readonly ServedRun[]): string[] {
  const said = runs.map((run) => describeEnergy(run.energy))
  return runs.every(({ energy }) => energy?.kind !== 'measured')
    ? [...new Set(said)]
    : runs.map((run, i) => `${runs.length > 1 ? `${label(run)}: ` : ''}${said[i]}`)
}

function label(run: ServedRun): string {
  if (run.rate !== null) return `${run.profile} ${digits(run.rate)}/s`
  return run.profile === 'concurrent' ? `concurrent ${run.concurrency}` : run.profile
}

function digits(value: number): string {
  return String(Number(value.toPrecision(3)))
}
