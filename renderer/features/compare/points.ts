/** Which entries may stand on a pair of axes, where, and on the frontier or not. */
import { incomparableReason, type Entry, type Metric } from './metrics.ts'
import { paretoFrontier } from './pareto.ts'
import { entryTitle } from './series.tsx'

export interface Point {
  readonly id: string
  readonly entry: Entry
  readonly title: string
  readonly x: number
  readonly y: number
  readonly error: readonly [number, number]
  readonly radius: number
  readonly onFrontier: boolean
}

interface PointsInput {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly metrics: { readonly x: Metric; readonly y: Metric; readonly decode: Metric | undefined }
}

function notMeasured(entry: Entry, metric: Metric): string {
  const reason = metric.missing?.(entry) ?? null
  return reason === null ? 'not measured' : `not measured: ${reason.replace(/\.$/, '')}`
}

/** Points of entries that may stand on these axes, and why the others may not. */
export function pointsOf({ entries, baseline, source, metrics: { x, y, decode } }: PointsInput): {
  readonly points: readonly Point[]
  readonly left: readonly string[]
} {
  const left: string[] = []
  const raw = entries.flatMap((entry) => {
    const title = entryTitle(entry, source)
    const atX = x.read(entry)
    const atY = y.read(entry)
    const reason = incomparableReason(x, entry, baseline) ?? incomparableReason(y, entry, baseline)
    if (reason !== null) left.push(`${title} (${reason})`)
    else if (atX === null || atY === null) left.push(`${title} (${notMeasured(entry, atX === null ? x : y)})`)
    if (atX === null || atY === null || reason !== null) return []
    const error: readonly [number, number] =
      atY.range === null ? [0, 0] : [Math.max(0, atY.value - atY.range[0]), Math.max(0, atY.range[1] - atY.value)]
    return [{ id: entry.model.id, entry, title, x: atX.value, y: atY.value, error, speed: decode?.read(entry)?.value ?? null }]
  })
  const frontier = paretoFrontier(raw, x.better, y.better)
  const fastest = Math.max(1e-9, ...raw.map((point) => point.speed ?? 0))
  const points = raw.map(({ speed, ...point }) => ({
    ...point,
    // Area, not radius, follows speed.
    radius: speed === null ? 6 : 5 + 7 * Math.sqrt(speed / fastest),
    onFrontier: frontier.has(point.id),
  }))
  return { points: points.toSorted((one, other) => one.x - other.x), left }
}

/** Whether a point is off the frontier only for heights that another measurement could turn round: the error bars of all that beat it reach its own. */
export function restsOnChance(points: readonly Point[], better: { readonly x: 'up' | 'down'; readonly y: 'up' | 'down' }): boolean {
  return points.some((point) => {
    if (point.onFrontier) return false
    const beaters = points.filter(
      (other) => other !== point && noWorse(other.x, point.x, better.x) && noWorse(other.y, point.y, better.y) && other.y !== point.y,
    )
    const reaches = (other: Point) =>
      point.y - point.error[0] <= other.y + other.error[1] && other.y - other.error[0] <= point.y + point.error[1]
    return beaters.length > 0 && beaters.every(reaches)
  })
}

function noWorse(one: number, other: number, better: 'up' | 'down'): boolean {
  return better === 'up' ? one >= other : one <= other
}
