/**
 * The difference of two medians over the same items, with a 95 % interval by paired bootstrap: items are resampled once for both (specs/evaluation.md §9).
 * A median has no sum of differences to take an error from.
 */
import { createIndexSampler } from './random.ts'
import { quantileOfSorted } from './statistics.ts'

/** Fixed, so that a repeated comparison prints the same interval; plenty for an interval of two digits. */
const SEED = 20261123
const RESAMPLES = 2000

/** lm-eval's: the upper of the two in the middle. */
export function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN
}

/** candidate − baseline; an interval without width for fewer than two items. */
export function medianDifference(
  baseline: readonly number[],
  candidate: readonly number[],
): { readonly difference: number; readonly interval: [number, number] } {
  const n = baseline.length
  const difference = medianOf(candidate) - medianOf(baseline)
  if (n < 2) return { difference, interval: [difference, difference] }
  const pick = createIndexSampler(SEED)
  const replicates = Float64Array.from({ length: RESAMPLES }, () => {
    const items = Array.from({ length: n }, () => pick(n))
    return medianOf(items.map((item) => candidate[item] ?? 0)) - medianOf(items.map((item) => baseline[item] ?? 0))
  }).toSorted()
  return { difference, interval: [quantileOfSorted(replicates, 0.025), quantileOfSorted(replicates, 0.975)] }
}
