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

/** A range for an axis that holds every value and a margin, and never has no width. */
export function axisDomain(values: readonly number[], margin = 0.12): readonly [number, number] {
  const low = Math.min(...values)
  const high = Math.max(...values)
  const span = high - low || Math.abs(high) || 1
  return [low >= 0 ? Math.max(0, low - span * margin) : low - span * margin, high + span * margin]
}
