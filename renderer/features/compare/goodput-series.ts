/** Which share of the requests met the service level at which rate, model by model; only one level's shares stand on an axis. */
import type { ServiceLevel } from '../../../engine/contract/index.ts'
import type { Entry } from './metrics.ts'
import { loadOf } from './served-metrics.ts'

export interface GoodputPoint {
  /** Requests per second, as scheduled; as reached where there was no schedule. */
  readonly rate: number
  readonly share: number
  readonly load: string
}

export interface GoodputSeries {
  readonly entry: Entry
  /** By ascending rate. */
  readonly points: readonly GoodputPoint[]
  /** Highest rates with 99 and 90 % of the requests within the level; null = at none of the loads. */
  readonly rate99: number | null
  readonly rate90: number | null
}

export interface GoodputBoard {
  readonly level: ServiceLevel
  readonly series: readonly GoodputSeries[]
  /** Entries whose loads were held against another level. */
  readonly left: readonly { readonly entry: Entry; readonly level: string }[]
}

const limitsOf = ({ ttftMs, tpotMs, e2eMs }: ServiceLevel): string => [ttftMs, tpotMs, e2eMs].join()

/** null where no load was held against a level. */
export function goodputBoard(entries: readonly Entry[]): GoodputBoard | null {
  const held = entries.flatMap((entry) => {
    const within = entry.result?.served?.withinLevel ?? null
    return within === null ? [] : [{ entry, within }]
  })
  const [first] = held
  if (first === undefined) return null
  const { level } = first.within
  const same = held.filter(({ within }) => limitsOf(within.level) === limitsOf(level))
  return {
    level,
    series: same.map(({ entry, within }) => ({ entry, points: pointsOf(entry), rate99: within.rate99, rate90: within.rate90 })),
    left: held.filter((candidate) => !same.includes(candidate)).map(({ entry, within }) => ({ entry, level: within.level.name })),
  }
}

function pointsOf(entry: Entry): GoodputPoint[] {
  const points = (entry.result?.served?.runs ?? []).flatMap((run): GoodputPoint[] =>
    run.goodput === null ? [] : [{ rate: run.rate ?? run.requestsPerSecond, share: run.goodput.share, load: loadOf(run) }],
  )
  return points.toSorted((one, other) => one.rate - other.rate)
}
