/**
 * Two models on the same items: how large the difference is, how sure one can be, and what to conclude (specs/evaluation.md §8, §9).
 * Right-or-wrong answers use Tango's score test for paired proportions (Statistics in Medicine 17, 1998), which stays honest when few or no
 * answers flip: with none of 40 items flipped, a normal interval would claim certainty. Other scores use the error of the paired differences.
 * Knows nothing of tasks or files.
 */
import type { PairedComparison, Verdict } from '../contract/index.ts'
import { recoveryOf } from './recovery.ts'
import { clusteredStandardError, mcnemarMidP, meanWithError, minimumDetectableDifference, Z95 } from './statistics.ts'

/** One-sided 95 % quantile of the normal distribution, and the quantile of 80 % power. */
const Z_ONE_SIDED = 1.6448536269514722
const Z_POWER = 0.8416212335729143
/** Below this many disagreements the normal interval of a difference is too narrow; Tango's replaces it. */
const FEW_DISAGREEMENTS = 10
/** With none of n items flipped, the flip rate may still be 3/n (the 95 % bound of an event never seen). */
const RULE_OF_THREE = 3

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
  const flips = { gained, lost, n }
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
    itemsNeeded: verdict === 'inconclusive' && margin !== null ? itemsNeeded(difference * sign, variance, margin, binary) : null,
    minimumDetectableDifference: binary
      ? // Shares can't differ by more than all of the items.
        Math.min(1, minimumDetectableDifference(Math.max(gained + lost, Math.min(n, RULE_OF_THREE)) / n, n))
      : standardError === null
        ? null
        : (Z95 + Z_POWER) * standardError,
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
  const detectable = standardError === null ? null : (Z95 + Z_POWER) * standardError
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

interface Flips {
  readonly gained: number
  readonly lost: number
  readonly n: number
}

/** Tango's score of H₀: P(gained) − P(lost) = delta; the numerator moved towards 0 by `correction` items. Grows as delta falls. */
function tangoScore({ gained, lost, n }: Flips, delta: number, correction: number): number {
  const distance = gained - lost - n * delta
  const corrected = Math.sign(distance) * Math.max(0, Math.abs(distance) - correction)
  if (corrected === 0) return 0
  // The maximum-likelihood P(lost) under H₀ solves a·q² + b·q + c = 0.
  const a = 2 * n
  const b = -(gained + lost) + (2 * n - (gained - lost)) * delta
  const c = -lost * delta * (1 - delta)
  // q is P(lost) with P(gained) = q + delta ≥ 0.
  const q = Math.max(0, -delta, (Math.sqrt(Math.max(0, b * b - 4 * a * c)) - b) / (2 * a))
  const variance = n * (2 * q + delta * (1 - delta))
  return variance <= 0 ? Math.sign(corrected) * Infinity : corrected / Math.sqrt(variance)
}

/**
 * The half-item correction makes the test keep its 5 % also where a handful of items decide: simulated in paired.test.ts. A margin of 0 asks for
 * superiority.
 */
export function verdictOfFlips(flips: Flips, margin: number): Verdict {
  const score = tangoScore(flips, -margin, 0.5)
  if (score > Z_ONE_SIDED) return 'non-inferior'
  return score < -Z_ONE_SIDED ? 'worse' : 'inconclusive'
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

/** Both deltas at which the two-sided 95 % test turns, by bisection. */
export function tangoInterval(flips: Flips): [number, number] {
  const edge = (target: number): number => {
    let low = -1
    let high = 1
    // 2^-40 is finer than any count of items.
    for (let i = 0; i < 41; i++) {
      const middle = (low + high) / 2
      if (tangoScore(flips, middle, 0) > target) low = middle
      else high = middle
    }
    return (low + high) / 2
  }
  return [edge(Z95), edge(-Z95)]
}

/** Items for 80 % power at the difference and spread seen; null where the difference sits on the margin and no number would do. */
function itemsNeeded(gain: number, variance: number, margin: number, binary: boolean): number | null {
  const distance = Math.abs(gain + margin)
  if (distance === 0) return null
  const bySpread = ((Z_ONE_SIDED + Z_POWER) ** 2 * variance) / distance ** 2
  // Without any flip the corrected score passes at (n·margin − ½) / √(n·margin) = z, that is n·margin = 3.64.
  const least = binary && margin > 0 ? 3.64 / margin : 0
  const items = Math.ceil(Math.max(bySpread, least))
  return Number.isSafeInteger(items) && items < 1e9 ? items : null
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

/** The same comparison judged against another margin. Binary comparisons are recognised by their counts of flips. */
export function withMargin(paired: PairedComparison, margin: number, n: number, higherIsBetter: boolean): PairedComparison {
  const gain = paired.difference * (higherIsBetter ? 1 : -1)
  const { lost, gained, standardError } = paired
  const binary = lost !== null && gained !== null
  if (!binary && paired.pairing === 'unpaired' && standardError === null) return { ...paired, margin }
  const verdict = binary ? verdictOfFlips({ lost, gained, n }, margin) : verdictOfMean(gain, standardError, margin)
  const variance = (standardError ?? 0) ** 2 * n
  return { ...paired, margin, verdict, itemsNeeded: verdict === 'inconclusive' ? itemsNeeded(gain, variance, margin, binary) : null }
}
