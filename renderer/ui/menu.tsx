/** A menu of actions behind one button. */
import { Menu as Base } from '@base-ui/react/menu'
import { Ellipsis, type LucideIcon } from 'lucide-react'
import { Fragment, type ReactElement } from 'react'
import { classNames } from '../lib/class-names.ts'
import { IconButton } from './button.tsx'
import popup from './popup.module.css'

export interface MenuAction {
  readonly title: string
  readonly icon?: LucideIcon
  readonly onSelect: () => void
  readonly disabled?: boolean
  readonly danger?: boolean
  readonly hint?: string
  /** Draws a line above this entry. */
  readonly separated?: boolean
}

interface MenuProps {
  readonly label: string
  readonly actions: readonly MenuAction[]
  /** The button that opens it; an ellipsis by default. */
  readonly trigger?: ReactElement
  readonly size?: 'small' | 'medium'
}

export function Menu({ label, actions, trigger, size = 'medium' }: MenuProps) {
  return (
    <Base.Root>
      <Base.Trigger render={trigger ?? <IconButton label={label} icon={Ellipsis} size={size} />} />
      <Base.Portal>
        <Base.Positioner sideOffset={4} align="end" className={popup.positioner}>
          <Base.Popup className={classNames(popup.popup, popup.list)}>
            {actions.map((action) => (
              <Fragment key={action.title}>
                {action.separated === true && <Base.Separator className={popup.separator} />}
                <Base.Item
                  disabled={action.disabled ?? false}
                  onClick={action.onSelect}
                  className={classNames(popup.item, action.danger === true && popup.danger)}
                >
                  {action.icon && <action.icon size={15} aria-hidden />}
                  <span className={popup.grow}>{action.title}</span>
                  {action.hint !== undefined && <span className={popup.hint}>{action.hint}</span>}
                </Base.Item>
              </Fragment>
            ))}
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  )
}
