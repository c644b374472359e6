/**
 * Recovery: a score as a share of the baseline's on the same items, raw and above chance, with 95 % intervals (specs/evaluation.md §8). Of right and
 * wrong answers the raw one has the score interval for a ratio of paired proportions (Nam and Blackwelder, Statistics in Medicine 21, 2002), which holds
 * the truth as often as it says and does not claim certainty where no answer flipped; the others are bootstrapped over items.
 */
import { tangoInterval } from './flips.ts'
import { createIndexSampler } from './random.ts'
import { meanWithError, quantileOfSorted, stratifiedStandardError, Z95 } from './statistics.ts'

/** Fixed, so that a repeated comparison prints the same interval. */
const BOOTSTRAP_SEED = 20261123
/** Picks of one bootstrap; fewer resamples for long lists keep it under a second. */
const BOOTSTRAP_RESAMPLES = 10_000
const BOOTSTRAP_PICKS = 20e6
/** Below this many disagreements a bootstrap knows too few of them; with none it would claim certainty. */
const FEW_DISAGREEMENTS = 10
/** Chance-adjusted recovery divides by the baseline's distance from chance, which must be known to some digits (specs/evaluation.md §8). */
const LEAST_DISTANCE_IN_ERRORS = 3

export interface Recovery {
  readonly raw: number
  readonly rawInterval: [number, number] | null
  readonly adjusted: number | null
  readonly adjustedInterval: [number, number] | null
}

export interface RecoveryScores {
  readonly baseline: readonly number[]
  readonly candidate: readonly number[]
  readonly higherIsBetter: boolean
  /** Score of guessing; null where guessing has none. */
  readonly chance: number | null
  readonly clusters?: readonly string[] | null
}

/** A task of a group, or one alone with a weight of 1. */
export interface Stratum extends Pick<RecoveryScores, 'baseline' | 'candidate' | 'clusters'> {
  /** Of its mean in the whole. */
  readonly weight: number
}

/** null where the baseline has nothing to recover. */
export function recoveryOf(scores: RecoveryScores): Recovery | null {
  return recoveryOfStrata([{ ...scores, weight: 1 }], scores)
}

/** Of the weighted mean of several tasks: the ratio of averages, never an average of ratios. */
export function recoveryOfStrata(
  strata: readonly Stratum[],
  { higherIsBetter, chance }: Pick<RecoveryScores, 'higherIsBetter' | 'chance'>,
): Recovery | null {
  const of = (b: number, c: number, floor: number): number => (higherIsBetter ? (c - floor) / (b - floor) : b / c)
  const meanOf = (pick: (stratum: Stratum) => readonly number[]): number =>
    strata.reduce((sum, stratum) => sum + stratum.weight * meanWithError(pick(stratum)).mean, 0)
  const [before, after] = [meanOf(({ baseline }) => baseline), meanOf(({ candidate }) => candidate)]
  const raw = of(before, after, 0)
  if (!Number.isFinite(raw)) return null
  const baseError = stratifiedStandardError(
    strata.map(({ weight, baseline }) => ({ weight, standardError: meanWithError(baseline).standardError })),
  )
  const canAdjust =
    chance !== null &&
    higherIsBetter &&
    baseError !== null &&
    before - chance >= Math.max(LEAST_DISTANCE_IN_ERRORS * baseError, Number.EPSILON)
  const floor = chance ?? 0
  const counts = higherIsBetter ? countsOfEach(strata) : null
  const rawInterval = counts === null ? bootstrapStrata(strata, (b, c) => of(b, c, 0)) : countedInterval(strata, counts, before)
  const isBootstrapped = counts === null || hasManyFlips(counts)
  // The same bounds of the candidate's score, above chance: the baseline's own error hardly matters to a ratio near 1.
  const aboveChance = (ratio: number): number => of(before, ratio * before, floor)
  return {
    raw,
    rawInterval,
    adjusted: canAdjust ? of(before, after, floor) : null,
    adjustedInterval: !canAdjust
      ? null
      : isBootstrapped
        ? bootstrapStrata(strata, (b, c) => of(b, c, floor))
        : rawInterval && [aboveChance(rawInterval[0]), aboveChance(rawInterval[1])],
  }
}

/** Of independent right and wrong answers; null for anything else. */
function countsOfEach(strata: readonly Stratum[]): PairedCounts[] | null {
  const isBinary = strata.every(
    ({ baseline, candidate, clusters }) =>
      (clusters ?? null) === null && [baseline, candidate].every((values) => values.every((value) => value === 0 || value === 1)),
  )
  return isBinary ? strata.map(({ baseline, candidate }) => countsOf(baseline, candidate)) : null
}

function hasManyFlips(counts: readonly PairedCounts[]): boolean {
  return counts.reduce((sum, { lost, gained }) => sum + lost + gained, 0) >= FEW_DISAGREEMENTS
}

/** Of a group of few flips, the bounds of the difference on top of the baseline's score, whose own error hardly matters to a ratio near 1. */
function countedInterval(strata: readonly Stratum[], counts: readonly PairedCounts[], before: number): [number, number] | null {
  const [first, ...others] = counts
  if (first !== undefined && others.length === 0) return ratioInterval(first)
  if (hasManyFlips(counts)) return bootstrapStrata(strata, (b, c) => c / b)
  const [low, high] = tangoInterval(counts.map((count, i) => ({ ...count, weight: strata[i]?.weight ?? 0 })))
  return [Math.max(0, 1 + low / before), 1 + high / before]
}

/** Answers right with both, with the baseline only, with the candidate only, and all. */
export interface PairedCounts {
  readonly both: number
  readonly lost: number
  readonly gained: number
  readonly n: number
}

function countsOf(baseline: readonly number[], candidate: readonly number[]): PairedCounts {
  const count = (before: number, after: number): number => baseline.filter((value, i) => value === before && candidate[i] === after).length
  return { both: count(1, 1), lost: count(1, 0), gained: count(0, 1), n: baseline.length }
}

/** Score of H₀: P(candidate right) = ratio · P(baseline right); falls as the ratio grows. */
function ratioScore({ both, lost, gained, n }: PairedCounts, ratio: number): number {
  const [after, before] = [(both + gained) / n, (both + lost) / n]
  const distance = after - ratio * before
  // The maximum-likelihood shares of lost and gained answers under H₀.
  const root = Math.sqrt((after - ratio ** 2 * before) ** 2 + (4 * ratio ** 2 * gained * lost) / n ** 2)
  const lostShare = Math.max(0, (ratio ** 2 * (before + (2 * gained) / n) - after + root) / (2 * ratio * (ratio + 1)))
  const gainedShare = Math.max(0, ratio * lostShare - ((ratio - 1) * (both + lost + gained)) / n)
  const variance = ratio * (lostShare + gainedShare)
  if (variance <= 0) return distance === 0 ? 0 : Math.sign(distance) * Infinity
  return (Math.sqrt(n) * distance) / Math.sqrt(variance)
}

/** Both ratios at which the two-sided 95 % test turns; null where the baseline got nothing right. */
export function ratioInterval(counts: PairedCounts): [number, number] | null {
  if (counts.both + counts.lost === 0) return null
  const edge = (target: number): number => {
    // Ratios of scores, as logarithms: from 1/1024 to 1024 of the baseline's.
    let low = -10
    let high = 10
    // 2^-47 of that range is finer than any count of items.
    for (let i = 0; i < 52; i++) {
      const middle = (low + high) / 2
      if (ratioScore(counts, 2 ** middle) > target) low = middle
      else high = middle
    }
    return 2 ** ((low + high) / 2)
  }
  // A candidate without a right answer may be nothing of the baseline.
  return [counts.both + counts.gained === 0 ? 0 : edge(Z95), edge(-Z95)]
}

/** What is resampled: items, or whole clusters of them. */
interface Units {
  readonly baseline: Float64Array
  readonly candidate: Float64Array
  readonly sizes: Float64Array
}

function unitsOf(baseline: readonly number[], candidate: readonly number[], clusters: readonly string[] | null): Units {
  if (clusters === null)
    return {
      baseline: Float64Array.from(baseline),
      candidate: Float64Array.from(candidate),
      sizes: new Float64Array(baseline.length).fill(1),
    }
  const groups = [...Map.groupBy(baseline.keys(), (item) => clusters[item] ?? String(item)).values()]
  const sums = (values: readonly number[]): Float64Array =>
    Float64Array.from(groups, (items) => items.reduce((sum, item) => sum + (values[item] ?? 0), 0))
  return { baseline: sums(baseline), candidate: sums(candidate), sizes: Float64Array.from(groups, (items) => items.length) }
}

interface BootstrapOptions {
  readonly seed?: number
  readonly resamples?: number
}

/**
 * 95 % percentile interval of a statistic of two means, items (or clusters of them) resampled once for both; null for fewer than two of them.
 */
export function bootstrapPaired(
  baseline: readonly number[],
  candidate: readonly number[],
  statistic: (baselineMean: number, candidateMean: number) => number,
  { clusters = null, ...options }: BootstrapOptions & { readonly clusters?: readonly string[] | null } = {},
): [number, number] | null {
  return bootstrapStrata([{ baseline, candidate, clusters, weight: 1 }], statistic, options)
}

/** The same of weighted means over tasks, each resampled within itself; null where one has fewer than two units. */
export function bootstrapStrata(
  strata: readonly Stratum[],
  statistic: (baselineMean: number, candidateMean: number) => number,
  options: BootstrapOptions = {},
): [number, number] | null {
  const parts = strata.map(({ baseline, candidate, clusters = null, weight }) => ({
    weight,
    units: unitsOf(baseline, candidate, clusters),
  }))
  if (parts.some(({ units }) => units.sizes.length < 2)) return null
  const picks = parts.reduce((sum, { units }) => sum + units.sizes.length, 0)
  const resamples = options.resamples ?? Math.max(1000, Math.min(BOOTSTRAP_RESAMPLES, Math.floor(BOOTSTRAP_PICKS / picks)))
  const pick = createIndexSampler(options.seed ?? BOOTSTRAP_SEED)
  const values: number[] = []
  for (let r = 0; r < resamples; r++) {
    let baselineMean = 0
    let candidateMean = 0
    for (const { weight, units } of parts) {
      const n = units.sizes.length
      let b = 0
      let c = 0
      let items = 0
      for (let i = 0; i < n; i++) {
        const j = pick(n)
        b += units.baseline[j] ?? 0
        c += units.candidate[j] ?? 0
        items += units.sizes[j] ?? 0
      }
      baselineMean += (weight * b) / items
      candidateMean += (weight * c) / items
    }
    const value = statistic(baselineMean, candidateMean)
    if (Number.isFinite(value)) values.push(value)
  }
  // A statistic that most resamples can't form has no interval.
  if (values.length < resamples * 0.9) return null
  const sorted = Float64Array.from(values).toSorted()
  return [quantileOfSorted(sorted, 0.025), quantileOfSorted(sorted, 0.975)]
}
