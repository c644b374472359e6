/** What a screen shows when it has nothing or could not: what this is plus one action, or what happened, why, and what to press. */
import { CircleAlert, Info as InfoIcon, RotateCw, TriangleAlert, type LucideIcon } from 'lucide-react'
import { useState, type ReactNode } from 'react'
import { useLocation } from 'wouter'
import { useErrorReport } from '../data/error-report.ts'
import { classNames } from '../lib/class-names.ts'
import { toUiError, type UiError } from '../lib/errors.ts'
import { Button, ButtonLink } from './button.tsx'
import { repairOf } from './error-repairs.ts'
import { useHost } from './host-context.tsx'
import styles from './state.module.css'

export function EmptyState({
  icon: Icon,
  title,
  children,
  actions,
}: {
  readonly icon: LucideIcon
  readonly title: string
  readonly children?: ReactNode
  readonly actions?: ReactNode
}) {
  return (
    <div className={styles.empty}>
      <span className={styles.emptyIcon}>
        <Icon size={22} strokeWidth={1.75} aria-hidden />
      </span>
      <h2 className={styles.emptyTitle}>{title}</h2>
      {children !== undefined && <p className={styles.emptyText}>{children}</p>}
      {actions !== undefined && <div className={styles.actions}>{actions}</div>}
    </div>
  )
}

interface ErrorCardProps {
  /** Anything thrown, or an error that a query already carries as data. */
  readonly error: unknown
  readonly onRetry?: (() => void) | undefined
  /** The buttons that repair this error where it stands. */
  readonly actions?: ReactNode
  readonly tone?: 'danger' | 'warning'
}

function isUiError(error: unknown): error is UiError {
  return (
    typeof error === 'object' && error !== null && !(error instanceof Error) && 'code' in error && 'message' in error && 'hint' in error
  )
}

export function ErrorCard({ error, onRetry, actions, tone = 'danger' }: ErrorCardProps) {
  const shape = isUiError(error) ? error : toUiError(error)
  const host = useHost()
  const report = useErrorReport()
  const [copied, setCopied] = useState(false)
  // A repair that leads where one already is would be a dead end.
  const repair = actions === undefined ? repairOf(shape.code) : null
  const [location] = useLocation()
  const copy = async () => {
    await host.copyText(await report(shape))
    setCopied(true)
  }
  return (
    <div role="alert" className={classNames(styles.error, tone === 'warning' && styles.warning)}>
      <CircleAlert size={16} className={styles.errorIcon} aria-hidden />
      <div className={styles.errorBody}>
        <p className={styles.errorTitle}>{shape.message}</p>
        {shape.hint !== '' && <p className={styles.hint}>{shape.hint}</p>}
        <div className={styles.actions}>
          {actions}
          {repair !== null && repair.href !== location && (
            <ButtonLink size="small" href={repair.href}>
              {repair.title}
            </ButtonLink>
          )}
          {onRetry && (
            <Button size="small" icon={RotateCw} onClick={onRetry}>
              Try again
            </Button>
          )}
          <Button size="small" variant="ghost" onClick={() => void copy()}>
            {copied ? 'Copied' : 'Copy details'}
          </Button>
          <span className={styles.code}>{shape.code}</span>
        </div>
      </div>
    </div>
  )
}

/** A remark that is no error: a warning to weigh or a fact worth knowing, with room for a button at its end. */
export function Notice({
  tone,
  title,
  children,
  actions,
}: {
  readonly tone: 'warning' | 'info'
  readonly title?: ReactNode
  readonly children?: ReactNode
  readonly actions?: ReactNode
}) {
  const Icon = tone === 'warning' ? TriangleAlert : InfoIcon
  return (
    <div role="note" className={classNames(styles.error, styles.notice, styles[tone])}>
      <Icon size={16} className={styles.errorIcon} aria-hidden />
      <div className={styles.errorBody}>
        {title !== undefined && <p className={styles.errorTitle}>{title}</p>}
        {children !== undefined && <div className={styles.hint}>{children}</div>}
      </div>
      {actions !== undefined && <div className={styles.actions}>{actions}</div>}
    </div>
  )
}
