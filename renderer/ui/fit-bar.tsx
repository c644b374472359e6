/** Weights, KV cache and activations against what the device has. The same bar wherever a model or a preset can be chosen. */
import type { Fit } from '../../engine/contract/index.ts'
import { classNames } from '../lib/class-names.ts'
import { describeFit } from '../lib/fit.ts'
import { StatusDot } from './badge.tsx'
import styles from './fit-bar.module.css'
import { Bytes } from './numbers.tsx'
import { Term } from './term.tsx'

interface FitBarProps {
  readonly fit: Fit
  /** `bar`: the bar alone; `sentence`: with the verdict in words; `full`: with the parts as well. */
  readonly detail?: 'bar' | 'sentence' | 'full'
}

const PARTS = [
  { key: 'weightBytes', name: 'Weights', style: 'weights' },
  { key: 'kvBytes', name: 'KV cache', style: 'kv' },
  { key: 'activationBytes', name: 'Activations', style: 'activations' },
  { key: 'overheadBytes', name: 'Overhead', style: 'overhead' },
  { key: 'residentBytes', name: 'Other models in use', style: 'resident' },
  { key: 'reserveBytes', name: 'Reserve', style: 'reserve' },
] as const

const TERMS = {
  weightBytes: null,
  kvBytes: 'kv',
  activationBytes: 'activations',
  overheadBytes: 'overhead',
  residentBytes: null,
  reserveBytes: 'reserve',
} as const

/** Where a part is from that is not computed. */
function sourceOf(key: (typeof PARTS)[number]['key'], { overheadLoads = 0 }: Fit): string | null {
  if (key === 'reserveBytes') return 'assumed'
  if (key !== 'overheadBytes' || overheadLoads === 0) return null
  return `measured here over ${overheadLoads} ${overheadLoads === 1 ? 'load' : 'loads'}`
}

export function FitBar({ fit, detail = 'sentence' }: FitBarProps) {
  const view = describeFit(fit)
  const parts = PARTS.flatMap((part) => {
    const bytes = fit[part.key] ?? 0
    return bytes > 0 ? [{ ...part, bytes }] : []
  })
  const share = (bytes: number) => `${(bytes / view.scaleBytes) * 100}%`
  const over = fit.budgetBytes === null ? 0 : Math.max(0, view.totalBytes - fit.budgetBytes)
  return (
    <div className={styles.fit}>
      <div className={styles.bar} role="img" aria-label={`${view.label}. ${view.sentence}`}>
        {parts.map((part) => (
          <span key={part.key} className={classNames(styles.segment, styles[part.style])} style={{ width: share(part.bytes) }} />
        ))}
        {over > 0 && fit.budgetBytes !== null && (
          <>
            <span className={styles.over} style={{ width: share(over) }} />
            <span className={styles.limit} style={{ left: share(fit.budgetBytes) }} />
          </>
        )}
      </div>
      {detail === 'full' && (
        <div className={styles.legend}>
          {parts.map((part) => {
            const term = TERMS[part.key]
            const source = sourceOf(part.key, fit)
            return (
              <span key={part.key} className={styles.key}>
                <span className={classNames(styles.swatch, styles[part.style])} aria-hidden />
                {term === null ? part.name : <Term name={term}>{part.name}</Term>}
                <Bytes value={part.bytes} kind="memory" />
                {source !== null && <span>({source})</span>}
              </span>
            )
          })}
        </div>
      )}
      {detail !== 'bar' && (
        <p className={styles.sentence} data-tone={view.tone}>
          {view.sentence}
        </p>
      )}
    </div>
  )
}

/** The verdict as a dot, for table rows and pickers. */
export function FitDot({ fit }: { readonly fit: Fit }) {
  const view = describeFit(fit)
  return <StatusDot tone={view.tone} label={`${view.label}. ${view.sentence}`} />
}
