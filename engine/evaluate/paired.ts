/**
 * Two models on the same items: how large the difference is, how sure one can be, and what to conclude (specs/evaluation.md §8, §9).
 * Right-or-wrong answers use the score test of flips.ts: with none of 40 items flipped, a normal interval would claim certainty. Other scores use the
 * error of the paired differences. A group of tasks is compared as what its tasks' differences add up to.
 * Knows nothing of tasks or files.
 */
import type { PairedComparison, Verdict } from '../contract/index.ts'
import { flipVariance, tangoInterval, verdictOfFlips, Z_ONE_SIDED } from './flips.ts'
import type { Flips } from './flips.ts'
import { recoveryOf, recoveryOfStrata } from './recovery.ts'
import {
  clusteredStandardError,
  mcnemarMidP,
  meanWithError,
  minimumDetectableDifference,
  stratifiedStandardError,
  Z95,
} from './statistics.ts'

/** Quantile of 80 % power. */
const Z_POWER = 0.8416212335729143
/** Below this many disagreements the normal interval of a difference is too narrow; Tango's replaces it. */
const FEW_DISAGREEMENTS = 10

export interface PairedScores {
  readonly baselineId: string
  /** One number per item, the same items in the same order. Right or wrong: 1 or 0. */
  readonly baseline: readonly number[]
  readonly candidate: readonly number[]
  readonly higherIsBetter: boolean
  /** Allowed loss in the metric's unit; null = no verdict. */
  readonly margin: number | null
  /** Score of guessing; null where guessing has none. */
  readonly chance: number | null
  /** Items whose answer changed in any way; null where not known. */
  readonly changed?: number | null
  /** log p of the right answer per item; null where not known. */
  readonly logLikelihoods?: { readonly baseline: readonly number[]; readonly candidate: readonly number[] } | null
  readonly warnings?: readonly string[]
  /** Per item, what it shares with others: items of one cluster are not independent. null or absent: each stands alone. */
  readonly clusters?: readonly string[] | null
  /** False for unbounded figures such as a perplexity, whose ratio is no recovery. */
  readonly hasRecovery?: boolean
}

/** Throws RangeError when the numbers of items differ or are 0. */
export function comparePaired(scores: PairedScores): PairedComparison {
  const { baseline, candidate, higherIsBetter, margin } = scores
  const n = baseline.length
  if (n !== candidate.length || n === 0) throw new RangeError(`Paired scores differ in number or are none: ${n} and ${candidate.length}`)
  const differences = baseline.map((value, i) => (candidate[i] ?? Number.NaN) - value)
  const clusters = scores.clusters ?? null
  const { mean: difference, standardError: independent } = meanWithError(differences)
  const standardError = clusters === null ? independent : clusteredStandardError(differences, clusters)
  // The tests of right and wrong take every item for itself.
  const binary = clusters === null && [baseline, candidate].every((values) => values.every((value) => value === 0 || value === 1))
  const better = differences.filter((value) => value > 0).length
  const worse = differences.filter((value) => value < 0).length
  const [gained, lost] = higherIsBetter ? [better, worse] : [worse, better]
  const sign = higherIsBetter ? 1 : -1
  const flips = [{ gained, lost, n, weight: 1 }]
  const variance = (standardError ?? 0) ** 2 * n
  const wald: [number, number] = [difference - Z95 * (standardError ?? 0), difference + Z95 * (standardError ?? 0)]
  const verdict = margin === null ? null : binary ? verdictOfFlips(flips, margin) : verdictOfMean(difference * sign, standardError, margin)
  const recovery = scores.hasRecovery === false ? null : recoveryOf(scores)
  return {
    baselineId: scores.baselineId,
    difference,
    interval: binary && gained + lost < FEW_DISAGREEMENTS ? ordered(tangoInterval(flips).map((value) => value * sign)) : wald,
    recovery: recovery?.raw ?? null,
    mcnemarP: binary ? mcnemarMidP(lost, gained) : null,
    pairing: 'paired',
    standardError,
    margin,
    verdict,
    itemsNeeded:
      verdict === 'inconclusive' && margin !== null ? itemsNeeded(difference * sign, variance, margin, binary ? flips : null) : null,
    minimumDetectableDifference: detectableOf(binary ? flips : null, standardError),
    recoveryInterval: recovery?.rawInterval ?? null,
    adjustedRecovery: recovery?.adjusted ?? null,
    adjustedRecoveryInterval: recovery?.adjustedInterval ?? null,
    lost: binary ? lost : null,
    gained: binary ? gained : null,
    changed: scores.changed ?? null,
    holmP: null,
    logLikelihoodDifference: logLikelihoodDifference(scores.logLikelihoods ?? null),
    warnings: [...(scores.warnings ?? [])],
  }
}

/** One task of a group, compared by itself. */
export interface GroupPart {
  /** Of the task's difference in the group's: its share of the items, or the same for all. They add up to 1. */
  readonly weight: number
  readonly n: number
  readonly paired: PairedComparison
  /** What it was made of; null where the scores are no means, which have no recovery. */
  readonly scores: Pick<PairedScores, 'baseline' | 'candidate' | 'clusters'> | null
}

/**
 * A group's score beside the baseline's on the same items. Tasks are given, items are drawn, and those of different tasks don't know of each other: the
 * variance of Σ w·d is Σ w²·SE(d)². (That of the group's own score by lm-eval's pooled formula is neither paired nor made for equal weights.)
 */
export function comparePairedGroup(
  parts: readonly GroupPart[],
  options: Pick<PairedScores, 'baselineId' | 'higherIsBetter' | 'margin' | 'chance'>,
): PairedComparison {
  const { baselineId, higherIsBetter, margin, chance } = options
  const sign = higherIsBetter ? 1 : -1
  const items = parts.reduce((sum, { n }) => sum + n, 0)
  const total = (of: (part: GroupPart) => number): number => parts.reduce((sum, part) => sum + of(part), 0)
  const difference = total(({ weight, paired }) => weight * paired.difference)
  const standardError = stratifiedStandardError(parts.map(({ weight, paired }) => ({ weight, standardError: paired.standardError })))
  const half = Z95 * (standardError ?? 0)
  const strata = parts.flatMap(({ weight, n, paired: { lost, gained } }) =>
    lost === null || gained === null ? [] : [{ lost, gained, n, weight }],
  )
  const flips = strata.length === parts.length ? strata : null
  const verdict =
    margin === null ? null : flips === null ? verdictOfMean(difference * sign, standardError, margin) : verdictOfFlips(flips, margin)
  const [lost, gained] =
    flips === null ? [null, null] : [flips.reduce((sum, one) => sum + one.lost, 0), flips.reduce((sum, one) => sum + one.gained, 0)]
  const bySize = parts.every(({ weight, n }) => Math.abs(weight * items - n) < 1e-6 * items)
  const scores = parts.flatMap(({ weight, scores: own }) => (own === null ? [] : [{ ...own, weight }]))
  const recovery = scores.length === parts.length ? recoveryOfStrata(scores, { higherIsBetter, chance }) : null
  const changed = parts.map(({ paired }) => paired.changed ?? Number.NaN).reduce((sum, count) => sum + count, 0)
  return {
    baselineId,
    difference,
    interval: flips === null ? [difference - half, difference + half] : ordered(tangoInterval(flips).map((value) => value * sign)),
    recovery: recovery?.raw ?? null,
    // Flips of differently weighted tasks count differently in the score, and not in this test.
    mcnemarP: lost !== null && gained !== null && bySize ? mcnemarMidP(lost, gained) : null,
    pairing: 'paired',
    standardError,
    margin,
    verdict,
    itemsNeeded:
      verdict === 'inconclusive' && margin !== null
        ? itemsNeeded(difference * sign, (standardError ?? 0) ** 2 * items, margin, flips)
        : null,
    minimumDetectableDifference: detectableOf(flips, standardError),
    recoveryInterval: recovery?.rawInterval ?? null,
    adjustedRecovery: recovery?.adjusted ?? null,
    adjustedRecoveryInterval: recovery?.adjustedInterval ?? null,
    lost,
    gained,
    changed: Number.isNaN(changed) ? null : changed,
    holmP: null,
    logLikelihoodDifference: groupLogLikelihood(parts),
    warnings: [...new Set(parts.flatMap(({ paired }) => paired.warnings))],
    strata: flips,
  }
}

function groupLogLikelihood(parts: readonly GroupPart[]): PairedComparison['logLikelihoodDifference'] {
  const known = parts.flatMap(({ weight, paired: { logLikelihoodDifference: own } }) => (own === null ? [] : [{ weight, ...own }]))
  if (known.length < parts.length) return null
  const mean = known.reduce((sum, { weight, mean: own }) => sum + weight * own, 0)
  // The intervals are symmetrical and of the same number of errors.
  const half = Math.hypot(...known.map(({ weight, mean: own, interval: [, high] }) => weight * (high - own)))
  return { mean, interval: [mean - half, mean + half] }
}

/** Smallest difference shown with 80 % power at α = 0.05. */
function detectableOf(flips: readonly Flips[] | null, standardError: number | null): number | null {
  // Shares can't differ by more than all of the items.
  if (flips !== null) return Math.min(1, minimumDetectableDifference(flipVariance(flips), 1))
  return minimumDetectableBy(standardError)
}

/** The same from a standard error. */
export function minimumDetectableBy(standardError: number | null): number | null {
  return standardError === null ? null : (Z95 + Z_POWER) * standardError
}

export interface UnpairedScore {
  readonly value: number
  /** null where nobody says. */
  readonly standardError: number | null
  /** Items; 0 where nobody says. */
  readonly n: number
}

/**
 * A score beside one whose items are not known: only both standard errors are left, and no test on items. Without them there is no verdict, and the
 * interval, which has no width then, means nothing.
 */
export function compareUnpaired(
  baseline: UnpairedScore & { readonly id: string },
  candidate: UnpairedScore,
  options: {
    readonly higherIsBetter: boolean
    readonly margin: number | null
    readonly warnings: readonly string[]
    readonly isShare: boolean
  },
): PairedComparison {
  const difference = candidate.value - baseline.value
  const errors = [baseline, candidate].map((score) => (options.isShare ? errorOfShare(score) : score.standardError))
  const [ofBaseline = null, ofCandidate = null] = errors
  const standardError = ofBaseline === null || ofCandidate === null ? null : Math.hypot(ofBaseline, ofCandidate)
  const half = Z95 * (standardError ?? 0)
  const sign = options.higherIsBetter ? 1 : -1
  const [top, bottom] = options.higherIsBetter ? [candidate.value, baseline.value] : [baseline.value, candidate.value]
  const detectable = minimumDetectableBy(standardError)
  return {
    baselineId: baseline.id,
    difference,
    interval: [difference - half, difference + half],
    recovery: options.isShare && bottom > 0 ? top / bottom : null,
    mcnemarP: null,
    pairing: 'unpaired',
    standardError,
    margin: options.margin,
    verdict: options.margin === null || standardError === null ? null : verdictOfMean(difference * sign, standardError, options.margin),
    itemsNeeded: null,
    minimumDetectableDifference: detectable === null ? null : options.isShare ? Math.min(1, detectable) : detectable,
    recoveryInterval: null,
    adjustedRecovery: null,
    adjustedRecoveryInterval: null,
    lost: null,
    gained: null,
    changed: null,
    holmP: null,
    logLikelihoodDifference: null,
    warnings: [
      ...options.warnings,
      ...(standardError === null ? ['A standard error is not known: there is no telling whether the two scores differ.'] : []),
    ],
  }
}

/**
 * With two more of each answer (Agresti and Coull, The American Statistician 52, 1998): all of 40 right has an error of 0 by the usual formula, as if
 * another 40 could not turn out otherwise. Never less than what is said, which may know of clusters. null where neither error nor items are known.
 */
function errorOfShare({ value, standardError, n }: UnpairedScore): number | null {
  if (n < 1) return standardError === 0 ? null : standardError
  const share = (value * n + 2) / (n + 4)
  return Math.max(standardError ?? 0, Math.sqrt((share * (1 - share)) / (n + 4)))
}

/** `gain` > 0 is an improvement. */
function verdictOfMean(gain: number, standardError: number | null, margin: number): Verdict {
  if (standardError === null) return 'inconclusive'
  // Equal on every item: there is no noise left to doubt.
  if (standardError === 0) return gain >= -margin ? 'non-inferior' : 'worse'
  const score = (gain + margin) / standardError
  if (score > Z_ONE_SIDED) return 'non-inferior'
  return score < -Z_ONE_SIDED ? 'worse' : 'inconclusive'
}

/**
 * Items for 80 % power at the difference and spread seen, every task of a group growing alike; null where the difference sits on the margin and no number
 * would do. `variance` is that of one item.
 */
function itemsNeeded(gain: number, variance: number, margin: number, flips: readonly Flips[] | null): number | null {
  const distance = Math.abs(gain + margin)
  if (distance === 0) return null
  const bySpread = ((Z_ONE_SIDED + Z_POWER) ** 2 * variance) / distance ** 2
  // Without any flip the corrected score passes at (n·margin − ½) / √(n·margin) = z, that is n·margin = 3.64; later where tasks of few items weigh as
  // much as those of many.
  const least = flips !== null && margin > 0 ? (3.64 / margin) * unevenness(flips) : 0
  const items = Math.ceil(Math.max(bySpread, least))
  return Number.isSafeInteger(items) && items < 1e9 ? items : null
}

/** How many times more items the weights ask for than weights by size would: 1 for those. */
function unevenness(flips: readonly Flips[]): number {
  const items = flips.reduce((sum, { n }) => sum + n, 0)
  return flips.reduce((sum, { weight, n }) => sum + (items * weight ** 2) / n, 0)
}

function logLikelihoodDifference(values: PairedScores['logLikelihoods']): PairedComparison['logLikelihoodDifference'] {
  if (values === null || values === undefined) return null
  const { mean, standardError } = meanWithError(values.baseline.map((value, i) => (values.candidate[i] ?? Number.NaN) - value))
  if (!Number.isFinite(mean)) return null
  const half = Z95 * (standardError ?? 0)
  return { mean, interval: [mean - half, mean + half] }
}

function ordered(values: readonly number[]): [number, number] {
  const [a = 0, b = 0] = values
  return a <= b ? [a, b] : [b, a]
}

/** Holm's step-down p values, in the order given; null stays null and does not count. */
export function holm(pValues: readonly (number | null)[]): (number | null)[] {
  const order = pValues.flatMap((p, index) => (p === null ? [] : [{ p, index }])).toSorted((a, b) => a.p - b.p)
  const adjusted: (number | null)[] = pValues.map(() => null)
  let running = 0
  for (const [rank, { p, index }] of order.entries()) {
    running = Math.max(running, Math.min(1, p * (order.length - rank)))
    adjusted[index] = running
  }
  return adjusted
}

/** The same comparison judged against another margin. Right and wrong answers are recognised by their counts of flips. */
export function withMargin(paired: PairedComparison, margin: number, n: number, higherIsBetter: boolean): PairedComparison {
  const gain = paired.difference * (higherIsBetter ? 1 : -1)
  const { lost, gained, standardError } = paired
  const flips = paired.strata ?? (lost !== null && gained !== null ? [{ lost, gained, n, weight: 1 }] : null)
  if (flips === null && paired.pairing === 'unpaired' && standardError === null) return { ...paired, margin }
  const verdict = flips === null ? verdictOfMean(gain, standardError, margin) : verdictOfFlips(flips, margin)
  const variance = (standardError ?? 0) ** 2 * n
  return { ...paired, margin, verdict, itemsNeeded: verdict === 'inconclusive' ? itemsNeeded(gain, variance, margin, flips) : null }
}
