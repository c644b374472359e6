/**
 * How far the generated answers of a task moved from the original's: how many stayed the same, where the others part, whether that was a near-tie, and
 * how much there is to edit. A near-tie is shown as odds, which need no logarithm to be read.
 */
import type { FreeTextDrift } from '../../../engine/contract/index.ts'
import { formatInteger, formatPercent } from '../../lib/format.ts'
import { Term, type TermName } from '../../ui/term.tsx'
import styles from './evidence.module.css'
import { leadOf } from './free-text-lead.ts'

export function FreeTextRow({ drift }: { readonly drift: FreeTextDrift }) {
  const { identical, n, identicalShare, identicalInterval, unit, firstDifferenceMedian: first, editDistanceMean } = drift
  const [from, to] = identicalInterval
  const facts: readonly (readonly [TermName, string, string, string] | null)[] = [
    [
      'same-text',
      'Same text',
      formatPercent(identicalShare),
      `${formatInteger(identical)} of ${formatInteger(n)}; 95 %: ${(from * 100).toFixed(0)}–${formatPercent(to, 0)}`,
    ],
    first === null
      ? null
      : [
          'first-difference',
          'The others part',
          `${unit === 'tokens' ? 'token' : 'character'} ${formatInteger(Math.round(first))}`,
          'median',
        ],
    first === null ? null : ['lead', 'Lead there', ...leadOf(drift)],
    ['to-edit', 'To edit', formatPercent(editDistanceMean), 'mean'],
  ]
  return (
    <dl className={styles.facts} aria-label="Free text beside the original’s">
      {facts.map((fact) => {
        if (fact === null) return null
        const [term, title, value, note] = fact
        return (
          <div key={term}>
            <dt>
              <Term name={term}>{title}</Term>
            </dt>
            <dd>
              {value} <span className={styles.quiet}>{note}</span>
            </dd>
          </div>
        )
      })}
    </dl>
  )
}
