/**
 * Right and wrong answers of two models on the same items: Tango's score test for paired proportions (Statistics in Medicine 17, 1998), which stays
 * honest when few or no answers flip. Of a group of tasks each task is a stratum: the differences are weighted, and under the hypothesis all tasks
 * share it (as Miettinen and Nurminen do for independent samples, Statistics in Medicine 4, 1985). One task is a group of one. Knows nothing of tasks.
 */
import type { Verdict } from '../contract/index.ts'
import { Z95 } from './statistics.ts'

/** One-sided 95 % quantile of the normal distribution. */
export const Z_ONE_SIDED = 1.6448536269514722

export interface Flips {
  /** Items only the candidate got right, only the baseline, and all. */
  readonly gained: number
  readonly lost: number
  readonly n: number
  /** Of the stratum's difference in the whole; they add up to 1. */
  readonly weight: number
}

/** Variance of one item's difference where P(gained) − P(lost) = delta: P(lost) is the most likely one under it. */
function constrainedVariance({ gained, lost, n }: Flips, delta: number): number {
  // The maximum-likelihood P(lost) solves a·q² + b·q + c = 0.
  const a = 2 * n
  const b = -(gained + lost) + (2 * n - (gained - lost)) * delta
  const c = -lost * delta * (1 - delta)
  // q is P(lost) with P(gained) = q + delta ≥ 0.
  const q = Math.max(0, -delta, (Math.sqrt(Math.max(0, b * b - 4 * a * c)) - b) / (2 * a))
  return Math.max(0, 2 * q + delta * (1 - delta))
}

/** Score of H₀: the weighted difference is delta; moved towards 0 by so many items of the stratum where one weighs most. Falls as delta grows. */
function tangoScore(strata: readonly Flips[], delta: number, correctionItems: number): number {
  let difference = 0
  let variance = 0
  let step = 0
  for (const stratum of strata) {
    const item = stratum.weight / stratum.n
    difference += item * (stratum.gained - stratum.lost)
    variance += item * item * stratum.n * constrainedVariance(stratum, delta)
    step = Math.max(step, item)
  }
  const distance = difference - delta
  const corrected = Math.sign(distance) * Math.max(0, Math.abs(distance) - correctionItems * step)
  if (corrected === 0) return 0
  return variance <= 0 ? Math.sign(corrected) * Infinity : corrected / Math.sqrt(variance)
}

/**
 * The half-item correction makes the test keep its 5 % also where a handful of items decide: enumerated in paired.test.ts. A margin of 0 asks for
 * superiority.
 */
export function verdictOfFlips(strata: readonly Flips[], margin: number): Verdict {
  const score = tangoScore(strata, -margin, 0.5)
  if (score > Z_ONE_SIDED) return 'non-inferior'
  return score < -Z_ONE_SIDED ? 'worse' : 'inconclusive'
}

/** Both deltas at which the two-sided 95 % test turns, by bisection. */
export function tangoInterval(strata: readonly Flips[]): [number, number] {
  const edge = (target: number): number => {
    let low = -1
    let high = 1
    // 2^-40 is finer than any count of items.
    for (let i = 0; i < 41; i++) {
      const middle = (low + high) / 2
      if (tangoScore(strata, middle, 0) > target) low = middle
      else high = middle
    }
    return (low + high) / 2
  }
  return [edge(Z95), edge(-Z95)]
}

/** With none of n items flipped, the flip rate may still be 3/n (the 95 % bound of an event never seen). */
const RULE_OF_THREE = 3

/** Variance of the weighted difference if the models were equal and flipped as often as they did: what a smallest detectable difference is made of. */
export function flipVariance(strata: readonly Flips[]): number {
  let seen = 0
  let perRate = 0
  let items = 0
  for (const { gained, lost, n, weight } of strata) {
    seen += (weight * weight * (gained + lost)) / (n * n)
    perRate += (weight * weight) / n
    items += n
  }
  return Math.max(seen, perRate * Math.min(1, RULE_OF_THREE / items))
}
