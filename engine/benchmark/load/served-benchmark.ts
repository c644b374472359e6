/**
 * A whole served benchmark: the runs that a profile stands for, one after the other, with what is needed to draw the curve (specs/benchmark.md
 * §1.1). A sweep is measured at its ends first, one stream and all at once, and then at rates evenly between.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { LatheError } from '../../contract/errors.ts'
import type { Energy, LoadProfile, ServedBenchmark, ServedRun, ServiceLevel } from '../../contract/index.ts'
import { energyOf } from '../energy/energy-source.ts'
import type { EnergyChoice, EnergyRecording } from '../energy/energy-source.ts'
import type { LoadClock, LoadPrompt, LoadTarget, RequestRecord } from './load-target.ts'
import { SYSTEM_CLOCK } from './load-target.ts'
import { runLoad } from './run-load.ts'
import { constantSchedule, poissonSchedule } from './schedule.ts'
import type { TraceEntry } from './schedule.ts'
import { rateWithin, steadyWindow, summarizeRun, tokensWithin } from './summarize-load.ts'
import { syntheticPrompts } from './synthetic-prompts.ts'
import type { Tokenize } from './synthetic-prompts.ts'
import { notMeasured } from '../energy/energy-trace.ts'

export interface ServedBenchmarkOptions {
  readonly profile: LoadProfile
  readonly concurrency: readonly number[]
  readonly rates: readonly number[]
  readonly sweepSteps: number
  readonly requests: number
  readonly maxSeconds: number
  readonly warmupRequests: number
  readonly promptTokens: number
  readonly outputTokens: number
  readonly sharedPrefixTokens: number
  readonly level: ServiceLevel | null
  readonly trace: readonly TraceEntry[] | null
  readonly seed: number
  /** Client and server share this machine's GPU. */
  readonly sharesGpu: boolean
}

export interface BenchmarkHooks {
  readonly tokenize: Tokenize | null
  /** The counter of what does the work, or why there is none; absent: the runs say nothing of energy. */
  readonly energy?: EnergyChoice
  readonly clock?: LoadClock
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (doneRequests: number, totalRequests: number, what: string) => void
  /** Each run the moment it is done; runs already done by an interrupted benchmark are given as `finished`. */
  readonly onRun?: (run: ServedRun, records: readonly RequestRecord[]) => void
  readonly finished?: readonly ServedRun[]
}

export interface BenchmarkOutcome {
  readonly benchmark: ServedBenchmark
  /** Raw records of each run, in the order of the runs; empty for those that were already done. */
  readonly records: readonly (readonly RequestRecord[])[]
}

/** As many at once as a throughput run may have: more only waits in the server's queue. */
const MOST_AT_ONCE = 512

interface Step {
  readonly profile: LoadProfile
  readonly concurrency: number | null
  readonly rate: number | null
}

function fixedSteps(options: ServedBenchmarkOptions): readonly Step[] {
  switch (options.profile) {
    case 'synchronous':
      return [{ profile: 'synchronous', concurrency: 1, rate: null }]
    case 'concurrent':
      return options.concurrency.map((concurrency) => ({ profile: 'concurrent', concurrency, rate: null }))
    case 'throughput':
      return [{ profile: 'throughput', concurrency: null, rate: null }]
    case 'constant':
    case 'poisson':
      return options.rates.map((rate) => ({ profile: options.profile, concurrency: null, rate }))
    case 'trace':
      return [{ profile: 'trace', concurrency: null, rate: null }]
    case 'sweep':
      return [
        { profile: 'synchronous', concurrency: 1, rate: null },
        { profile: 'throughput', concurrency: null, rate: null },
      ]
  }
}

/** Rates evenly between the two measured ends, the low end not repeated. */
export function sweepRates(low: number, high: number, steps: number): number[] {
  const inner = Math.max(0, steps - 2)
  return high <= low ? [] : Array.from({ length: inner }, (_, i) => low + ((high - low) * (i + 1)) / (inner + 1))
}

export async function runServedBenchmark(
  target: LoadTarget,
  options: ServedBenchmarkOptions,
  hooks: BenchmarkHooks,
): Promise<BenchmarkOutcome> {
  if (options.profile === 'trace' && options.trace === null)
    throw new LatheError('request.invalid', 'The trace profile needs a trace.', 'Name a file with recorded arrivals.')
  const runs: ServedRun[] = []
  const records: (readonly RequestRecord[])[] = []
  const steps = [...fixedSteps(options)]
  for (let index = 0; index < steps.length; index++) {
    const step = steps[index]
    if (step === undefined) break
    const known = hooks.finished?.[index]
    if (known === undefined) {
      const { run, raw } = await oneRun(target, options, step, index, hooks)
      runs.push(run)
      records.push(raw)
      hooks.onRun?.(run, raw)
    } else {
      runs.push(known)
      records.push([])
    }
    if (options.profile === 'sweep' && index === 1) {
      const [low, high] = runs.map((run) => run.requestsPerSecond)
      steps.push(
        ...sweepRates(low ?? 0, high ?? 0, options.sweepSteps).map((rate): Step => ({ profile: 'constant', concurrency: null, rate })),
      )
    }
  }
  return {
    benchmark: {
      target: target.kind,
      url: target.url,
      model: target.model,
      load: describeLoad(options, hooks.tokenize !== null),
      sharesGpu: options.sharesGpu,
      runs,
      withinLevel: options.level === null ? null : { level: options.level, rate99: rateWithin(runs, 0.99), rate90: rateWithin(runs, 0.9) },
      rawFile: null,
    },
    records,
  }
}

async function oneRun(
  target: LoadTarget,
  options: ServedBenchmarkOptions,
  step: Step,
  index: number,
  hooks: BenchmarkHooks,
): Promise<{ readonly run: ServedRun; readonly raw: RequestRecord[] }> {
  const isOpen = step.profile === 'constant' || step.profile === 'poisson' || step.profile === 'trace'
  const total = step.profile === 'trace' ? (options.trace?.length ?? 0) : options.requests + options.warmupRequests
  // Each run has prompts of its own: those of the one before would be in the server's cache.
  const seed = options.seed * 1000 + index
  const prompts =
    step.profile === 'trace'
      ? await tracePrompts(options, seed, hooks.tokenize)
      : await syntheticPrompts({ ...options, count: total, seed }, hooks.tokenize)
  const dueMs = !isOpen
    ? null
    : step.profile === 'trace'
      ? (options.trace ?? []).map((entry) => entry.atMs)
      : step.profile === 'constant'
        ? constantSchedule(total, step.rate ?? 1)
        : poissonSchedule(total, step.rate ?? 1, seed)
  await using recording = hooks.energy === undefined || 'reason' in hooks.energy ? null : await hooks.energy.record()
  let startMs = 0
  const lag = monitorEventLoopDelay({ resolution: 1 })
  lag.enable()
  const what = describeStep(step)
  const raw = await runLoad(
    target,
    {
      dueMs,
      concurrency: step.concurrency ?? Math.min(MOST_AT_ONCE, total),
      prompts,
      warmupRequests: step.profile === 'trace' ? 0 : options.warmupRequests,
      maxSeconds: options.maxSeconds,
    },
    {
      clock: hooks.clock ?? SYSTEM_CLOCK,
      signal: hooks.signal,
      onProgress: (done, all) => hooks.onProgress?.(done, all, what),
      onStart: (at) => {
        startMs = at
      },
    },
  ).finally(() => lag.disable())
  // The histogram's resolution of 1 ms is in every value.
  const clientLagP99Ms = lag.count > 0 ? Math.max(0, lag.percentile(99) / 1e6 - 1) : null
  const uniquePrompts = step.profile === 'trace' || options.sharedPrefixTokens === 0
  const places = target.places?.(Math.max(...prompts.map((prompt) => prompt.promptTokens + prompt.outputTokens))) ?? null
  const run = summarizeRun(raw, { ...step, level: options.level, clientLagP99Ms, uniquePrompts, places })
  return { run: hooks.energy === undefined ? run : { ...run, energy: await energyOfRun(hooks.energy, recording, raw, startMs) }, raw }
}

/** Of the steady window, with all tokens that came in it: those of its warm-up and of requests that were cut off took energy, too. */
async function energyOfRun(
  choice: EnergyChoice,
  recording: EnergyRecording | null,
  records: readonly RequestRecord[],
  startMs: number,
): Promise<Energy> {
  if ('reason' in choice) return notMeasured(choice.reason)
  const steady = steadyWindow(records)
  if (recording === null || steady === null) return notMeasured('No request was completed.')
  const window = await recording.between(startMs + steady.fromMs, startMs + steady.toMs)
  const requests = records.filter((record) => !record.isWarmup && record.status === 'completed').length
  return energyOf(choice, window, { requests, outputTokens: tokensWithin(records, steady) })
}

async function tracePrompts(options: ServedBenchmarkOptions, seed: number, tokenize: Tokenize | null): Promise<LoadPrompt[]> {
  const prompts: LoadPrompt[] = []
  for (const [i, entry] of (options.trace ?? []).entries()) {
    prompts.push(
      ...(await syntheticPrompts(
        { count: 1, promptTokens: entry.promptTokens, outputTokens: entry.outputTokens, sharedPrefixTokens: 0, seed: seed * 131 + i },
        tokenize,
      )),
    )
  }
  return prompts
}

function describeStep({ profile, concurrency, rate }: Step): string {
  if (rate !== null) return `${profile} ${rate.toPrecision(3)} req/s`
  return profile === 'concurrent' ? `concurrent ${concurrency}` : profile
}

function describeLoad(options: ServedBenchmarkOptions, exact: boolean): string {
  if (options.profile === 'trace') return `trace of ${options.trace?.length ?? 0} requests, seed ${options.seed}`
  const prefix = options.sharedPrefixTokens > 0 ? `shared prefix of ${options.sharedPrefixTokens}` : 'unique prefixes'
  return `synthetic ${exact ? '' : 'about '}${options.promptTokens}+${options.outputTokens} tokens, ${prefix}, seed ${options.seed}`
}
