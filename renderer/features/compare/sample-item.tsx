/** One item: its prompt, the right answer, and both models' answers beside each other. */
import type { SampleRow } from '../../../engine/contract/index.ts'
import { formatInteger, formatSignificant, plural } from '../../lib/format.ts'
import { Badge } from '../../ui/badge.tsx'
import styles from './evidence.module.css'
import { wordDiff, type DiffPiece } from './word-diff.ts'

interface SampleItemProps {
  readonly row: SampleRow
  readonly names: { readonly baseline: string; readonly own: string }
}

export function SampleItem({ row, names }: SampleItemProps) {
  const { baselineOutput } = row
  const diff = baselineOutput === null ? null : wordDiff(baselineOutput, row.output)
  return (
    <li className={styles.sample}>
      <div className={styles.sampleHead}>
        <span className={styles.quiet}>Item {formatInteger(row.docId)}</span>
        {change(row) !== null && <Badge tone={change(row)?.tone ?? 'neutral'}>{change(row)?.text}</Badge>}
        {!row.samePrompt && <Badge tone="warning">asked in other words</Badge>}
        {row.choices.length === 0 && diff !== null && (
          <span className={styles.quiet}>
            {diff.sharedWords === null ? 'word for word the same' : `part after ${plural(diff.sharedWords, 'word')}`}
          </span>
        )}
      </div>
      <details className={styles.prompt}>
        <summary>{endOf(row.prompt.trim())}</summary>
        <pre tabIndex={0} role="region" aria-label={`Prompt of item ${row.docId}`}>
          {row.prompt}
        </pre>
      </details>
      {row.choices.length > 0 ? (
        <Choices row={row} names={names} />
      ) : (
        <div className={styles.sides}>
          <Side
            name={names.baseline}
            correct={row.baselineCorrect}
            pieces={diff === null ? null : diff.pieces.filter((piece) => piece.kind !== 'right')}
          />
          <Side
            name={names.own}
            correct={row.correct}
            pieces={diff?.pieces.filter((piece) => piece.kind !== 'left') ?? [{ kind: 'same', text: row.output }]}
          />
        </div>
      )}
      {row.choices.length === 0 && row.target !== '' && (
        <p className={styles.quiet}>
          Right answer: <code>{row.target}</code>
        </p>
      )}
    </li>
  )
}

/** Of a prompt, the question stands last. */
const SUMMARY_CHARACTERS = 160

function endOf(prompt: string): string {
  return prompt.length > SUMMARY_CHARACTERS ? `…${prompt.slice(-SUMMARY_CHARACTERS)}` : prompt
}

function change({
  correct,
  baselineCorrect,
  answer,
  baselineAnswer,
}: SampleRow): { readonly tone: 'positive' | 'danger' | 'neutral'; readonly text: string } | null {
  if (baselineCorrect === true && correct === false) return { tone: 'danger', text: 'lost' }
  if (baselineCorrect === false && correct === true) return { tone: 'positive', text: 'gained' }
  return baselineAnswer !== null && answer !== baselineAnswer ? { tone: 'neutral', text: 'changed' } : null
}

function Side({
  name,
  correct,
  pieces,
}: {
  readonly name: string
  readonly correct: boolean | null
  readonly pieces: readonly DiffPiece[] | null
}) {
  return (
    <div className={styles.side}>
      <h3>
        {name}
        {correct !== null && <span className={styles.quiet}>{correct ? ' · right' : ' · wrong'}</span>}
      </h3>
      {pieces === null ? (
        <p className={styles.quiet}>No answer to this item.</p>
      ) : (
        <p className={styles.output}>
          {pieces.map((piece, index) =>
            piece.kind === 'same' ? (
              <span key={index}>{piece.text}</span>
            ) : piece.kind === 'left' ? (
              <del key={index}>{piece.text}</del>
            ) : (
              <ins key={index}>{piece.text}</ins>
            ),
          )}
        </p>
      )}
    </div>
  )
}

function Choices({ row, names }: SampleItemProps) {
  return (
    <ul className={styles.choices}>
      {row.choices.map((choice, index) => {
        const [own, theirs] = [row.logprobs[index] ?? null, row.baselineLogprobs?.[index] ?? null]
        return (
          <li key={index} data-right={choice.trim() === row.target.trim() || undefined}>
            <span className={styles.choiceText}>{choice}</span>
            {choice.trim() === row.target.trim() && <Badge tone="positive">right</Badge>}
            {row.baselineOutput === choice && <Badge>{names.baseline}</Badge>}
            {row.output === choice && <Badge tone="accent">{names.own}</Badge>}
            <span className={styles.logprobs}>
              {theirs === null ? '' : `${formatSignificant(theirs)} → `}
              {own === null ? '' : formatSignificant(own)}
            </span>
          </li>
        )
      })}
    </ul>
  )
}
