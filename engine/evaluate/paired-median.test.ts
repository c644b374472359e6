import { expect, test } from 'vitest'
import { medianDifference, medianOf } from './paired-median.ts'

test('the interval of a difference of medians holds what numpy’s paired bootstrap found, and is of both models at once', () => {
  const baseline = Array.from({ length: 41 }, (_, i) => (i * 17) % 41)
  const shifted = baseline.map((value) => value + 2)
  // The same shift in every resample: an unpaired bootstrap would give about ±13.
  expect(medianDifference(baseline, shifted)).toEqual({ difference: 2, interval: [2, 2] })
  const mixed = baseline.map((value, i) => value + (i % 2 === 0 ? 3 : -1))
  const { difference, interval } = medianDifference(baseline, mixed)
  expect(difference).toBe(1)
  expect(interval).toEqual([-1, 3])
  expect(medianDifference([1], [4])).toEqual({ difference: 3, interval: [3, 3] })
  expect(medianOf([4, 1, 3, 2])).toBe(3)
})
