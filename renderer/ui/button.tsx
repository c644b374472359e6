/** Buttons, links that look like buttons, and icon buttons, which always carry a name. A verb in sentence case goes on each. */
import { LoaderCircle, type LucideIcon } from 'lucide-react'
import type { ComponentProps, ReactNode } from 'react'
import { Link } from 'wouter'
import { classNames } from '../lib/class-names.ts'
import styles from './button.module.css'
import { Tooltip } from './tooltip.tsx'

type Variant = 'primary' | 'secondary' | 'ghost' | 'danger'
type Size = 'small' | 'medium' | 'large'

interface Looks {
  readonly variant?: Variant
  readonly size?: Size
  readonly icon?: LucideIcon | undefined
}

function looks(variant: Variant, size: Size, ...more: readonly (string | false | undefined)[]): string {
  return classNames(styles.button, styles[variant], size !== 'medium' && styles[size], ...more)
}

function iconSize(size: Size): number {
  return size === 'small' ? 14 : 16
}

interface ButtonProps extends Looks, Omit<ComponentProps<'button'>, 'children'> {
  readonly children: ReactNode
  /** Shows a spinner and refuses further clicks; the label stays, so nothing moves. */
  readonly busy?: boolean
}

export function Button({
  variant = 'secondary',
  size = 'medium',
  icon: Icon,
  busy = false,
  className,
  children,
  disabled,
  ...rest
}: ButtonProps) {
  const LeadingIcon = busy ? LoaderCircle : Icon
  return (
    <button
      type="button"
      {...rest}
      disabled={disabled === true || busy}
      aria-busy={busy || undefined}
      className={looks(variant, size, className)}
    >
      {LeadingIcon && <LeadingIcon size={iconSize(size)} aria-hidden className={busy ? styles.spinner : undefined} />}
      {children}
    </button>
  )
}

interface ButtonLinkProps extends Looks {
  readonly href: string
  readonly children: ReactNode
  readonly className?: string
}

export function ButtonLink({ variant = 'secondary', size = 'medium', icon: Icon, href, children, className }: ButtonLinkProps) {
  return (
    <Link href={href} className={looks(variant, size, className)}>
      {Icon && <Icon size={iconSize(size)} aria-hidden />}
      {children}
    </Link>
  )
}

interface IconButtonProps extends Looks, Omit<ComponentProps<'button'>, 'children' | 'aria-label'> {
  /** Read by screen readers and shown as the tooltip. */
  readonly label: string
  readonly icon: LucideIcon
  readonly shortcut?: string
  readonly pressed?: boolean
}

export function IconButton({
  label,
  icon: Icon,
  variant = 'ghost',
  size = 'medium',
  shortcut,
  pressed,
  className,
  ...rest
}: IconButtonProps) {
  return (
    <Tooltip text={label} shortcut={shortcut}>
      <button
        type="button"
        {...rest}
        aria-label={label}
        aria-pressed={pressed}
        className={looks(variant, size, styles.icon, pressed === true && styles.pressed, className)}
      >
        <Icon size={iconSize(size)} aria-hidden />
      </button>
    </Tooltip>
  )
}
