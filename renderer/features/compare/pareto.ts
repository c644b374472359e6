/** Which points of a scatter are worth having: the Pareto frontier over two axes, each with its better direction. */

export interface ParetoPoint {
  readonly id: string
  readonly x: number
  readonly y: number
}

function gain(a: number, b: number, better: 'up' | 'down'): number {
  return better === 'up' ? a - b : b - a
}

/** Ids of the points that no other point beats or equals on both axes while beating it on one. */
export function paretoFrontier(points: readonly ParetoPoint[], betterX: 'up' | 'down', betterY: 'up' | 'down'): ReadonlySet<string> {
  return new Set(
    points
      .filter(
        (point) =>
          !points.some((other) => {
            const x = gain(other.x, point.x, betterX)
            const y = gain(other.y, point.y, betterY)
            return x >= 0 && y >= 0 && (x > 0 || y > 0)
          }),
      )
      .map((point) => point.id),
  )
}

/** A range for an axis that holds every value with a margin, so that no mark is cut off, and that never has no width. */
export function axisDomain(values: readonly number[], margin = 0.14): readonly [number, number] {
  const low = Math.min(...values)
  const high = Math.max(...values)
  const span = high - low || Math.abs(high) || 1
  return [low - span * margin, high + span * margin]
}

/** Round positions within a range, about `count` of them: steps of 1, 2, 2.5 or 5 times a power of ten of `unit`. Never below zero for data that isn't. */
export function niceTicks(
  [low, high]: readonly [number, number],
  { count = 5, unit = 1, floor = Number.NEGATIVE_INFINITY } = {},
): readonly number[] {
  const rough = (high - low) / unit / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power
  const first = Math.ceil(Math.max(low, floor) / unit / step)
  const last = Math.floor(high / unit / step)
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => (first + index) * step * unit)
}
