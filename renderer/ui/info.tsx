/** Text that explains itself in a small card on hover, focus or tap: definitions of terms, provenance of numbers. */
import { Popover } from '@base-ui/react/popover'
import type { ReactNode } from 'react'
import { classNames } from '../lib/class-names.ts'
import styles from './info.module.css'
import popup from './popup.module.css'

interface InfoProps {
  readonly children: ReactNode
  readonly card: ReactNode
  /** Names the trigger where its visible text alone would not. */
  readonly label?: string | undefined
  readonly underlined?: boolean
  readonly className?: string | undefined
}

export function Info({ children, card, label, underlined = false, className }: InfoProps) {
  return (
    <Popover.Root>
      <Popover.Trigger
        openOnHover
        delay={250}
        aria-label={label}
        className={classNames(styles.trigger, underlined && styles.term, className)}
      >
        {children}
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Positioner sideOffset={6} collisionPadding={8} className={popup.positioner}>
          <Popover.Popup initialFocus={false} className={classNames(popup.popup, popup.card)}>
            {card}
          </Popover.Popup>
        </Popover.Positioner>
      </Popover.Portal>
    </Popover.Root>
  )
}
