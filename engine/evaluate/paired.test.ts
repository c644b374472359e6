import { describe, expect, test } from 'vitest'
import { tangoInterval, verdictOfFlips } from './flips.ts'
import { comparePaired, compareUnpaired, holm, withMargin } from './paired.ts'
import { createIndexSampler } from './random.ts'
import { bootstrapPaired, ratioInterval } from './recovery.ts'
import { clusteredStandardError, pooledStandardError } from './statistics.ts'

const SEED = 11

/** Right or wrong on n items: `lost` only the baseline, `gained` only the candidate, the rest right on both up to `right`. */
function binary(n: number, lost: number, gained: number, bothRight: number) {
  const baseline = Array.from({ length: n }, (_, i) => Number(i < lost || (i >= lost + gained && i < lost + gained + bothRight)))
  const candidate = Array.from({ length: n }, (_, i) => Number(i >= lost && i < lost + gained + bothRight))
  return { baselineId: 'base', baseline, candidate, higherIsBetter: true, chance: 0.25 }
}

const eightfold = (values: readonly number[]): number[] => values.flatMap((value) => Array.from({ length: 8 }, () => value))

function uniformOf(seed: number): () => number {
  const pick = createIndexSampler(seed)
  return () => pick(1 << 20) / (1 << 20)
}

describe('paired comparison', () => {
  test('the worked example of specs/evaluation.md §9: 14 against 5 of 500', () => {
    const result = comparePaired({ ...binary(500, 14, 5, 336), margin: 0.01 })
    expect(result).toMatchObject({ lost: 14, gained: 5, pairing: 'paired', verdict: 'inconclusive' })
    expect(result.difference).toBeCloseTo(-0.018, 12)
    expect(result.standardError).toBeCloseTo(0.0087, 4)
    expect(result.mcnemarP).toBeCloseTo(0.04139, 5)
    expect(result.minimumDetectableDifference).toBeCloseTo((2.8 * Math.sqrt(19 / 500)) / Math.sqrt(500), 12)
    expect(result.itemsNeeded).toBeGreaterThan(500)
  })

  test('recovery, raw and chance-adjusted (§8): 28 → 27 of 100 with four choices, and 70 → 69', () => {
    const low = comparePaired({ ...binary(100, 1, 0, 27), margin: null })
    expect(low.recovery).toBeCloseTo(0.964, 3)
    // 3 points above chance is within three standard errors: dividing by it would say nothing
    expect(low.adjustedRecovery).toBeNull()
    const high = comparePaired({ ...binary(100, 1, 0, 69), margin: null })
    expect(high.recovery).toBeCloseTo(0.986, 3)
    expect(high.adjustedRecovery).toBeCloseTo(0.978, 3)
    const [from, to] = high.recoveryInterval ?? [0, 0]
    expect(from).toBeLessThan(0.986)
    expect(to).toBeGreaterThan(0.986)
  })

  test('a model against itself: no difference, recovery 100 %, and only as sure as the number of items allows', () => {
    const few = comparePaired({ ...binary(40, 0, 0, 30), margin: 0.01 })
    expect(few).toMatchObject({
      difference: 0,
      recovery: 1,
      mcnemarP: 1,
      verdict: 'inconclusive',
      itemsNeeded: 364,
    })
    expect(few.interval[0]).toBeLessThan(-0.05)
    expect(few.recoveryInterval).toEqual([expect.closeTo(0.8865, 4), expect.closeTo(1.128, 4)])
    expect(comparePaired({ ...binary(400, 0, 0, 300), margin: 0.01 }).verdict).toBe('non-inferior')
  })

  test('Tango’s interval equals one found by maximising the constrained likelihood numerically (a few lines of Python, no closed form)', () => {
    const golden = [
      [{ gained: 7, lost: 1, n: 42 }, 0.013712826, 0.288378078],
      [{ gained: 0, lost: 0, n: 40 }, -0.087621601, 0.087621601],
      [{ gained: 2, lost: 8, n: 30 }, -0.399253751, 0.007534632],
      [{ gained: 5, lost: 14, n: 500 }, -0.037700819, -0.001013098],
    ] as const
    for (const [flips, low, high] of golden) {
      expect(tangoInterval([{ ...flips, weight: 1 }])[0]).toBeCloseTo(low, 7)
      expect(tangoInterval([{ ...flips, weight: 1 }])[1]).toBeCloseTo(high, 7)
    }
  })

  test('lower is better turns the sides: fewer errors are a gain', () => {
    const { baseline, candidate } = binary(1000, 5, 60, 500)
    const result = comparePaired({ baselineId: 'b', baseline, candidate, higherIsBetter: false, margin: 0.01, chance: null })
    expect(result).toMatchObject({ gained: 5, lost: 60, verdict: 'worse' })
    expect(result.difference).toBeCloseTo(0.055, 9)
    const perplexity = { baselineId: 'b', baseline: [2, 4, 6], candidate: [1, 2, 3], higherIsBetter: false, margin: 0.1, chance: null }
    expect(comparePaired(perplexity)).toMatchObject({ recovery: 2, mcnemarP: null, verdict: 'non-inferior', lost: null })
  })

  test('another margin gives the verdict that a comparison with it would have given', () => {
    const scores = binary(500, 14, 5, 336)
    const moved = withMargin(comparePaired({ ...scores, margin: 0.01 }), 0.05, 500, true)
    expect(moved).toEqual(comparePaired({ ...scores, margin: 0.05 }))
    expect(moved.verdict).toBe('non-inferior')
  })

  test('unpaired keeps both errors and no test', () => {
    const result = compareUnpaired(
      { id: 'published', value: 0.7, standardError: 0.02, n: 0 },
      { value: 0.69, standardError: 0.02, n: 0 },
      { higherIsBetter: true, margin: 0.01, warnings: ['published'], isShare: true },
    )
    expect(result).toMatchObject({ pairing: 'unpaired', mcnemarP: null, verdict: 'inconclusive', warnings: ['published'] })
    expect(result.standardError).toBeCloseTo(Math.hypot(0.02, 0.02), 12)
  })

  test('unpaired: all right on both sides is no certainty, and without any error there is no verdict', () => {
    const options = { higherIsBetter: true, margin: 0.01, warnings: [], isShare: true }
    const perfect = { value: 1, standardError: 0, n: 40 }
    const both = compareUnpaired({ ...perfect, id: 'published' }, perfect, options)
    expect(both).toMatchObject({ difference: 0, verdict: 'inconclusive' })
    // Plus four: 42 of 44 right.
    expect(both.standardError).toBeCloseTo(Math.SQRT2 * Math.sqrt(((42 / 44) * (2 / 44)) / 44), 12)
    const unknown = compareUnpaired({ id: 'published', value: 0.975, standardError: null, n: 0 }, perfect, options)
    expect(unknown).toMatchObject({ verdict: null, standardError: null, minimumDetectableDifference: null })
    expect(unknown.warnings).toEqual([expect.stringContaining('no telling')])
    expect(withMargin(unknown, 0.05, 40, true).verdict).toBeNull()
    // Items alone give an error; what the file says of clusters is kept.
    expect(compareUnpaired({ id: 'published', value: 0.7, standardError: null, n: 100 }, perfect, options).standardError).not.toBeNull()
    const clustered = compareUnpaired({ id: 'published', value: 0.7, standardError: 0.2, n: 100 }, { ...perfect, n: 0 }, options)
    expect(clustered.standardError).toBeNull()
    expect(compareUnpaired({ id: 'p', value: 0.7, standardError: 0.2, n: 100 }, perfect, options).standardError).toBeGreaterThan(0.2)
  })

  test('no share differs by more than all items, and above chance nothing is certain where no answer flipped', () => {
    expect(comparePaired({ ...binary(3, 0, 0, 1), margin: 0.01 }).minimumDetectableDifference).toBe(1)
    const same = comparePaired({ ...binary(40, 0, 0, 38), margin: 0.01 })
    expect(same).toMatchObject({ recovery: 1, adjustedRecovery: 1 })
    const [low, high] = same.recoveryInterval!
    // (r · 0.95 − 0.25) / 0.7
    expect(same.adjustedRecoveryInterval![0]).toBeCloseTo((low * 0.95 - 0.25) / 0.7, 12)
    expect(same.adjustedRecoveryInterval![1]).toBeCloseTo((high * 0.95 - 0.25) / 0.7, 12)
    expect(high - low).toBeGreaterThan(0.1)
  })

  test('clusters of equal items count once: as sure as their number, not as that of the items', () => {
    const few = binary(40, 4, 1, 20)
    const many = { ...few, baseline: eightfold(few.baseline), candidate: eightfold(few.candidate) }
    const clusters = many.baseline.map((_, i) => String(Math.floor(i / 8)))
    const alone = comparePaired({ ...few, margin: 0.05 })
    const clustered = comparePaired({ ...many, clusters, margin: 0.05 })
    expect(clustered).toMatchObject({ difference: alone.difference, mcnemarP: null, recovery: alone.recovery })
    // n − 1 beneath the one, n beneath the other.
    expect(clustered.standardError! / alone.standardError!).toBeCloseTo(Math.sqrt(39 / 40), 9)
    expect(comparePaired({ ...many, margin: 0.05 }).standardError).toBeLessThan(clustered.standardError! / 2)
    const [low, high] = clustered.recoveryInterval!
    const [ownLow, ownHigh] = alone.recoveryInterval!
    expect((high - low) / (ownHigh - ownLow)).toBeGreaterThan(0.7)
  })

  test('different numbers of items are refused', () => {
    expect(() => comparePaired({ ...binary(10, 0, 0, 5), candidate: [], margin: null })).toThrow(RangeError)
  })
})

/** Probability that the verdict is non-inferior although the truth is a loss of exactly the margin. */
function falsePositives(n: number, margin: number, gainRate: number): number {
  const lossRate = gainRate + margin
  const logs = [0]
  for (let i = 1; i <= n; i++) logs.push((logs[i - 1] ?? 0) + Math.log(i))
  const log = (i: number): number => logs[i] ?? 0
  let total = 0
  for (let lost = 0; lost <= n; lost++) {
    for (let gained = 0; gained <= (gainRate === 0 ? 0 : n - lost); gained++) {
      const same = n - lost - gained
      const logP =
        log(n) -
        log(lost) -
        log(gained) -
        log(same) +
        lost * Math.log(lossRate) +
        (gained === 0 ? 0 : gained * Math.log(gainRate)) +
        same * Math.log1p(-lossRate - gainRate)
      if (logP > -25 && verdictOfFlips([{ lost, gained, n, weight: 1 }], margin) === 'non-inferior') total += Math.exp(logP)
    }
  }
  return total
}

describe('calibration by exact enumeration and simulation', () => {
  test.each([
    [50, 0.05, 0],
    [50, 0.05, 0.05],
    [100, 0.02, 0.01],
    [100, 0.05, 0.1],
    [250, 0.01, 0.02],
    [250, 0.02, 0],
    [400, 0.01, 0],
    [400, 0.01, 0.01],
    [400, 0.03, 0.05],
  ])('n = %i, margin %f, gains %f: at most 5 % of non-inferior verdicts are wrong', (n, margin, gains) => {
    expect(falsePositives(n, margin, gains)).toBeLessThanOrEqual(0.05)
  })

  test('and the test has power: equal models with 5 % flips are found non-inferior at 2 points on 2000 items', () => {
    const uniform = uniformOf(SEED)
    let passed = 0
    for (let trial = 0; trial < 300; trial++) {
      let lost = 0
      let gained = 0
      for (let i = 0; i < 2000; i++) {
        const u = uniform()
        if (u < 0.025) lost++
        else if (u < 0.05) gained++
      }
      if (verdictOfFlips([{ lost, gained, n: 2000, weight: 1 }], 0.02) === 'non-inferior') passed++
    }
    expect(passed / 300).toBeGreaterThan(0.95)
  })

  test(`score interval of the recovery covers the truth 93–97 % of the time, on either side alike (10,000 trials, seed ${SEED})`, () => {
    const { above, below } = misses(10_000, ({ both, lost, gained }) => ratioInterval({ both, lost, gained, n: ITEMS }))
    // 95.0 % with an error of 0.2; bench/coverage.ts prints the same with other seeds.
    expect(1 - above - below).toBeGreaterThan(0.943)
    expect(1 - above - below).toBeLessThan(0.957)
    expect(Math.abs(above - below)).toBeLessThan(0.01)
  })

  test(`bootstrap interval of a ratio covers the truth as often as bench/coverage.ts found (seed ${SEED})`, () => {
    const trials = 600
    const { above, below } = misses(trials, ({ both, lost, gained }, seed) => {
      const baseline = Array.from({ length: ITEMS }, (_, i) => Number(i < both + lost))
      const candidate = Array.from({ length: ITEMS }, (_, i) => Number(i < both || (i >= both + lost && i < both + lost + gained)))
      return bootstrapPaired(baseline, candidate, (b, c) => c / b, { seed, resamples: 400 })
    })
    // 94.1 % of 10,000; this many trials tell it to three standard errors, not more. What it must be is the script's to show.
    expect(Math.abs(1 - above - below - 0.941)).toBeLessThan(3 * Math.sqrt((0.941 * 0.059) / trials))
  })
})

const ITEMS = 300

/** Shares of intervals that lie above and below the true recovery of 66/70: 70 % right, 6 % of all lost, 2 % gained. */
function misses(
  trials: number,
  interval: (counts: { readonly both: number; readonly lost: number; readonly gained: number }, seed: number) => [number, number] | null,
): { readonly above: number; readonly below: number } {
  const uniform = uniformOf(SEED)
  let above = 0
  let below = 0
  for (let trial = 0; trial < trials; trial++) {
    const counts = { both: 0, lost: 0, gained: 0 }
    for (let i = 0; i < ITEMS; i++) {
      const u = uniform()
      if (u < 0.06) counts.lost++
      else if (u < 0.7) counts.both++
      else if (u < 0.72) counts.gained++
    }
    const [low, high] = interval(counts, Math.imul(trial, 0x9e3779b1) >>> 0) ?? [0, 0]
    if (low > 66 / 70) above++
    if (high < 66 / 70) below++
  }
  return { above: above / trials, below: below / trials }
}

describe('interval of a recovery', () => {
  test('equals one found by maximising the constrained likelihood numerically (scipy, no closed form)', () => {
    const golden = [
      [{ both: 192, lost: 18, gained: 6, n: 300 }, 0.893506973, 0.987326935],
      [{ both: 30, lost: 2, gained: 8, n: 50 }, 0.993271299, 1.47527598],
      [{ both: 336, lost: 14, gained: 5, n: 500 }, 0.946528562, 0.998533515],
      [{ both: 20, lost: 0, gained: 3, n: 30 }, 0.964706067, 1.473350383],
      [{ both: 300, lost: 0, gained: 0, n: 400 }, 0.987357028, 1.012804863],
    ] as const
    for (const [counts, low, high] of golden) expect(ratioInterval(counts)).toEqual([expect.closeTo(low, 7), expect.closeTo(high, 7)])
  })

  test('where nothing is right there is nothing to recover, or nothing recovered', () => {
    expect(ratioInterval({ both: 0, lost: 0, gained: 3, n: 10 })).toBeNull()
    const [low, high] = ratioInterval({ both: 0, lost: 8, gained: 0, n: 10 })!
    expect(low).toBe(0)
    expect(high).toBeGreaterThan(0.1)
    expect(high).toBeLessThan(0.7)
  })
})

describe('several tasks', () => {
  test('Holm steps down and keeps the order', () => {
    expect(holm([0.01, null, 0.04, 0.03])).toEqual([0.03, null, 0.06, 0.06])
    expect(holm([0.9, 0.8])).toEqual([1, 1])
  })

  test('pooled error of a group (specs/evaluation.md §3)', () => {
    const parts = [
      { standardError: 0.02, n: 400 },
      { standardError: 0.03, n: 100 },
    ]
    expect(pooledStandardError(parts)).toBeCloseTo(0.0170929, 7)
  })

  test('clusters of equal items count once', () => {
    const values = [1, 1, 0, 0, 1, 1, 0, 0]
    const clusters = [0, 0, 1, 1, 2, 2, 3, 3]
    // four independent units of ±½: √(4·1)/8
    expect(clusteredStandardError(values, clusters)).toBeCloseTo(0.25, 12)
    expect(clusteredStandardError([1], [0])).toBeNull()
  })
})
