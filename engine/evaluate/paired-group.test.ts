import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { tangoInterval, verdictOfFlips } from './flips.ts'
import { comparePaired, comparePairedGroup, withMargin } from './paired.ts'
import type { GroupPart } from './paired.ts'
import { createIndexSampler } from './random.ts'

/** Made by golden/paired-group.py with numpy and scipy, from the definitions and without closed forms. */
interface Golden {
  readonly bySize: boolean
  readonly difference: number
  readonly standardError: number
  readonly recovery: number
  readonly interval: readonly [number, number]
}
type Counts = readonly [n: number, lost: number, gained: number, both: number]
const golden = JSON.parse(readFileSync(new URL('test/golden/paired-group.json', import.meta.url), 'utf8')) as {
  readonly binary: readonly (Golden & { name: string; counts: readonly Counts[]; lost: number; gained: number; midP?: number })[]
  readonly continuous: readonly (Golden & { tasks: readonly { baseline: number[]; candidate: number[] }[] })[]
}

interface Scores {
  readonly baseline: readonly number[]
  readonly candidate: readonly number[]
}

function answers([n, lost, gained, both]: Counts): Scores {
  return {
    baseline: Array.from({ length: n }, (_, i) => Number(i < lost || (i >= lost + gained && i < lost + gained + both))),
    candidate: Array.from({ length: n }, (_, i) => Number(i >= lost && i < lost + gained + both)),
  }
}

function partsOf(tasks: readonly Scores[], bySize: boolean, higherIsBetter = true): GroupPart[] {
  const items = tasks.reduce((sum, { baseline }) => sum + baseline.length, 0)
  return tasks.map((scores) => ({
    weight: bySize ? scores.baseline.length / items : 1 / tasks.length,
    n: scores.baseline.length,
    paired: comparePaired({ ...scores, baselineId: 'base', higherIsBetter, margin: null, chance: null, hasRecovery: false }),
    scores,
  }))
}

const OPTIONS = { baselineId: 'base', higherIsBetter: true, margin: 0.02, chance: null }

describe('a group of tasks beside a baseline', () => {
  test.each(golden.binary.map((one) => [one.name, one] as const))('right and wrong, %s: as numpy and scipy have it', (_, expected) => {
    const group = comparePairedGroup(partsOf(expected.counts.map(answers), expected.bySize), OPTIONS)
    const { difference, standardError, interval, lost, gained, recovery } = group
    expect({ difference, standardError, interval, lost, gained, recovery }).toEqual({
      difference: expect.closeTo(expected.difference, 12),
      standardError: expect.closeTo(expected.standardError, 12),
      interval: expected.interval.map((edge) => expect.closeTo(edge, 7)),
      lost: expected.lost,
      gained: expected.gained,
      recovery: expect.closeTo(expected.recovery, 12),
    })
    // Weighted otherwise than by size, a flip of one task is worth more than another's.
    expect(group.mcnemarP?.toFixed(10) ?? null).toBe(expected.bySize ? expected.midP?.toFixed(10) : null)
  })

  test('scores between 0 and 1: the normal interval of the weighted difference', () => {
    for (const expected of golden.continuous) {
      const group = comparePairedGroup(partsOf(expected.tasks, expected.bySize), OPTIONS)
      expect(group.standardError).toBeCloseTo(expected.standardError, 12)
      expect(group.interval).toEqual(expected.interval.map((edge) => expect.closeTo(edge, 12)))
      expect(group).toMatchObject({ lost: null, gained: null, mcnemarP: null, strata: null })
      expect(group.minimumDetectableDifference).toBeCloseTo(2.8016 * expected.standardError, 4)
      const [low, high] = group.recoveryInterval ?? [0, 0]
      expect(low).toBeLessThan(expected.recovery)
      expect(high).toBeGreaterThan(expected.recovery)
    }
  })

  test('a group of one task is that task', () => {
    for (const counts of [
      [500, 14, 5, 336],
      [40, 0, 0, 30],
    ] as const) {
      const scores = answers(counts)
      const alone = comparePaired({ ...scores, ...OPTIONS })
      const { strata, recoveryInterval, ...group } = comparePairedGroup(partsOf([scores], false), OPTIONS)
      const [n, lost, gained] = counts
      // A single task keeps the normal interval where flips are many.
      const interval = tangoInterval([{ n, lost, gained, weight: 1 }])
      expect(group).toEqual({
        ...alone,
        recoveryInterval: undefined,
        interval: lost + gained < 10 ? alone.interval : interval,
        strata: undefined,
      })
      expect(recoveryInterval).toEqual(alone.recoveryInterval)
      expect(strata).toEqual([{ n, lost, gained, weight: 1 }])
    }
  })

  test('nothing flipped: no certainty that the items can’t give, what they could have shown, and how many would decide', () => {
    const few = comparePairedGroup(
      partsOf(
        [
          [40, 0, 0, 30],
          [40, 0, 0, 20],
        ].map((counts) => answers(counts as unknown as Counts)),
        true,
      ),
      OPTIONS,
    )
    // 3 of 80 may still flip: 2.8 · √(3/80 / 80). Without any flip 3.64 / 0.02 items decide, as for a single task.
    expect(few).toMatchObject({ difference: 0, verdict: 'inconclusive', recovery: 1, itemsNeeded: 182 })
    // 50 of 80 are right with both; the difference may be as large as in one task of 80 items without a flip.
    const [low, high] = tangoInterval([{ n: 80, lost: 0, gained: 0, weight: 1 }])
    expect(few.interval).toEqual([expect.closeTo(low, 9), expect.closeTo(high, 9)])
    expect(few.recoveryInterval).toEqual([expect.closeTo(1 + low / 0.625, 9), expect.closeTo(1 + high / 0.625, 9)])
    expect(few.minimumDetectableDifference).toBeCloseTo(2.8 * Math.sqrt(3 / 80 / 80), 12)
    const many = comparePairedGroup(partsOf([answers([400, 0, 0, 300]), answers([400, 0, 0, 200])], true), OPTIONS)
    expect(many.verdict).toBe('non-inferior')
  })

  test('another margin gives the verdict that a comparison with it would have given, task by task', () => {
    const parts = partsOf([answers([400, 30, 5, 250]), answers([60, 1, 1, 40])], false)
    const moved = withMargin(comparePairedGroup(parts, { ...OPTIONS, margin: 0.001 }), 0.1, 460, true)
    expect(moved).toEqual(comparePairedGroup(parts, { ...OPTIONS, margin: 0.1 }))
    expect(moved.verdict).toBe('non-inferior')
    // By the sum of flips alone, 31 against 6 of 460, seven points would not be enough; but half of this score is a task without a loss.
    expect(withMargin(moved, 0.07, 460, true).verdict).toBe('non-inferior')
    expect(verdictOfFlips([{ lost: 31, gained: 6, n: 460, weight: 1 }], 0.07)).toBe('inconclusive')
  })

  test('lower is better turns the sides', () => {
    const tasks = [answers([300, 40, 2, 100]), answers([100, 20, 1, 30])]
    const fewerErrors = comparePairedGroup(partsOf(tasks, true, false), { ...OPTIONS, higherIsBetter: false })
    expect(fewerErrors).toMatchObject({ gained: 60, lost: 3, verdict: 'non-inferior', difference: expect.closeTo(-57 / 400, 12) })
    expect(fewerErrors.interval[1]).toBeLessThan(0)
  })

  test('chance is taken off the whole score, and adjusted recovery is not an average of ratios', () => {
    const tasks = [answers([200, 20, 0, 140]), answers([200, 4, 0, 176])]
    const group = comparePairedGroup(partsOf(tasks, true), { ...OPTIONS, chance: 0.25 })
    // (0.79 − 0.25) / (0.85 − 0.25)
    expect(group.recovery).toBeCloseTo(0.79 / 0.85, 12)
    expect(group.adjustedRecovery).toBeCloseTo(0.9, 12)
    expect(group.adjustedRecoveryInterval?.[0]).toBeLessThan(0.9)
  })
})

test('at a loss of exactly the margin in unequal tasks, the interval holds the truth and at most one verdict in twenty is wrong (2,000 trials, seed 5)', () => {
  const pick = createIndexSampler(5)
  const tasks = [
    { n: 200, lost: 0.03, gained: 0.01 },
    { n: 60, lost: 0.05, gained: 0.03 },
    { n: 25, lost: 0.1, gained: 0.08 },
  ]
  let held = 0
  let passed = 0
  for (let trial = 0; trial < 2000; trial++) {
    const strata = tasks.map((task) => {
      let [lost, gained] = [0, 0]
      for (let item = 0; item < task.n; item++) {
        const u = pick(2 ** 32) / 2 ** 32
        if (u < task.lost) lost++
        else if (u < task.lost + task.gained) gained++
      }
      return { lost, gained, n: task.n, weight: 1 / 3 }
    })
    const [low, high] = tangoInterval(strata)
    if (low <= -0.02 && high >= -0.02) held++
    if (verdictOfFlips(strata, 0.02) === 'non-inferior') passed++
  }
  // Three standard errors of 0.49 % about 95 and 5 %; bench/group-coverage.ts prints more groups with more trials.
  expect(held / 2000).toBeGreaterThan(0.935)
  expect(passed / 2000).toBeLessThan(0.065)
})
