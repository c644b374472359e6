/** The recent course of one figure, without axes: newest at the right, zero at the bottom. */
import styles from './sparkline.module.css'

interface SparklineProps {
  readonly label: string
  readonly values: readonly number[]
  /** How many values fill the width; fewer leave the left empty. */
  readonly capacity: number
  /** Top of the scale; the largest value where it is not given. */
  readonly ceiling?: number | null
}

export function Sparkline({ label, values, capacity, ceiling = null }: SparklineProps) {
  const top = ceiling ?? Math.max(1, ...values.map((value) => value * 1.15))
  const points = values.map((value, index) => `${capacity - values.length + index} ${(1 - Math.min(1, value / top)) * 40}`)
  const first = capacity - values.length
  return (
    <svg
      className={styles.sparkline}
      viewBox={`0 0 ${Math.max(1, capacity - 1)} 40`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {points.length > 1 && (
        <>
          <path className={styles.area} d={`M${first} 40L${points.join('L')}L${capacity - 1} 40Z`} />
          <path className={styles.line} d={`M${points.join('L')}`} />
        </>
      )}
    </svg>
  )
}
