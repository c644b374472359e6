/** The identity of a variant in every chart: colour and shape, fixed by its place in the family, so that colour is never alone. */
import { HeaderCell } from '../../ui/table.tsx'
import styles from './compare.module.css'
import type { Entry } from './metrics.ts'
import { seriesPath } from './series-path.ts'

const SERIES_COUNT = 8

export function seriesColor(series: number): string {
  return `var(--series-${series % SERIES_COUNT})`
}

export function SeriesMark({ series, size = 12 }: { readonly series: number; readonly size?: number }) {
  return (
    <svg width={size} height={size} viewBox="-8 -8 16 16" aria-hidden>
      <path d={seriesPath(series, 5.5)} fill={seriesColor(series)} />
    </svg>
  )
}

/** A short name within the family: the source is "Original". */
export function entryTitle(entry: Entry, source: Entry | undefined): string {
  if (entry.isSource) return 'Original'
  const sourceName = source?.model.name
  if (sourceName === undefined || !entry.model.name.startsWith(sourceName)) return entry.model.name
  const rest = entry.model.name.slice(sourceName.length).replace(/^[\s·:→–-]+/, '')
  return rest === '' ? entry.model.name : rest
}

/** The head of a variant's column: a long name is cut, and whole on hover and in the accessible name. */
export function EntryHeaderCell({
  entry,
  source,
  align = 'start',
}: {
  readonly entry: Entry
  readonly source: Entry | undefined
  readonly align?: 'start' | 'end'
}) {
  return (
    <HeaderCell align={align}>
      <EntryName entry={entry} source={source} />
    </HeaderCell>
  )
}

/** A variant's mark and name: a long name is cut, and whole on hover. */
export function EntryName({ entry, source }: { readonly entry: Entry; readonly source: Entry | undefined }) {
  const title = entryTitle(entry, source)
  return (
    <span className={styles.columnTitle} title={title}>
      <SeriesMark series={entry.series} size={10} />
      <span className={styles.columnText}>{title}</span>
    </span>
  )
}
