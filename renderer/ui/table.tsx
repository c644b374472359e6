/** Pieces of a data table: a scroll box, sortable headers, and spacer rows that stand for what a virtual list leaves out. Models stay in TanStack Table. */
import { ArrowDown, ArrowUp } from 'lucide-react'
import type { ComponentProps, ReactNode, Ref } from 'react'
import { classNames } from '../lib/class-names.ts'
import styles from './table.module.css'

interface TableProps {
  readonly label: string
  readonly children: ReactNode
  readonly scrollRef?: Ref<HTMLDivElement>
  readonly dense?: boolean
  /** On a card instead of the page's canvas. */
  readonly onSurface?: boolean
  readonly role?: 'table' | 'treegrid'
  readonly rowCount?: number
  readonly className?: string | undefined
}

export function Table({ label, children, scrollRef, dense = false, onSurface = false, role, rowCount, className }: TableProps) {
  return (
    // A scroll box without a focusable child could not be scrolled by keyboard.
    <div
      ref={scrollRef}
      className={classNames(styles.scroll, onSurface && styles.surface, className)}
      tabIndex={0}
      role="region"
      aria-label={label}
    >
      <table className={classNames(styles.table, dense && styles.dense)} role={role} aria-label={label} aria-rowcount={rowCount}>
        {children}
      </table>
    </div>
  )
}

interface HeaderCellProps {
  readonly children: ReactNode
  readonly align?: 'start' | 'end'
  readonly sorted?: 'asc' | 'desc' | false
  readonly onSort?: (() => void) | undefined
  readonly width?: string
  /** For styles that hide columns in narrow places. */
  readonly column?: string
}

export function HeaderCell({ children, align = 'start', sorted = false, onSort, width, column }: HeaderCellProps) {
  const Arrow = sorted === 'asc' ? ArrowUp : ArrowDown
  return (
    <th
      scope="col"
      data-column={column}
      className={align === 'end' ? styles.end : undefined}
      style={{ width }}
      aria-sort={sorted === false ? undefined : sorted === 'asc' ? 'ascending' : 'descending'}
    >
      {onSort === undefined ? (
        children
      ) : (
        <button type="button" className={styles.sort} data-active={sorted !== false} onClick={onSort}>
          {children}
          <Arrow size={12} aria-hidden />
        </button>
      )}
    </th>
  )
}

export function Row({ selected = false, className, ...rest }: ComponentProps<'tr'> & { readonly selected?: boolean }) {
  return <tr {...rest} className={classNames(styles.row, className)} data-selected={selected || undefined} />
}

export function Cell({ align = 'start', className, ...rest }: Omit<ComponentProps<'td'>, 'align'> & { readonly align?: 'start' | 'end' }) {
  return <td {...rest} className={classNames(align === 'end' && styles.end, className)} />
}

/** The height of the rows above or below the window of a virtual list. */
export function SpacerRow({ height, columns }: { readonly height: number; readonly columns: number }) {
  if (height <= 0) return null
  return (
    <tr className={styles.spacer} aria-hidden>
      <td colSpan={columns} style={{ height }} />
    </tr>
  )
}
