/** Small labels: status chips, the fit dot (colour and shape both change), and the mark that every speed of a software adapter carries. */
import type { LucideIcon } from 'lucide-react'
import { Cpu } from 'lucide-react'
import type { ReactNode } from 'react'
import { classNames } from '../lib/class-names.ts'
import styles from './badge.module.css'
import { Info } from './info.tsx'
import { termDefinition } from './term.tsx'

export type Tone = 'neutral' | 'accent' | 'positive' | 'warning' | 'danger' | 'outline'

export function Badge({
  tone = 'neutral',
  icon: Icon,
  children,
}: {
  readonly tone?: Tone
  readonly icon?: LucideIcon
  readonly children: ReactNode
}) {
  return (
    <span className={classNames(styles.badge, styles[tone])}>
      {Icon && <Icon size={12} aria-hidden />}
      {children}
    </span>
  )
}

/** A dot with a spoken label; round is good, diamond is a warning, square is a problem. */
export function StatusDot({
  tone,
  label,
}: {
  readonly tone: 'neutral' | 'positive' | 'warning' | 'danger' | 'accent'
  readonly label?: string
}) {
  return (
    <span
      role={label === undefined ? undefined : 'img'}
      aria-label={label}
      aria-hidden={label === undefined}
      className={classNames(styles.dot, styles[tone])}
    />
  )
}

/** `compact` for tables. Stands beside any speed that was measured on, or is predicted for, a CPU driver. */
export function SoftwareBadge({ compact = false }: { readonly compact?: boolean }) {
  if (compact) {
    return (
      <Info card={termDefinition('software-adapter')} className={styles.trigger}>
        <Badge tone="warning">
          <Cpu size={12} aria-hidden /> SW<span className="visually-hidden">, software adapter</span>
        </Badge>
      </Info>
    )
  }
  return (
    <Info card={termDefinition('software-adapter')} className={styles.trigger}>
      <Badge tone="warning" icon={Cpu}>
        software adapter
      </Badge>
    </Info>
  )
}
