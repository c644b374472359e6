/** One small chart per metric, all variants in each, values printed. Zero-based bars on one scale, whiskers for uncertainty, never two axes. */
import { Info } from '../../ui/info.tsx'
import { ProvenanceCard } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { Term } from '../../ui/term.tsx'
import { barTop } from './bar-top.ts'
import styles from './compare.module.css'
import {
  differenceOf,
  formatDifference,
  incomparableReason,
  isOfOneJob,
  printReading,
  type Entry,
  type Metric,
  type Reading,
} from './metrics.ts'
import { NotComparable } from './not-comparable.tsx'
import { SeriesMark, entryTitle, seriesColor } from './series.tsx'

const CHARTED = ['size', 'peak', 'perplexity', 'kld', 'top1', 'decode', 'prefill', 'ttft', 'energy'] as const

interface BarsSectionProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly metrics: readonly Metric[]
  readonly mode: 'values' | 'differences'
}

export function BarsSection({ metrics, ...rest }: BarsSectionProps) {
  const charted = metrics.filter((metric) => CHARTED.some((id) => id === metric.id) || metric.id.startsWith('task:'))
  const present = charted.filter((metric) => rest.entries.some((entry) => metric.read(entry) !== null))
  return (
    <section className={styles.bars} aria-label="Side by side">
      {present.map((metric) => (
        <MetricBars key={metric.id} metric={metric} {...rest} />
      ))}
    </section>
  )
}

function MetricBars({ metric, entries, baseline, source, mode }: Omit<BarsSectionProps, 'metrics'> & { readonly metric: Metric }) {
  const readings = entries.map((entry) => ({ entry, reading: metric.read(entry), reason: incomparableReason(metric, entry, baseline) }))
  const comparable = readings.filter((row) => row.reason === null)
  const top = barTop(
    metric,
    comparable.map((row) => row.reading),
  )
  return (
    <Card
      title={metric.term === null ? metric.title : <Term name={metric.term}>{metric.title}</Term>}
      actions={<span className={styles.direction}>{metric.better === 'up' ? 'higher is better' : 'lower is better'}</span>}
    >
      <ul className={styles.barList}>
        {readings.map(({ entry, reading, reason }) => {
          const delta = reason !== null ? null : differenceOf(metric, entry, baseline)
          const text =
            reading === null
              ? '—'
              : mode === 'differences' && entry !== baseline
                ? delta === null
                  ? '—'
                  : formatDifference(metric, delta)
                : printReading(metric, reading)
          return (
            <li key={entry.model.id} className={styles.barRow} data-incomparable={reason !== null || undefined}>
              <span className={styles.barName} title={entry.model.name}>
                <SeriesMark series={entry.series} size={10} />
                <span className={styles.barText}>{entryTitle(entry, source)}</span>
              </span>
              <span className={styles.barTrack} aria-hidden>
                {reading !== null && reason === null && <Bar reading={reading} top={top} series={entry.series} />}
              </span>
              <BarValue text={text} reading={reading} reason={reason} />
            </li>
          )
        })}
      </ul>
      {metric.rival !== undefined && mode === 'values' && comparable.some(({ entry }) => !isOfOneJob(entry, baseline)) && (
        <p className={styles.barNote}>From several jobs. Ratios are of runs in turns: they need not be those of these bars.</p>
      )}
    </Card>
  )
}

function Bar({ reading, top, series }: { readonly reading: Reading; readonly top: number; readonly series: number }) {
  const share = (value: number) => `${Math.min(100, (value / top) * 100)}%`
  return (
    <>
      <span className={styles.barFill} style={{ width: share(reading.value), background: seriesColor(series) }} />
      {reading.range !== null && (
        <span
          className={styles.whisker}
          style={{ left: share(reading.range[0]), width: `calc(${share(reading.range[1])} - ${share(reading.range[0])})` }}
        />
      )}
    </>
  )
}

function BarValue({ text, reading, reason }: { readonly text: string; readonly reading: Reading | null; readonly reason: string | null }) {
  if (reason !== null && reading !== null) {
    return (
      <Info className={styles.barValue} card={<NotComparable reason={reason} reading={reading} />}>
        {text}
      </Info>
    )
  }
  if (reading === null || reading.provenance === null) return <span className={styles.barValue}>{text}</span>
  return (
    <Info className={styles.barValue} card={<ProvenanceCard provenance={reading.provenance} details={reading.details} />}>
      {text}
    </Info>
  )
}
