/** Details that most people don't need, one click away; and text to be read as it is. */
import { ChevronRight } from 'lucide-react'
import type { ReactNode } from 'react'
import styles from './disclosure.module.css'

export function Disclosure({
  title,
  children,
  open = false,
  onToggle,
}: {
  readonly title: ReactNode
  readonly children: ReactNode
  readonly open?: boolean
  readonly onToggle?: (open: boolean) => void
}) {
  return (
    <details className={styles.details} open={open} onToggle={(event) => onToggle?.(event.currentTarget.open)}>
      <summary className={styles.summary}>
        <ChevronRight size={14} aria-hidden />
        {title}
      </summary>
      <div className={styles.content}>{children}</div>
    </details>
  )
}

export function CodeBlock({ label, children }: { readonly label: string; readonly children: string }) {
  return (
    <pre className={styles.code} tabIndex={0} role="region" aria-label={label}>
      {children}
    </pre>
  )
}
