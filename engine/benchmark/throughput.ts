/**
 * Prefill and decode speed of models in this process, one request at a time (specs/benchmark.md §4, "in-process engine"). Subjects are
 * measured in turn within each round (A B A B …), so that thermal drift and a noisy machine hit all of them alike; warm-up rounds, which
 * also pay for shader compilation, are run and not counted. Times come from the runtime's own event clock; nothing here is an estimate.
 */
import { randomUUID } from 'node:crypto'
import { LatheError } from '../contract/errors.ts'
import type { SampleStats, ThroughputResult } from '../contract/result.ts'
import type { Runtime } from '../runtime/types.ts'

export interface ThroughputSubject {
  readonly modelId: string
  readonly runtime: Runtime
  /** Peak of the device ledger while this model was loaded and running, bytes. */
  readonly peakGpuBytes: () => number
}

export interface ThroughputOptions {
  readonly promptTokens: number
  readonly generatedTokens: number
  readonly warmups: number
  readonly repeats: number
  readonly signal?: AbortSignal
  readonly onProgress?: (doneRuns: number, totalRuns: number) => void
}

interface Run {
  readonly prefillTokensPerSecond: number
  readonly decodeTokensPerSecond: number
  readonly timeToFirstTokenMs: number
}

/** Identifies what was run; speeds with different keys or adapters must not share an axis. */
export function throughputProtocolKey(options: Pick<ThroughputOptions, 'promptTokens' | 'generatedTokens'>): string {
  return `throughput:prompt${options.promptTokens}:generate${options.generatedTokens}:batch1`
}

/** Prompt ids that walk the vocabulary by a fixed stride: reproducible, different in every round. */
export function syntheticPrompt(tokens: number, vocabulary: number, round: number): Uint32Array {
  // A stride coprime to most vocabulary sizes.
  const stride = 7919
  return Uint32Array.from({ length: tokens }, (_, index) => (17 + round * 101 + index * stride) % vocabulary)
}

export async function runOnce(runtime: Runtime, options: Omit<ThroughputOptions, 'warmups' | 'repeats'>, round: number): Promise<Run> {
  const request = {
    id: `throughput-${runtime.info.modelId}-${round}`,
    promptTokens: syntheticPrompt(options.promptTokens, runtime.info.vocabulary, round),
    sampling: { temperature: 0, topK: 0, topP: 1, minP: 0 },
    maxTokens: options.generatedTokens,
    ignoreEos: true,
    // The same prompts were asked by every benchmark before, perhaps of this very runtime: nothing of theirs may be found in its cache.
    cacheSalt: `throughput-${randomUUID()}`,
    signal: options.signal,
  }
  for await (const event of runtime.generate(request)) {
    if (event.kind !== 'finished') continue
    const { firstTokenMs, lastTokenMs, completionTokens, queueMs, promptTokens, cachedTokens } = event.stats
    if (event.reason === 'aborted') throw new LatheError('job.cancelled', 'The benchmark was cancelled.', 'Start it again when you like.')
    if (queueMs === null || firstTokenMs === null || lastTokenMs === null || completionTokens < options.generatedTokens) {
      throw new LatheError(
        'internal',
        `A benchmark run ended early (${event.reason}) after ${completionTokens} of ${options.generatedTokens} tokens.`,
        'Copy the details and report it.',
      )
    }
    return {
      prefillTokensPerSecond: ((promptTokens - cachedTokens) / (firstTokenMs - queueMs)) * 1000,
      decodeTokensPerSecond: ((completionTokens - 1) / (lastTokenMs - firstTokenMs)) * 1000,
      timeToFirstTokenMs: firstTokenMs,
    }
  }
  throw new LatheError('internal', 'A benchmark run ended without a finished event.', 'Copy the details and report it.')
}

export function summarize(values: readonly number[]): SampleStats {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN, n: sorted.length }
}

/** Ratios round by round: both ran within seconds of each other, so what slowed the one slowed the other. */
function versus(baselineId: string, baseline: readonly Run[], own: readonly Run[]): ThroughputResult['versus'] {
  const ratio = (of: (run: Run) => number) =>
    summarize(
      own.flatMap((run, round) => {
        const other = baseline[round]
        return other === undefined ? [] : [of(run) / of(other)]
      }),
    )
  return {
    baselineId,
    prefillRatio: ratio((run) => run.prefillTokensPerSecond),
    decodeRatio: ratio((run) => run.decodeTokensPerSecond),
    timeToFirstTokenRatio: ratio((run) => run.timeToFirstTokenMs),
  }
}

/** Measures all subjects interleaved; the first is what the others are compared with. Results are in the order of the subjects. */
export async function measureThroughput(subjects: readonly ThroughputSubject[], options: ThroughputOptions): Promise<ThroughputResult[]> {
  for (const { runtime, modelId } of subjects) {
    const need = options.promptTokens + options.generatedTokens
    if (need > runtime.info.contextLimit) {
      throw new LatheError(
        'runtime.context-exceeded',
        `The benchmark needs ${need} tokens of context; ${modelId} has ${runtime.info.contextLimit}.`,
        'Use a shorter prompt or load the model with more context.',
      )
    }
  }
  const runs: Run[][] = subjects.map(() => [])
  const rounds = options.warmups + options.repeats
  let done = 0
  for (let round = 0; round < rounds; round++) {
    for (const [index, subject] of subjects.entries()) {
      const run = await runOnce(subject.runtime, options, round)
      if (round >= options.warmups) runs[index]?.push(run)
      done++
      options.onProgress?.(done, rounds * subjects.length)
    }
  }
  const [baseline] = subjects
  return subjects.map((subject, index) => {
    const own = runs[index] ?? []
    const { info } = subject.runtime
    return {
      prefillTokensPerSecond: summarize(own.map((run) => run.prefillTokensPerSecond)),
      decodeTokensPerSecond: summarize(own.map((run) => run.decodeTokensPerSecond)),
      timeToFirstTokenMs: summarize(own.map((run) => run.timeToFirstTokenMs)),
      promptTokens: options.promptTokens,
      generatedTokens: options.generatedTokens,
      warmups: options.warmups,
      repeats: options.repeats,
      loadSeconds: info.loadMs / 1000,
      compileSeconds: info.compileMs === undefined || info.compileMs === null ? null : info.compileMs / 1000,
      peakGpuBytes: subject.peakGpuBytes(),
      weightGpuBytes: info.weightBytes,
      kvGpuBytes: info.kvBytes,
      interleavedWith: subjects.find((other) => other !== subject)?.modelId ?? null,
      bandwidthShare: null,
      versus: index === 0 || baseline === undefined ? null : versus(baseline.modelId, runs[0] ?? [], own),
      points: [],
    }
  })
}
