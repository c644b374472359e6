/**
 * The difference of two figures that are no means of their items (perplexities over words, medians) by paired bootstrap: documents, or clusters of them,
 * are resampled once for both models and each figure is formed again (specs/evaluation.md §3, §9). The mean of the documents' own ratios is another figure.
 */
import { createIndexSampler } from './random.ts'
import { meanWithError, quantileOfSorted } from './statistics.ts'

/** Fixed, so that a repeated comparison prints the same interval. */
const SEED = 20261123
/** Plenty for an interval of two digits; fewer for long lists keep it under a second. */
const RESAMPLES = 2000
const LEAST_RESAMPLES = 500
const PICKS = 10e6

/** lm-eval's: the upper of the two in the middle. */
export function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN
}

export interface FigureDifference {
  /** candidate − baseline. */
  readonly difference: number
  /** 95 %; without width where there is no error. */
  readonly interval: [number, number]
  /** null for fewer than two documents or clusters. */
  readonly standardError: number | null
}

/** Values of the same documents in the same order; `clusters` name what they share, null = each stands alone. */
export function figureDifference<T>(
  baseline: readonly T[],
  candidate: readonly T[],
  aggregate: (values: readonly T[]) => number,
  clusters: readonly string[] | null = null,
): FigureDifference {
  const difference = aggregate(candidate) - aggregate(baseline)
  const units: readonly (readonly number[])[] =
    clusters === null
      ? Array.from(baseline, (_, item) => [item])
      : [...Map.groupBy(baseline.keys(), (item) => clusters[item] ?? String(item)).values()]
  if (units.length < 2) return { difference, interval: [difference, difference], standardError: null }
  const pick = createIndexSampler(SEED)
  const resamples = Math.max(LEAST_RESAMPLES, Math.min(RESAMPLES, Math.floor(PICKS / baseline.length)))
  const replicates = Float64Array.from({ length: resamples }, () => {
    const items = Array.from(units, () => units[pick(units.length)] ?? []).flat()
    const of = (values: readonly T[]): number => aggregate(items.map((item) => values[item] as T))
    return of(candidate) - of(baseline)
  })
  const { standardError } = meanWithError(replicates)
  const sorted = replicates.toSorted()
  return {
    difference,
    interval: [quantileOfSorted(sorted, 0.025), quantileOfSorted(sorted, 0.975)],
    // Of one replicate, not of their mean.
    standardError: standardError === null ? null : standardError * Math.sqrt(resamples),
  }
}
