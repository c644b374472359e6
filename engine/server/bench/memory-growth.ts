/**
 * Whether a server's memory grows with the requests it answers: the slope of each figure over requests, least squares, from the samples after
 * the warm-up (pools, caches and the allocator's high-water mark fill first).
 */
export interface GrowthSample {
  readonly requests: number
  readonly memory: object
}

/** Share of the samples that count as warm-up. */
const WARM_UP = 1 / 3

/** Megabytes per 1000 requests of every figure, least squares over the samples after the warm-up; null with fewer than three of them. */
export function growthPerThousand(samples: readonly GrowthSample[]): Record<string, number> | null {
  const counted = samples.slice(Math.ceil(samples.length * WARM_UP))
  if (counted.length < 3) return null
  const meanRequests = mean(counted.map(({ requests }) => requests))
  const spread = counted.reduce((sum, { requests }) => sum + (requests - meanRequests) ** 2, 0)
  const slopes: Record<string, number> = {}
  for (const name of Object.keys(counted[0]?.memory ?? {})) {
    const values = counted.map(({ memory }) => (memory as Record<string, number | null>)[name] ?? 0)
    const average = mean(values)
    const shared = counted.reduce((sum, { requests }, i) => sum + (requests - meanRequests) * ((values[i] ?? 0) - average), 0)
    slopes[name] = spread === 0 ? 0 : (1000 * shared) / spread
  }
  return slopes
}

export function verdict(samples: readonly GrowthSample[]): readonly string[] {
  const slopes = growthPerThousand(samples)
  if (slopes === null) return ['memory growth: too few samples to say']
  return [
    `memory growth after the warm-up, MB per 1000 requests: ${Object.entries(slopes)
      .map(([name, slope]) => `${name} ${slope.toFixed(2)}`)
      .join(', ')}`,
  ]
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
