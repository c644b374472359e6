/** What a preset measured before it kept this variant: every candidate on the same held-out text. */
import { shareHeld, type Outcome } from '../../../engine/contract/index.ts'
import { formatInteger, formatPercent, formatSignificant } from '../../lib/format.ts'
import { Badge } from '../../ui/badge.tsx'
import { Bytes } from '../../ui/numbers.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { Term } from '../../ui/term.tsx'
import styles from './inspector.module.css'

export function outcomeSentence({ heldOut, bound, held }: Outcome): string {
  const where = `Measured on ${formatInteger(heldOut.tokens)} tokens of ${heldOut.source} that calibration did not use`
  if (bound === null) return `${where}; the nearest to the original was kept.`
  const promised = formatPercent(shareHeld(bound), 1)
  return held === true
    ? `${where}; the smallest that keeps ${promised} of the original’s certainty was kept.`
    : `${where}. No candidate keeps the ${promised} that were promised; the nearest was kept.`
}

export function OutcomeTable({ outcome }: { readonly outcome: Outcome }) {
  return (
    <div className={styles.stack}>
      <p>{outcomeSentence(outcome)}</p>
      <Table label="Candidates" onSurface dense>
        <thead>
          <Row>
            <HeaderCell>Candidate</HeaderCell>
            <HeaderCell align="end">
              <Term name="kld">KL divergence</Term>
            </HeaderCell>
            <HeaderCell align="end">Certainty kept</HeaderCell>
            <HeaderCell align="end">
              <Term name="top1">Top-1</Term>
            </HeaderCell>
            <HeaderCell align="end">Size</HeaderCell>
          </Row>
        </thead>
        <tbody>
          {outcome.candidates.map((candidate) => (
            <Row key={candidate.id}>
              <Cell>
                {candidate.title} {candidate.chosen && <Badge tone="positive">kept</Badge>}
              </Cell>
              <Cell align="end">
                {formatSignificant(candidate.kldMean, 3)}
                {candidate.kldStandardError !== null && ` ± ${formatSignificant(candidate.kldStandardError, 1)}`}
              </Cell>
              <Cell align="end">{formatPercent(shareHeld(candidate.kldMean), 2)}</Cell>
              <Cell align="end">{candidate.top1Agreement === null ? '—' : formatPercent(candidate.top1Agreement, 1)}</Cell>
              <Cell align="end">
                <Bytes value={candidate.bytes} />
              </Cell>
            </Row>
          ))}
        </tbody>
      </Table>
    </div>
  )
}
