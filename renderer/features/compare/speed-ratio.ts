/** How much faster one model is than another, from runs that took turns: the speeds of two jobs say as much about the day as about the models. */
import type { ResultSet } from '../../../engine/contract/index.ts'
import type { Entry } from './metrics.ts'

type Versus = NonNullable<NonNullable<ResultSet['throughput']>['versus']>
export type RatioName = keyof Omit<Versus, 'baselineId'>

export interface SpeedRatio {
  readonly value: number
  /** Of the single rounds. */
  readonly range: readonly [number, number]
}

/**
 * In one job, whichever of the two was its baseline; else of two jobs in which each took turns with the same third. null where nothing joins the two.
 */
export function ratioInTurns(entry: Entry, baseline: Entry, name: RatioName): SpeedRatio | null {
  const own = entry.result?.throughput?.versus ?? null
  const theirs = baseline.result?.throughput?.versus ?? null
  if (own?.baselineId === baseline.model.id) return ofRange(own[name])
  if (theirs?.baselineId === entry.model.id) return quotient({ value: 1, range: [1, 1] }, ofRange(theirs[name]))
  if (own === null || theirs === null || own.baselineId !== theirs.baselineId) return null
  return quotient(ofRange(own[name]), ofRange(theirs[name]))
}

function ofRange({ median, min, max }: Versus[RatioName]): SpeedRatio {
  return { value: median, range: [min, max] }
}

function quotient(over: SpeedRatio, under: SpeedRatio): SpeedRatio | null {
  if (under.range[0] <= 0) return null
  return { value: over.value / under.value, range: [over.range[0] / under.range[1], over.range[1] / under.range[0]] }
}
