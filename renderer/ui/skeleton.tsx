/** Stands in for content on its way, in the shape it will have. Shows itself only after 150 ms, so that quick answers never flash. */
import { classNames } from '../lib/class-names.ts'
import styles from './skeleton.module.css'

export function Skeleton({ width = '100%', height = '1rem' }: { readonly width?: string; readonly height?: string }) {
  return (
    <span className={classNames(styles.late)}>
      <span className={styles.block} style={{ width, height }} />
    </span>
  )
}

/** A spoken "loading" with a few lines of skeleton. */
export function SkeletonLines({
  label,
  lines = 6,
  height = '1.25rem',
}: {
  readonly label: string
  readonly lines?: number
  readonly height?: string
}) {
  return (
    <div role="status" aria-label={label} className={classNames(styles.lines, styles.late)}>
      {Array.from({ length: lines }, (_, index) => (
        <span key={index} className={styles.block} style={{ width: `${100 - ((index * 37) % 45)}%`, height }} />
      ))}
    </div>
  )
}
