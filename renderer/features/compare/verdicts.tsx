/**
 * Is each variant as good as the original, within the loss that the user allows? One chip per task, by the non-inferiority test on the same items;
 * beside every "can't tell" stands what the items could have told. "Not significant" is never "the same".
 */
import { Check, CircleHelp, TriangleAlert } from 'lucide-react'
import type { PairedComparison, TaskResult, Verdict } from '../../../engine/contract/index.ts'
import { formatInteger, formatPercent, formatSignificant } from '../../lib/format.ts'
import { Badge } from '../../ui/badge.tsx'
import { Select } from '../../ui/controls.tsx'
import { Info } from '../../ui/info.tsx'
import { Card } from '../../ui/page.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { Term } from '../../ui/term.tsx'
import styles from './compare.module.css'
import type { Entry } from './metrics.ts'
import { SeriesMark, entryTitle } from './series.tsx'
import { findTask, isShareOf } from './task-metrics.ts'

export const MARGINS = ['0.005', '0.01', '0.02', '0.05'] as const
export type MarginChoice = (typeof MARGINS)[number]

interface VerdictsProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly margin: MarginChoice
  readonly onMargin: (margin: MarginChoice) => void
}

export function Verdicts({ entries, baseline, source, margin, onMargin }: VerdictsProps) {
  const others = entries.filter((entry) => entry !== baseline)
  const tasks = judgedTasks(others, baseline.model.id)
  if (tasks.length === 0) return null
  return (
    <Card
      padded={false}
      className={styles.tableCard}
      title={
        <>
          <Term name="non-inferior">As good as {entryTitle(baseline, source)}?</Term>
        </>
      }
      actions={
        <Select
          size="small"
          label="Allowed loss"
          prefix="within"
          value={margin}
          onChange={onMargin}
          options={MARGINS.map((choice) => ({ value: choice, title: `${formatSignificant(Number(choice) * 100, 1)} points` }))}
        />
      }
    >
      <Table label="Verdicts by task" onSurface dense>
        <thead>
          <tr>
            <HeaderCell>Task</HeaderCell>
            {others.map((entry) => (
              <HeaderCell key={entry.model.id}>
                <span className={styles.columnTitle}>
                  <SeriesMark series={entry.series} size={10} />
                  {entryTitle(entry, source)}
                </span>
              </HeaderCell>
            ))}
          </tr>
        </thead>
        <tbody>
          {tasks.map(({ name, title }) => (
            <Row key={name}>
              <th scope="row" className={styles.rowTitle}>
                {title}
              </th>
              {others.map((entry) => {
                const task = findTask(entry, name)
                const paired = pairedWith(task, baseline.model.id)
                return (
                  <Cell key={entry.model.id}>
                    {task === null || paired === null ? (
                      <span className={styles.quiet}>—</span>
                    ) : (
                      <VerdictCell task={task} paired={paired} title={`${title}, ${entryTitle(entry, source)}`} />
                    )}
                  </Cell>
                )
              })}
            </Row>
          ))}
        </tbody>
      </Table>
    </Card>
  )
}

function pairedWith(task: TaskResult | null, baselineId: string): PairedComparison | null {
  return task?.paired?.baselineId === baselineId && task.paired.verdict !== null ? task.paired : null
}

/** Tasks on which at least one entry was judged against this baseline. */
export function judgedTasks(entries: readonly Entry[], baselineId: string): readonly { readonly name: string; readonly title: string }[] {
  const tasks = entries.flatMap((entry) => entry.result?.tasks ?? []).filter((task) => pairedWith(task, baselineId) !== null)
  return [...new Map(tasks.map((task) => [task.name, task.title]))].map(([name, title]) => ({ name, title }))
}

const LOOKS = {
  'non-inferior': { tone: 'positive', text: 'as good', icon: Check },
  worse: { tone: 'danger', text: 'worse', icon: TriangleAlert },
  inconclusive: { tone: 'neutral', text: 'can’t tell', icon: CircleHelp },
} as const satisfies Record<Verdict, { tone: string; text: string; icon: unknown }>

interface VerdictCellProps {
  readonly task: TaskResult
  readonly paired: PairedComparison
  readonly title: string
}

function VerdictCell({ task, paired, title }: VerdictCellProps) {
  if (paired.verdict === null) return null
  const look = LOOKS[paired.verdict]
  const unit = (value: number) => (isShareOf(task) ? `${(value * 100).toFixed(1)} pp` : formatSignificant(value))
  const { minimumDetectableDifference: detectable, itemsNeeded } = paired
  return (
    <span className={styles.verdict}>
      <Info card={<VerdictDetails task={task} paired={paired} unit={unit} />} label={`${title}: ${look.text}`}>
        <Badge tone={look.tone} icon={look.icon}>
          {look.text}
        </Badge>
      </Info>
      <span className={styles.verdictNote}>
        {paired.difference > 0 ? '+' : paired.difference < 0 ? '−' : '±'}
        {unit(Math.abs(paired.difference))}
        {/* a difference that is not shown says nothing without what could have been */}
        {detectable !== null &&
          paired.interval[0] <= 0 &&
          paired.interval[1] >= 0 &&
          `; ${formatInteger(task.n)} items show ${unit(detectable)} at best`}
        {paired.verdict === 'inconclusive' && itemsNeeded !== null && `; ≈ ${formatInteger(itemsNeeded)} items would decide`}
      </span>
    </span>
  )
}

function VerdictDetails({
  task,
  paired,
  unit,
}: {
  readonly task: TaskResult
  readonly paired: PairedComparison
  readonly unit: (value: number) => string
}) {
  const { interval, margin, recovery, recoveryInterval, adjustedRecovery, lost, gained, changed, mcnemarP, holmP, pairing, warnings } =
    paired
  const rows: readonly (readonly [string, string] | null)[] = [
    ['Difference', `${unit(paired.difference)} (95 %: ${unit(interval[0])} to ${unit(interval[1])})`],
    margin === null ? null : ['Allowed loss', unit(margin)],
    ['Items', `${formatInteger(task.n)}, ${pairing === 'paired' ? 'the same for both' : 'others than the baseline’s: not paired'}`],
    lost === null || gained === null
      ? null
      : ['Flips', `${lost} lost, ${gained} gained${changed === null ? '' : `, ${changed} answers changed`}`],
    mcnemarP === null
      ? null
      : ['McNemar p', `${formatSignificant(mcnemarP, 2)}${holmP === null ? '' : `; ${formatSignificant(holmP, 2)} over all tasks (Holm)`}`],
    recovery === null
      ? null
      : [
          'Recovery',
          `${formatPercent(recovery)}${recoveryInterval === null ? '' : ` (${formatPercent(recoveryInterval[0])}–${formatPercent(recoveryInterval[1])})`}${adjustedRecovery === null ? '' : `; above chance ${formatPercent(adjustedRecovery)}`}`,
        ],
  ]
  return (
    <>
      <dl className={styles.verdictFacts}>
        {rows.map((row) =>
          row === null ? null : (
            <div key={row[0]}>
              <dt>{row[0]}</dt>
              <dd>{row[1]}</dd>
            </div>
          ),
        )}
      </dl>
      {warnings.map((warning) => (
        <p key={warning}>{warning}</p>
      ))}
    </>
  )
}
