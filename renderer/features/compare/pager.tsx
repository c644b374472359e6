/** Which part of a long list is shown, and the way to the next. */
import { ChevronLeft, ChevronRight } from 'lucide-react'
import type { ReactNode } from 'react'
import { formatInteger } from '../../lib/format.ts'
import { IconButton } from '../../ui/button.tsx'
import styles from './evidence.module.css'

interface PagerProps {
  /** What is counted, e.g. "items". */
  readonly label: string
  readonly offset: number
  readonly count: number
  readonly total: number
  readonly step: number
  readonly onMove: (offset: number) => void
  readonly children?: ReactNode
}

export function Pager({ label, offset, count, total, step, onMove, children }: PagerProps) {
  return (
    <nav className={styles.pager} aria-label={`Pages of ${label}`}>
      <span>
        {total === 0 ? `No ${label}` : `${formatInteger(offset + 1)}–${formatInteger(offset + count)} of ${formatInteger(total)} ${label}`}{' '}
        {children}
      </span>
      <IconButton
        label={`Earlier ${label}`}
        icon={ChevronLeft}
        size="small"
        disabled={offset === 0}
        onClick={() => onMove(Math.max(0, offset - step))}
      />
      <IconButton
        label={`Later ${label}`}
        icon={ChevronRight}
        size="small"
        disabled={offset + count >= total}
        onClick={() => onMove(offset + step)}
      />
    </nav>
  )
}
