/** Every figure of the board in one table: rows are metrics, columns are variants. The charts' twin, and what gets copied. */
import { Copy } from 'lucide-react'
import { Fragment } from 'react'
import { classNames } from '../../lib/class-names.ts'
import { useQueryChoice } from '../../lib/url-state.ts'
import { Button } from '../../ui/button.tsx'
import { Checkbox } from '../../ui/controls.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Info } from '../../ui/info.tsx'
import { Menu } from '../../ui/menu.tsx'
import { ProvenanceCard } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { Term } from '../../ui/term.tsx'
import { showToast } from '../../ui/toast.tsx'
import styles from './compare.module.css'
import { toCsv, toMarkdown } from './export.ts'
import { bestOf, rivalsOf } from './best.ts'
import {
  differenceOf,
  formatDifference,
  formatRange,
  incomparableReason,
  printReading,
  type Entry,
  type Metric,
  type MetricGroup,
} from './metrics.ts'
import { NotComparable } from './not-comparable.tsx'
import { EntryHeaderCell } from './series.tsx'

interface ResultsTableProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly metrics: readonly Metric[]
  readonly mode: 'values' | 'differences'
}

const GROUPS: readonly MetricGroup[] = ['Size', 'Quality', 'Tasks', 'Speed', 'Served']

export function ResultsTable({ entries, baseline, source, metrics, mode }: ResultsTableProps) {
  const host = useHost()
  const [filter, setFilter] = useQueryChoice('rows', ['all', 'different'], 'all')
  const present = metrics.filter((metric) => entries.some((entry) => metric.read(entry) !== null || missingOf(metric, entry) !== null))
  const rows = filter === 'all' ? present : present.filter((metric) => new Set(entries.map((entry) => printed(metric, entry))).size > 1)
  const copy = async (format: 'Markdown' | 'CSV') => {
    const table = { entries, baseline, source, metrics: rows }
    await host.copyText(format === 'Markdown' ? toMarkdown(table) : toCsv(table))
    showToast({ type: 'success', title: `Copied as ${format}` })
  }
  return (
    <Card
      padded={false}
      className={styles.tableCard}
      title="All figures"
      actions={
        <>
          <span className={styles.diffOnly}>
            <Checkbox
              label="Only rows that differ"
              checked={filter === 'different'}
              onChange={(on) => setFilter(on ? 'different' : 'all')}
            />
            Only rows that differ
          </span>
          <Menu
            label="Copy the table"
            trigger={
              <Button size="small" icon={Copy}>
                Copy
              </Button>
            }
            actions={[
              { title: 'As Markdown', onSelect: () => void copy('Markdown') },
              { title: 'As CSV', onSelect: () => void copy('CSV') },
            ]}
          />
        </>
      }
    >
      <Table label="All figures" onSurface dense className={styles.wide}>
        <thead>
          <tr>
            <HeaderCell>Metric</HeaderCell>
            {entries.map((entry) => (
              <EntryHeaderCell key={entry.model.id} entry={entry} source={source} align="end" />
            ))}
          </tr>
        </thead>
        <tbody>
          {GROUPS.map((group) => {
            const inGroup = rows.filter((metric) => metric.group === group)
            if (inGroup.length === 0) return null
            return (
              <Fragment key={group}>
                <tr className={styles.groupRow}>
                  <th scope="rowgroup" colSpan={entries.length + 1}>
                    <span className={styles.groupName}>{group}</span>
                  </th>
                </tr>
                {inGroup.map((metric) => (
                  <MetricRow key={metric.id} metric={metric} entries={entries} baseline={baseline} mode={mode} />
                ))}
              </Fragment>
            )
          })}
        </tbody>
      </Table>
    </Card>
  )
}

function missingOf(metric: Metric, entry: Entry): string | null {
  return metric.missing?.(entry) ?? null
}

function printed(metric: Metric, entry: Entry): string {
  const reading = metric.read(entry)
  return reading === null ? '' : printReading(metric, reading)
}

function MetricRow({
  metric,
  entries,
  baseline,
  mode,
}: {
  readonly metric: Metric
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly mode: 'values' | 'differences'
}) {
  const reasons = entries.map((entry) => incomparableReason(metric, entry, baseline))
  const best = bestOf(metric, rivalsOf(metric, entries, baseline))
  return (
    <Row>
      <th scope="row" className={styles.rowTitle}>
        {metric.term === null ? metric.title : <Term name={metric.term}>{metric.title}</Term>}
        <span className="visually-hidden">, {metric.better === 'up' ? 'higher is better' : 'lower is better'}</span>
      </th>
      {entries.map((entry, index) => (
        <Cell key={entry.model.id} align="end" className={classNames(best.has(index) && styles.best)}>
          <Figure metric={metric} entry={entry} baseline={baseline} mode={mode} reason={reasons[index] ?? null} best={best.has(index)} />
        </Cell>
      ))}
    </Row>
  )
}

interface FigureProps {
  readonly metric: Metric
  readonly entry: Entry
  readonly baseline: Entry
  readonly mode: 'values' | 'differences'
  readonly reason: string | null
  readonly best: boolean
}

function Figure({ metric, entry, baseline, mode, reason, best }: FigureProps) {
  const reading = metric.read(entry)
  if (reading === null) {
    const missing = missingOf(metric, entry)
    return missing === null ? (
      <span className={styles.quiet}>—</span>
    ) : (
      <Info card={`Not measured: ${missing}`} className={styles.quiet}>
        not measured
      </Info>
    )
  }
  if (reason !== null) {
    return (
      <Info card={<NotComparable reason={reason} reading={reading} />} className={styles.quiet}>
        {printReading(metric, reading)}
      </Info>
    )
  }
  const delta = differenceOf(metric, entry, baseline)
  const text =
    mode === 'differences' && entry !== baseline ? (delta === null ? '—' : formatDifference(metric, delta)) : printReading(metric, reading)
  const content = (
    <>
      {text}
      {best && <span className="visually-hidden">, best</span>}
      {reading.range !== null && mode === 'values' && <span className={styles.range}> {formatRange(metric, reading.range)}</span>}
    </>
  )
  if (reading.provenance === null) return content
  return (
    <Info
      card={
        <ProvenanceCard
          provenance={reading.provenance}
          details={{ ...reading.details, ...(reading.rangeMeaning === null ? {} : { Range: reading.rangeMeaning }) }}
        />
      }
    >
      {content}
    </Info>
  )
}
