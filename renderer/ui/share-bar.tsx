/** How a whole divides: one stacked bar with a legend that carries the figures. The legend can filter. */
import { classNames } from '../lib/class-names.ts'
import { formatPercent } from '../lib/format.ts'
import { Bytes } from './numbers.tsx'
import styles from './share-bar.module.css'

export interface Share {
  readonly id: string
  readonly title: string
  readonly bytes: number
}

const COLORS = ['--series-1', '--series-3', '--series-6', '--series-5', '--series-2', '--series-7', '--series-4', '--series-0'] as const

function color(index: number): string {
  return `var(${COLORS[index % COLORS.length]})`
}

interface ShareBarProps {
  readonly label: string
  readonly shares: readonly Share[]
  /** Makes the legend's entries toggles; null = nothing chosen. */
  readonly chosen?: string | null
  readonly onChoose?: (id: string | null) => void
}

export function ShareBar({ label, shares, chosen = null, onChoose }: ShareBarProps) {
  const total = Math.max(
    1,
    shares.reduce((sum, share) => sum + share.bytes, 0),
  )
  return (
    <figure className={styles.figure} aria-label={label}>
      <div className={styles.bar} aria-hidden>
        {shares.map((share, index) => (
          <span
            key={share.id}
            className={classNames(styles.segment, chosen !== null && chosen !== share.id && styles.dimmed)}
            style={{ flexGrow: share.bytes / total, background: color(index) }}
          />
        ))}
      </div>
      <div className={styles.legend}>
        {shares.map((share, index) => {
          const content = (
            <>
              <span className={styles.swatch} style={{ background: color(index) }} aria-hidden />
              {share.title}
              <Bytes value={share.bytes} />
              <span className="numeric">{formatPercent(share.bytes / total)}</span>
            </>
          )
          return onChoose === undefined ? (
            <span key={share.id} className={styles.key}>
              {content}
            </span>
          ) : (
            <button
              key={share.id}
              type="button"
              className={styles.key}
              aria-pressed={chosen === share.id}
              onClick={() => onChoose(chosen === share.id ? null : share.id)}
            >
              {content}
            </button>
          )
        })}
      </div>
    </figure>
  )
}
