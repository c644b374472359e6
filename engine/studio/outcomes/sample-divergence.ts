/**
 * How far a model's output is from its original's on token sequences: the measure that presets choose by. Samples are scored as they were cut,
 * each with a fresh context, as calibration runs them.
 */
import { bootstrapRatioError } from '../../evaluate/statistics.ts'
import type { Runtime, ScorePair } from '../../runtime/types.ts'

/** Of samples, whose tokens are correlated; fixed, so that the same run prints the same error. */
const BOOTSTRAP = { resamples: 1000, seed: 20261123 } as const

export interface SampleDivergence {
  /** KL(original ‖ candidate), nats per token; infinite where a model gives no numbers. */
  readonly kldMean: number
  readonly kldStandardError: number | null
  readonly top1Agreement: number | null
  readonly tokens: number
}

export interface SamplePair {
  readonly baseline: Runtime
  readonly candidate: Runtime
  readonly scorePair: ScorePair
}

export interface DivergenceProgress {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (doneTokens: number, totalTokens: number) => void
}

/** Samples of one token say nothing and are left out. */
export async function measureSamples(
  { baseline, candidate, scorePair }: SamplePair,
  samples: readonly Uint32Array[],
  { signal, onProgress }: DivergenceProgress = {},
): Promise<SampleDivergence> {
  const scored = samples.filter((tokens) => tokens.length > 1)
  const total = scoredTokens(scored)
  const kld: number[] = []
  const tokens: number[] = []
  let agreed = 0
  let done = 0
  for (const sample of scored) {
    const before = done
    const rows = await scorePair(baseline, candidate, {
      tokens: sample,
      from: 1,
      signal,
      onProgress: (soFar) => onProgress?.(before + soFar, total),
    })
    // Rounding can leave a tiny negative value where the distributions are equal.
    kld.push(rows.kld.reduce((sum, value) => sum + Math.max(0, value), 0))
    tokens.push(rows.kld.length)
    rows.baselineArgmax.forEach((id, i) => {
      if (id === rows.candidateArgmax[i]) agreed++
    })
    done += rows.kld.length
    onProgress?.(done, total)
  }
  const mean = kld.reduce((sum, value) => sum + value, 0) / total
  return {
    kldMean: Number.isFinite(mean) ? mean : Number.POSITIVE_INFINITY,
    kldStandardError: bootstrapRatioError(kld, tokens, BOOTSTRAP),
    top1Agreement: total > 0 ? agreed / total : null,
    tokens: total,
  }
}

/** The first token of a sample is given, not predicted. */
export function scoredTokens(samples: readonly Uint32Array[]): number {
  return samples.reduce((sum, tokens) => sum + Math.max(0, tokens.length - 1), 0)
}

/** Whole samples from the start until there are so many tokens; one at least. */
export function firstSamples(samples: readonly Uint32Array[], tokens: number): readonly Uint32Array[] {
  let sum = 0
  const taken: Uint32Array[] = []
  for (const sample of samples) {
    if (taken.length > 0 && sum >= tokens) break
    taken.push(sample)
    sum += sample.length
  }
  return taken
}
