/** Dialogs are for decisions only; Esc and the backdrop always get out. A drawer shows details beside a list and blocks nothing. */
import { Dialog as Base } from '@base-ui/react/dialog'
import { X } from 'lucide-react'
import { useEffect, useId, type ReactNode, type RefObject } from 'react'
import { classNames } from '../lib/class-names.ts'
import { IconButton } from './button.tsx'
import styles from './dialog.module.css'

interface DialogProps {
  readonly open: boolean
  readonly onClose: () => void
  readonly title: string
  readonly description?: ReactNode
  readonly children?: ReactNode
  readonly footer?: ReactNode
  readonly wide?: boolean
  readonly initialFocus?: RefObject<HTMLElement | null>
}

export function Dialog({ open, onClose, title, description, children, footer, wide = false, initialFocus }: DialogProps) {
  return (
    <Base.Root open={open} onOpenChange={(next) => !next && onClose()}>
      <Base.Portal>
        <Base.Backdrop className={styles.backdrop} />
        <Base.Viewport className={styles.viewport}>
          <Base.Popup className={classNames(styles.popup, wide && styles.wide)} initialFocus={initialFocus}>
            <div className={styles.header}>
              <Base.Title className={styles.title}>{title}</Base.Title>
              {description !== undefined && <Base.Description className={styles.description}>{description}</Base.Description>}
            </div>
            {children !== undefined && <div className={styles.body}>{children}</div>}
            {footer !== undefined && <div className={styles.footer}>{footer}</div>}
          </Base.Popup>
        </Base.Viewport>
      </Base.Portal>
    </Base.Root>
  )
}

interface DrawerProps {
  readonly title: string
  readonly onClose: () => void
  readonly children: ReactNode
  readonly footer?: ReactNode
}

export function Drawer({ title, onClose, children, footer }: DrawerProps) {
  const titleId = useId()
  useEffect(() => {
    const listener = (event: KeyboardEvent) => {
      if (event.key === 'Escape' && !event.defaultPrevented) onClose()
    }
    document.addEventListener('keydown', listener)
    return () => document.removeEventListener('keydown', listener)
  }, [onClose])
  return (
    <aside className={styles.drawer} aria-labelledby={titleId}>
      <div className={styles.drawerHeader}>
        <h2 id={titleId} className={styles.drawerTitle} title={title}>
          {title}
        </h2>
        <IconButton label="Close details" icon={X} size="small" onClick={onClose} />
      </div>
      {/* Scrollable content must be reachable by keyboard. */}
      <div className={styles.drawerBody} tabIndex={0} role="group" aria-labelledby={titleId}>
        {children}
      </div>
      {footer !== undefined && <div className={styles.drawerFooter}>{footer}</div>}
    </aside>
  )
}
