/** A figure that is shown and not compared: why not, and where it is from nonetheless. */
import { ProvenanceCard } from '../../ui/numbers.tsx'
import styles from './compare.module.css'
import type { Reading } from './metrics.ts'

export function NotComparable({ reason, reading }: { readonly reason: string; readonly reading: Reading }) {
  const { provenance, details } = reading
  return (
    <>
      <p className={styles.notComparable}>Not comparable: {reason}.</p>
      {provenance !== null && <ProvenanceCard provenance={provenance} details={details} />}
    </>
  )
}
