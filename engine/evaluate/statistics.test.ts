import { describe, expect, test } from 'vitest'
import { createIndexSampler } from './random.ts'
import {
  bootstrapRatioError,
  comparePairedAnswers,
  mcnemarMidP,
  meanWithError,
  minimumDetectableDifference,
  quantileOfSorted,
  wilsonInterval,
} from './statistics.ts'

const SEED = 7
/** b items only the baseline got right, c only the candidate, the rest alike. */
function answers(n: number, b: number, c: number): [boolean[], boolean[]] {
  const baseline = Array.from({ length: n }, (_, i) => i < b || i >= b + c)
  const candidate = Array.from({ length: n }, (_, i) => i >= b)
  return [baseline, candidate]
}

describe('statistics against the worked figures of specs/evaluation.md', () => {
  test('standard error of 70 right out of 100 (§3)', () => {
    const values = Array.from({ length: 100 }, (_, i) => Number(i < 70))
    expect(meanWithError(values).mean).toBeCloseTo(0.7, 12)
    expect(meanWithError(values).standardError).toBeCloseTo(0.046057, 6)
    expect(meanWithError([1]).standardError).toBeNull()
  })

  test('mid-p McNemar of 14 against 5 (§9)', () => {
    expect(mcnemarMidP(14, 5)).toBeCloseTo(0.04139, 5)
    expect(mcnemarMidP(5, 14)).toBeCloseTo(0.04139, 5)
    expect(mcnemarMidP(0, 0)).toBe(1)
    // The example of Fagerland et al.: 1 and 7 give 0.039. Equal sides: 1 − ½ · C(2, 1)/4, 1 − ½ · C(6, 3)/64.
    expect(mcnemarMidP(1, 7)).toBeCloseTo(0.0391, 4)
    expect(mcnemarMidP(1, 1)).toBeCloseTo(0.75, 12)
    expect(mcnemarMidP(3, 3)).toBeCloseTo(0.84375, 12)
  })

  test('paired difference of 500 items (§9)', () => {
    const { difference, interval, onlyBaseline, onlyCandidate } = comparePairedAnswers(...answers(500, 14, 5))
    expect([onlyBaseline, onlyCandidate]).toEqual([14, 5])
    expect(difference).toBeCloseTo(-0.018, 12)
    expect(interval[0]).toBeCloseTo(-0.035, 4)
    expect(interval[1]).toBeCloseTo(-0.001, 3)
    expect(() => comparePairedAnswers([true], [])).toThrow(RangeError)
  })

  test('detectable difference (§9): 5 % flips on 500 items', () => {
    expect(minimumDetectableDifference(0.05, 500)).toBeCloseTo(0.028, 3)
  })

  test('Wilson interval stays inside [0, 1] and is known at 0 of 10 and 7 of 10', () => {
    // R: binom.confint(0, 10, methods = "wilson") and binom.confint(7, 10, …)
    expect(wilsonInterval(0, 10)[0]).toBe(0)
    expect(wilsonInterval(0, 10)[1]).toBeCloseTo(0.2775328, 6)
    expect(wilsonInterval(7, 10)[0]).toBeCloseTo(0.3967781, 6)
    expect(wilsonInterval(7, 10)[1]).toBeCloseTo(0.8922087, 6)
    expect(wilsonInterval(0, 0)).toEqual([0, 1])
  })

  test('quantiles interpolate linearly', () => {
    expect([0, 0.25, 0.5, 1].map((p) => quantileOfSorted([1, 2, 3, 10], p))).toEqual([1, 1.75, 2.5, 10])
    expect(quantileOfSorted([], 0.5)).toBeNaN()
  })

  test(`bootstrap of a mean agrees with its analytic error (seed ${SEED})`, () => {
    const values = Array.from({ length: 200 }, (_, i) => Math.sin(i * 12.9898) * 3)
    const ones = values.map(() => 1)
    const analytic = meanWithError(values).standardError!
    const resampled = bootstrapRatioError(values, ones, { resamples: 4000, seed: SEED })!
    expect(Math.abs(resampled / analytic - 1)).toBeLessThan(0.05)
    expect(bootstrapRatioError(values, ones, { resamples: 100, seed: SEED })).toBe(
      bootstrapRatioError(values, ones, { resamples: 100, seed: SEED }),
    )
    expect(bootstrapRatioError([1], [1], { resamples: 10, seed: SEED })).toBeNull()
  })

  test(`95 % intervals of the paired difference cover the truth 93–97 % of the time (seed ${SEED})`, () => {
    const pick = createIndexSampler(SEED)
    const uniform = (): number => pick(1_000_000) / 1_000_000
    const trials = 2000
    let covered = 0
    for (let trial = 0; trial < trials; trial++) {
      const baseline: boolean[] = []
      const candidate: boolean[] = []
      for (let i = 0; i < 300; i++) {
        const u = uniform()
        // 6 % lost, 3 % gained: the true difference is −3 points.
        baseline.push(u < 0.06 || u >= 0.4)
        candidate.push((u >= 0.06 && u < 0.09) || u >= 0.4)
      }
      const [low, high] = comparePairedAnswers(baseline, candidate).interval
      if (low <= -0.03 && -0.03 <= high) covered++
    }
    expect(covered / trials).toBeGreaterThan(0.93)
    expect(covered / trials).toBeLessThan(0.97)
  })
})

describe('index sampler', () => {
  test('is uniform enough and reproducible', () => {
    const counts = [0, 0, 0, 0, 0]
    const pick = createIndexSampler(SEED)
    const again = createIndexSampler(SEED)
    for (let i = 0; i < 50_000; i++) {
      const value = pick(5)
      expect(again(5)).toBe(value)
      counts[value]!++
    }
    // χ² with 4 degrees of freedom: 18.5 is exceeded once in a thousand seeds.
    const chiSquare = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0)
    expect(chiSquare).toBeLessThan(18.5)
  })
})
