/**
 * Uncertainty of scores and of differences between two models on the same items (specs/evaluation.md §3, §8, §9).
 * Pure functions on arrays of numbers; they know nothing of models, tokens or files.
 */
import { createIndexSampler } from './random.ts'

/** Two-sided 95 % quantile of the normal distribution. */
export const Z95 = 1.959963984540054

export interface MeanEstimate {
  readonly mean: number
  /** s/√n with the n−1 sample deviation; null when n < 2. */
  readonly standardError: number | null
  readonly n: number
}

export function meanWithError(values: ArrayLike<number>): MeanEstimate {
  const n = values.length
  if (n === 0) return { mean: Number.NaN, standardError: null, n }
  let sum = 0
  for (let i = 0; i < n; i++) sum += values[i] ?? 0
  const mean = sum / n
  if (n < 2) return { mean, standardError: null, n }
  let squares = 0
  for (let i = 0; i < n; i++) squares += ((values[i] ?? 0) - mean) ** 2
  return { mean, standardError: Math.sqrt(squares / (n - 1) / n), n }
}

/** Quantile with linear interpolation (NumPy's default). `sorted` ascending, p in [0, 1]. */
export function quantileOfSorted(sorted: ArrayLike<number>, p: number): number {
  const last = sorted.length - 1
  if (last < 0) return Number.NaN
  const at = p * last
  const low = Math.floor(at)
  const below = sorted[low] ?? Number.NaN
  const above = sorted[Math.min(low + 1, last)] ?? Number.NaN
  return below + (above - below) * (at - low)
}

/** Wilson score interval, 95 %: honest near 0 and 1, where mean ± 2·SE leaves [0, 1]. */
export function wilsonInterval(successes: number, n: number): [number, number] {
  if (n === 0) return [0, 1]
  const p = successes / n
  const z2n = (Z95 * Z95) / n
  const centre = (p + z2n / 2) / (1 + z2n)
  const half = (Z95 * Math.sqrt((p * (1 - p)) / n + z2n / (4 * n))) / (1 + z2n)
  return [Math.max(0, centre - half), Math.min(1, centre + half)]
}

/** ln C(n, k) by summing logs; n here is a count of disagreements, so the loop is short. */
function logChoose(n: number, k: number): number {
  let sum = 0
  for (let i = 1; i <= k; i++) sum += Math.log(n - k + i) - Math.log(i)
  return sum
}

/**
 * McNemar's test on discordant pairs, mid-p variant: exact binomial two-sided p minus the probability of the observed count, of which only half is
 * taken when both sides are equal and it was counted once (Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013).
 * `onlyBaseline` items only the baseline got right, `onlyCandidate` the reverse. 1 when there are no discordant pairs.
 */
export function mcnemarMidP(onlyBaseline: number, onlyCandidate: number): number {
  const n = onlyBaseline + onlyCandidate
  if (n === 0) return 1
  const k = Math.min(onlyBaseline, onlyCandidate)
  let cumulative = 0
  for (let i = 0; i <= k; i++) cumulative += Math.exp(logChoose(n, i) - n * Math.LN2)
  const observed = Math.exp(logChoose(n, k) - n * Math.LN2)
  return onlyBaseline === onlyCandidate ? 1 - observed / 2 : Math.min(1, 2 * cumulative) - observed
}

export interface PairedComparison {
  /** mean(candidate − baseline) over items. */
  readonly difference: number
  /** 95 % interval of the difference, from the standard error of paired differences. */
  readonly interval: [number, number]
  /** Two-sided mid-p McNemar. */
  readonly mcnemarP: number
  readonly onlyBaseline: number
  readonly onlyCandidate: number
}

/** Compares right/wrong answers on the same items in the same order. Throws RangeError if the lengths differ. */
export function comparePairedAnswers(baseline: readonly boolean[], candidate: readonly boolean[]): PairedComparison {
  if (baseline.length !== candidate.length)
    throw new RangeError(`Paired answers differ in number: ${baseline.length} and ${candidate.length}`)
  let onlyBaseline = 0
  let onlyCandidate = 0
  const differences = baseline.map((right, i) => {
    const other = candidate[i] === true
    if (right && !other) onlyBaseline++
    if (!right && other) onlyCandidate++
    return Number(other) - Number(right)
  })
  const { mean, standardError } = meanWithError(differences)
  const half = Z95 * (standardError ?? 0)
  return {
    difference: mean,
    interval: [mean - half, mean + half],
    mcnemarP: mcnemarMidP(onlyBaseline, onlyCandidate),
    onlyBaseline,
    onlyCandidate,
  }
}

/**
 * Standard error of a ratio of sums Σnumerator / Σdenominator by bootstrap over units (documents or windows); null when there are fewer
 * than two units. The replicates' n−1 deviation is returned.
 */
export function bootstrapRatioError(
  numerators: ArrayLike<number>,
  denominators: ArrayLike<number>,
  options: { readonly resamples: number; readonly seed: number },
): number | null {
  const n = numerators.length
  if (n < 2) return null
  const pick = createIndexSampler(options.seed)
  const ratios = new Float64Array(options.resamples)
  for (let r = 0; r < options.resamples; r++) {
    let top = 0
    let bottom = 0
    for (let i = 0; i < n; i++) {
      const j = pick(n)
      top += numerators[j] ?? 0
      bottom += denominators[j] ?? 0
    }
    ratios[r] = top / bottom
  }
  const { standardError } = meanWithError(ratios)
  return standardError === null ? null : standardError * Math.sqrt(options.resamples)
}

/** Smallest difference that n paired items can show with 80 % power at α = 0.05, given the share of items whose answer flips. */
export function minimumDetectableDifference(flipRate: number, n: number): number {
  return (2.8 * Math.sqrt(flipRate)) / Math.sqrt(n)
}

/**
 * Standard error of a size-weighted group score from its tasks' errors, lm-eval's pooled formula (specs/evaluation.md §3). It ignores variance
 * between tasks. null when a task has no error.
 */
export function pooledStandardError(parts: readonly { readonly standardError: number | null; readonly n: number }[]): number | null {
  let squares = 0
  let total = 0
  for (const { standardError, n } of parts) {
    if (standardError === null) return null
    squares += (n - 1) * n * standardError ** 2
    total += n
  }
  return total > parts.length ? Math.sqrt(squares / (total - parts.length) / total) : null
}

/** Standard error of Σ weight·estimate of independent estimates; null when one has no error. */
export function stratifiedStandardError(
  parts: readonly { readonly weight: number; readonly standardError: number | null }[],
): number | null {
  let variance = 0
  for (const { weight, standardError } of parts) {
    if (standardError === null) return null
    variance += (weight * standardError) ** 2
  }
  return Math.sqrt(variance)
}

/** Standard error of a mean over clusters of items: residuals are summed within a cluster before squaring (Miller, arXiv 2411.00640). */
export function clusteredStandardError(values: readonly number[], clusters: readonly (string | number)[]): number | null {
  const n = values.length
  if (n < 2 || new Set(clusters).size < 2) return null
  const { mean } = meanWithError(values)
  const sums = new Map<string | number, number>()
  for (const [i, value] of values.entries()) sums.set(clusters[i] ?? i, (sums.get(clusters[i] ?? i) ?? 0) + value - mean)
  let squares = 0
  for (const sum of sums.values()) squares += sum * sum
  return Math.sqrt(squares) / n
}
