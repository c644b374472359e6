import { expect, test } from 'vitest'
import { figureDifference, medianOf } from './paired-figure.ts'
import { aggregate } from './tasks/task-metrics.ts'

test('of medians: what numpy’s paired bootstrap found, and of both models at once', () => {
  const baseline = Array.from({ length: 41 }, (_, i) => (i * 17) % 41)
  const shifted = baseline.map((value) => value + 2)
  // The same shift in every resample: an unpaired bootstrap would give about ±13.
  expect(figureDifference(baseline, shifted, medianOf)).toEqual({ difference: 2, interval: [2, 2], standardError: 0 })
  const mixed = baseline.map((value, i) => value + (i % 2 === 0 ? 3 : -1))
  expect(figureDifference(baseline, mixed, medianOf)).toMatchObject({ difference: 1, interval: [-1, 3] })
  expect(figureDifference([1], [4], medianOf)).toEqual({ difference: 3, interval: [3, 3], standardError: null })
  expect(medianOf([4, 1, 3, 2])).toBe(3)
})

test('of word perplexities: documents count by their words, so that a bad answer of two words is no catastrophe', () => {
  const words = [400, 90, 50, 250, 80, 120, 20, 60, 2]
  const loglikelihoods = [-600, -140, -80, -410, -130, -170, -31, -85, -4]
  const changes = [-4, -2, -1.5, -2, -0.5, -1.5, -0.4, -0.5, -6]
  const values = (totals: readonly number[]) => totals.map((value, i) => ({ value, weight: words[i]! }))
  const found = figureDifference(values(loglikelihoods), values(loglikelihoods.map((value, i) => value + changes[i]!)), (documents) =>
    aggregate('ratio-perplexity', documents),
  )
  // numpy, 200,000 resamples of the documents: 2.5 and 97.5 % at 0.0458 and 0.2169, deviation 0.0492. By the mean of the documents' own ratios it would be 1.93.
  expect(found.difference).toBeCloseTo(0.08069, 5)
  expect(Math.abs(found.interval[0] - 0.0458)).toBeLessThan(0.004)
  expect(Math.abs(found.interval[1] - 0.2169)).toBeLessThan(0.02)
  expect(Math.abs((found.standardError ?? 0) - 0.0492)).toBeLessThan(0.005)
})

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length

test('clusters are resampled whole', () => {
  const baseline = Array.from({ length: 40 }, () => 0)
  const candidate = baseline.map((_, i) => (i % 8 < 4 ? 1 : -1) * (1 + Math.floor(i / 8)))
  // Within each cluster the changes cancel out, so nothing is left to vary.
  const clusters = candidate.map((_, i) => String(Math.floor(i / 8)))
  expect(figureDifference(baseline, candidate, mean, clusters)).toEqual({ difference: 0, interval: [0, 0], standardError: 0 })
  // The squares of 1 to 5 have a mean of 11: √(11 / 40) = 0.524 by items.
  expect(figureDifference(baseline, candidate, mean).standardError).toBeCloseTo(Math.sqrt(11 / 40), 1)
})
