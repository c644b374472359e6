/** The frame of a screen: one h1, actions at its right, a body that scrolls. Plus cards and fact lists, from which most screens are made. */
import { ChevronRight } from 'lucide-react'
import { useEffect, type ReactNode } from 'react'
import { Link } from 'wouter'
import { classNames } from '../lib/class-names.ts'
import styles from './page.module.css'

interface PageProps {
  readonly title: string
  /** Where the title hangs, e.g. {title: "Models", href: "/models"}. */
  readonly parent?: { readonly title: string; readonly href: string }
  readonly titleExtra?: ReactNode
  readonly subtitle?: ReactNode
  readonly actions?: ReactNode
  readonly children: ReactNode
  /** `scroll` (default): padded and scrolling; `fill`: the children lay out the rest of the height themselves. */
  readonly body?: 'scroll' | 'fill'
  readonly narrow?: boolean
}

export function Page({ title, parent, titleExtra, subtitle, actions, children, body = 'scroll', narrow = false }: PageProps) {
  useEffect(() => {
    document.title = `${title} · Lathe`
  }, [title])
  return (
    <div className={styles.page}>
      <header className={styles.header}>
        <div className={styles.titles}>
          <h1 className={styles.title} tabIndex={-1}>
            {parent && (
              <Link href={parent.href} className={styles.crumb}>
                {parent.title}
              </Link>
            )}
            {parent && <ChevronRight size={14} aria-hidden className={styles.crumb} />}
            <span className={styles.titleText} title={title}>
              {title}
            </span>
            {titleExtra}
          </h1>
          {subtitle !== undefined && <div className={styles.subtitle}>{subtitle}</div>}
        </div>
        {actions !== undefined && <div className={styles.actions}>{actions}</div>}
      </header>
      {body === 'fill' ? (
        children
      ) : (
        <div className={styles.body}>{narrow ? <div className={styles.narrow}>{children}</div> : children}</div>
      )}
    </div>
  )
}

export function Card({
  title,
  actions,
  children,
  padded = true,
  className,
}: {
  readonly title?: ReactNode
  readonly actions?: ReactNode
  readonly children: ReactNode
  readonly padded?: boolean
  readonly className?: string | undefined
}) {
  return (
    <section className={classNames(styles.card, padded && styles.padded, className)}>
      {(title !== undefined || actions !== undefined) && (
        <div className={styles.cardHeader}>
          <h2 className={styles.cardTitle}>{title}</h2>
          {actions}
        </div>
      )}
      {children}
    </section>
  )
}

/** Names and values in two columns. A null value leaves the row out. */
export function Facts({ rows }: { readonly rows: readonly (readonly [name: ReactNode, value: ReactNode] | null)[] }) {
  return (
    <dl className={styles.facts}>
      {rows.map((row, index) =>
        row === null ? null : (
          <div key={index} className={styles.contents}>
            <dt>{row[0]}</dt>
            <dd>{row[1]}</dd>
          </div>
        ),
      )}
    </dl>
  )
}
