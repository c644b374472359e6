/**
 * Is each variant as good as the original, within the loss that the user allows? One chip per task, by the non-inferiority test on the same items;
 * beside every "can't tell" stands what the items could have told. "Not significant" is never "the same".
 */
import { Check, CircleHelp, TriangleAlert } from 'lucide-react'
import type { PairedComparison, Verdict } from '../../../engine/contract/index.ts'
import { formatInteger, formatPercent, formatSignificant, formatPoints } from '../../lib/format.ts'
import { Badge } from '../../ui/badge.tsx'
import { Select } from '../../ui/controls.tsx'
import { Info } from '../../ui/info.tsx'
import { Card } from '../../ui/page.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { Term } from '../../ui/term.tsx'
import styles from './compare.module.css'
import type { Entry } from './metrics.ts'
import { EntryHeaderCell, entryTitle } from './series.tsx'
import { useJudgements, type Judgement } from './use-judgements.ts'

export const MARGINS = ['0.005', '0.01', '0.02', '0.05'] as const
export type MarginChoice = (typeof MARGINS)[number]

function marginTitle(choice: MarginChoice): string {
  const points = Number(choice) * 100
  return `${points} ${points === 1 ? 'point' : 'points'}`
}

interface VerdictsProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly margin: MarginChoice
  readonly onMargin: (margin: MarginChoice) => void
}

export function Verdicts({ entries, baseline, source, margin, onMargin }: VerdictsProps) {
  const others = entries.filter((entry) => entry !== baseline)
  const judgements = useJudgements(others, baseline, Number(margin))
  const tasks = [...new Map(judgements.map((judgement) => [judgement.task, judgement.title]))]
  if (!judgements.some((judgement) => judgement.paired !== null)) return null
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
          options={MARGINS.map((choice) => ({ value: choice, title: marginTitle(choice) }))}
        />
      }
    >
      <Table label="Verdicts by task" onSurface dense className={styles.wide}>
        <thead>
          <tr>
            <HeaderCell>Task</HeaderCell>
            {others.map((entry) => (
              <EntryHeaderCell key={entry.model.id} entry={entry} source={source} />
            ))}
          </tr>
        </thead>
        <tbody>
          {tasks.map(([task, title]) => (
            <Row key={task}>
              <th scope="row" className={styles.rowTitle}>
                {title}
              </th>
              {others.map((entry) => (
                <Cell key={entry.model.id} className={styles.verdictCell}>
                  <VerdictCell
                    judgement={judgements.find((candidate) => candidate.task === task && candidate.modelId === entry.model.id)}
                    name={entryTitle(entry, source)}
                  />
                </Cell>
              ))}
            </Row>
          ))}
        </tbody>
      </Table>
    </Card>
  )
}

const LOOKS = {
  'non-inferior': { tone: 'positive', text: 'as good', icon: Check },
  worse: { tone: 'danger', text: 'worse', icon: TriangleAlert },
  inconclusive: { tone: 'neutral', text: 'can’t tell', icon: CircleHelp },
} as const satisfies Record<Verdict, { tone: string; text: string; icon: unknown }>

function VerdictCell({ judgement, name }: { readonly judgement: Judgement | undefined; readonly name: string }) {
  if (judgement === undefined) return <span className={styles.quiet}>—</span>
  const { paired, reason, title, n, isShare } = judgement
  if (paired === null || paired.verdict === null) {
    return (
      <Info card={reason ?? 'This metric has no margin to be judged by.'} className={styles.quiet} label={`${title}, ${name}: not judged`}>
        not judged
      </Info>
    )
  }
  const look = LOOKS[paired.verdict]
  const unit = (value: number) => (isShare ? formatPoints(value, 1) : formatSignificant(value))
  const { minimumDetectableDifference: detectable, itemsNeeded } = paired
  return (
    <span className={styles.verdict}>
      <Info card={<VerdictDetails items={n} paired={paired} unit={unit} />} label={`${title}, ${name}: ${look.text}`}>
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
          `; ${formatInteger(n)} items show ${unit(detectable)} at best`}
        {paired.verdict === 'inconclusive' && itemsNeeded !== null && `; ≈ ${formatInteger(itemsNeeded)} items would decide`}
      </span>
    </span>
  )
}

function VerdictDetails({
  items,
  paired,
  unit,
}: {
  readonly items: number
  readonly paired: PairedComparison
  readonly unit: (value: number) => string
}) {
  const { interval, margin, recovery, recoveryInterval, adjustedRecovery, lost, gained, changed, mcnemarP, holmP, pairing, warnings } =
    paired
  const rows: readonly (readonly [string, string] | null)[] = [
    ['Difference', `${unit(paired.difference)} (95 %: ${unit(interval[0])} to ${unit(interval[1])})`],
    margin === null ? null : ['Allowed loss', unit(margin)],
    ['Items', `${formatInteger(items)}, ${pairing === 'paired' ? 'the same for both' : 'others than the baseline’s: not paired'}`],
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
