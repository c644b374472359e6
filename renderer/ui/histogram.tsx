/** A distribution as bars over its range. Counts are drawn by square root, so that thin tails stay visible beside the bulk; the caption says so. */
import { formatSignificant } from '../lib/format.ts'
import styles from './histogram.module.css'

interface HistogramProps {
  readonly label: string
  readonly from: number
  readonly to: number
  readonly counts: readonly number[]
}

export function Histogram({ label, from, to, counts }: HistogramProps) {
  const highest = Math.sqrt(Math.max(1, ...counts))
  return (
    <figure className={styles.figure}>
      <svg className={styles.plot} viewBox={`0 0 ${counts.length} 100`} preserveAspectRatio="none" role="img" aria-label={label}>
        {counts.map((count, bin) => {
          const height = (Math.sqrt(count) / highest) * 100
          return <rect key={bin} x={bin + 0.06} width={0.88} y={100 - height} height={height} />
        })}
      </svg>
      <figcaption className={styles.axis}>
        <span className="numeric">{formatSignificant(from)}</span>
        <span>heights by square root of count</span>
        <span className="numeric">{formatSignificant(to)}</span>
      </figcaption>
    </figure>
  )
}
