/** Which figure of a row may be called the best: only where the evidence says so. Marks it in the table and in the report. */
import { incomparableReason, type Entry, type Metric, type Reading } from './metrics.ts'

/** What of each entry may be called the best of the row: not what can't be compared, nor what is so by definition. */
export function rivalsOf(metric: Metric, entries: readonly Entry[], baseline: Entry): readonly (Pick<Reading, 'value' | 'range'> | null)[] {
  const may = (entry: Entry) =>
    incomparableReason(metric, entry, baseline) === null && metric.isDefined?.(entry) !== true && metric.read(entry) !== null
  const { rival } = metric
  if (rival === undefined) return entries.map((entry) => (may(entry) ? metric.read(entry) : null))
  const rivals = entries.map((entry) => (may(entry) ? rival(entry, baseline) : null))
  // One that was never measured beside the others might be better than all of them.
  return entries.some((entry, index) => may(entry) && rivals[index] === null) ? entries.map(() => null) : rivals
}

/**
 * Entries whose value is the best of the row. None when all are equal, and none when another lies within the winner's uncertainty or the winner
 * within the other's: a difference that a second measurement could turn round is not a win.
 */
export function bestOf(metric: Metric, readings: readonly (Pick<Reading, 'value' | 'range'> | null)[]): ReadonlySet<number> {
  const known = readings.filter((reading) => reading !== null)
  const sign = metric.better === 'up' ? 1 : -1
  const [winner] = known.toSorted((one, other) => sign * (other.value - one.value))
  if (winner === undefined) return new Set()
  const beaten = known.filter((reading) => reading.value !== winner.value)
  if (beaten.length === 0 || beaten.some((other) => holds(winner.range, other.value) || holds(other.range, winner.value))) return new Set()
  return new Set(readings.flatMap((reading, index) => (reading?.value === winner.value ? [index] : [])))
}

function holds(range: Reading['range'], value: number): boolean {
  return range !== null && value >= range[0] && value <= range[1]
}
