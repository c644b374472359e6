/** What each variant gives and costs, in one line each: the answer before the charts. */
import { formatPercent, formatSignificant } from '../../lib/format.ts'
import { Card } from '../../ui/page.tsx'
import styles from './compare.module.css'
import { incomparableReason, metricsOf, type Entry, type Metric } from './metrics.ts'
import { driftFrom, driftReference } from './quality-metrics.ts'
import { SeriesMark, entryTitle } from './series.tsx'
import { meanTasks, taskMeanRatio } from './task-metrics.ts'

interface GlanceProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
}

export function Glance({ entries, baseline, source }: GlanceProps) {
  const others = entries.filter((entry) => entry !== baseline)
  return (
    <Card title={`Against ${entryTitle(baseline, source)}`} className={styles.glance}>
      {isDriftElsewhere(others, baseline) && (
        <p className={styles.glanceNote}>Drift is from the original until “Measure again” takes it from here.</p>
      )}
      <ul className={styles.glanceList}>
        {others.map((entry) => {
          const facts = glanceFacts(entry, baseline)
          return (
            <li key={entry.model.id}>
              <h3 className={styles.glanceTitle}>
                <SeriesMark series={entry.series} />
                <span className={styles.glanceName} title={entryTitle(entry, source)}>
                  {entryTitle(entry, source)}
                </span>
              </h3>
              {facts.length === 0 && <p className={styles.quiet}>Nothing measured here that can be compared.</p>}
              <dl className={styles.glanceFacts}>
                {facts.map((fact) => (
                  <div key={fact.title}>
                    <dt>{fact.title}</dt>
                    <dd className="numeric">{fact.text}</dd>
                  </div>
                ))}
              </dl>
            </li>
          )
        })}
      </ul>
    </Card>
  )
}

/** Another baseline was pinned, and nobody has been measured from it yet. */
function isDriftElsewhere(others: readonly Entry[], baseline: Entry): boolean {
  if (baseline.isSource || baseline.model.origin === 'published' || driftReference(others, baseline) !== null) return false
  return others.some((entry) => driftFrom(entry, null) !== null)
}

interface GlanceFact {
  readonly title: string
  readonly text: string
}

/** Size and speed as ratios, quality as what is kept. Only what is measured and comparable is said. */
export function glanceFacts(entry: Entry, baseline: Entry): readonly GlanceFact[] {
  const metrics = new Map(metricsOf([baseline, entry], baseline).map((metric) => [metric.id, metric]))
  const ratio = (metric: Metric | undefined): number | null => {
    if (metric === undefined || incomparableReason(metric, entry, baseline) !== null) return null
    // ratios of speeds are those of runs that took turns
    const paired = metric.delta === 'relative' ? (metric.paired?.(entry, baseline) ?? null) : null
    if (paired !== null) return 1 + paired
    const mine = metric.read(entry)?.value
    const theirs = metric.read(baseline)?.value
    return mine === undefined || theirs === undefined || theirs === 0 ? null : mine / theirs
  }
  const size = ratio(metrics.get('size'))
  const names = meanTasks([baseline, entry])
  const shared = names.filter((name) => {
    const metric = metrics.get(`task:${name}`)
    const isAsked = [baseline, entry].every((of) => metric?.read(of) !== null)
    return metric !== undefined && isAsked && incomparableReason(metric, entry, baseline) === null
  })
  const tasks = taskMeanRatio(entry, baseline, shared)
  const tasksTitle = shared.length === names.length ? 'of task accuracy' : `of accuracy, ${shared.length} of ${names.length} tasks`
  const decode = ratio(metrics.get('decode'))
  const turns = metrics.get('decode')?.rival?.(entry, baseline)?.range ?? null
  const decodeTitle =
    turns === null || turns[0] === turns[1]
      ? 'decode speed'
      : `decode (${formatSignificant(turns[0], 2)}–${formatSignificant(turns[1], 2)}×)`
  const top1 = driftFrom(entry, baseline) === null ? undefined : metrics.get('top1')?.read(entry)?.value
  return [
    ...(size === null ? [] : [{ title: 'of the size', text: formatPercent(size, 0) }]),
    ...(tasks === null ? [] : [{ title: tasksTitle, text: withHalf(tasks) }]),
    ...(top1 === undefined ? [] : [{ title: 'same next token', text: formatPercent(top1) }]),
    ...(decode === null ? [] : [{ title: decodeTitle, text: `${formatSignificant(decode)}×` }]),
  ]
}

/** "99.2 ± 5.6 %": half of the 95 % interval, where it is known. */
function withHalf({ ratio, half }: { readonly ratio: number; readonly half: number | null }): string {
  return half === null ? formatPercent(ratio) : `${(ratio * 100).toFixed(1)} ± ${formatPercent(half)}`
}
