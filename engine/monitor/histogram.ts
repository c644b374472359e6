/**
 * Quantiles of what happened between two scrapes, from cumulative buckets: linear within a bucket, as Prometheus' histogram_quantile computes
 * them. Coarse by nature; never to be held against percentiles measured by a client (specs/benchmark.md §6).
 */
import type { Scrape } from './prometheus.ts'

/** Cumulative counts by ascending upper bound, the last one infinite; summed over all label sets. */
export interface Buckets {
  readonly bounds: readonly number[]
  readonly counts: readonly number[]
}

/** null where the scrape has no such histogram. */
export function bucketsOf(scrape: Scrape, name: string): Buckets | null {
  const series = scrape.get(`${name}_bucket`)
  if (series === undefined) return null
  const sums = new Map<number, number>()
  for (const { labels, value } of series) {
    const bound = labels['le'] === '+Inf' ? Infinity : Number(labels['le'])
    if (Number.isNaN(bound) || !Number.isFinite(value)) continue
    sums.set(bound, (sums.get(bound) ?? 0) + value)
  }
  const bounds = [...sums.keys()].toSorted((one, other) => one - other)
  return bounds.length === 0 ? null : { bounds, counts: bounds.map((bound) => sums.get(bound) ?? 0) }
}

/** What was added since `before`; null where the buckets are others or went back. */
export function bucketsSince(now: Buckets, before: Buckets): Buckets | null {
  if (now.bounds.length !== before.bounds.length || now.bounds.some((bound, index) => bound !== before.bounds[index])) return null
  const counts = now.counts.map((count, index) => count - (before.counts[index] ?? 0))
  return counts.some((count) => count < 0) ? null : { bounds: now.bounds, counts }
}

/** In the metric's own unit; null when nothing was observed. A quantile beyond the last finite bound is that bound: more is not known. */
export function quantile({ bounds, counts }: Buckets, share: number): number | null {
  const total = counts.at(-1) ?? 0
  if (total <= 0) return null
  const rank = share * total
  const index = counts.findIndex((count) => count >= rank)
  const upper = bounds[index]
  if (upper === undefined) return null
  const lower = index === 0 ? 0 : (bounds[index - 1] ?? 0)
  if (!Number.isFinite(upper)) return index === 0 ? null : lower
  // a first bucket that ends at or below zero has no known start
  if (index === 0 && upper <= 0) return upper
  const below = index === 0 ? 0 : (counts[index - 1] ?? 0)
  const within = (counts[index] ?? 0) - below
  return within === 0 ? upper : lower + (upper - lower) * ((rank - below) / within)
}
