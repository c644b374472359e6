/** A menu of actions behind one button. */
import { Menu as Base } from '@base-ui/react/menu'
import { Check, Ellipsis, type LucideIcon } from 'lucide-react'
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

interface CheckMenuProps {
  readonly label: string
  readonly options: readonly { readonly id: string; readonly title: string; readonly checked: boolean }[]
  readonly onChange: (id: string, checked: boolean) => void
  readonly trigger: ReactElement
}

/** A menu of things that are on or off. Stays open while they are toggled. */
export function CheckMenu({ label, options, onChange, trigger }: CheckMenuProps) {
  return (
    <Base.Root>
      <Base.Trigger render={trigger} />
      <Base.Portal>
        <Base.Positioner sideOffset={4} align="end" className={popup.positioner}>
          <Base.Popup className={classNames(popup.popup, popup.list)} aria-label={label}>
            {options.map((option) => (
              <Base.CheckboxItem
                key={option.id}
                checked={option.checked}
                onCheckedChange={(checked) => onChange(option.id, checked)}
                className={popup.item}
              >
                <span className={popup.check}>
                  <Base.CheckboxItemIndicator>
                    <Check size={14} aria-hidden />
                  </Base.CheckboxItemIndicator>
                </span>
                <span className={popup.grow}>{option.title}</span>
              </Base.CheckboxItem>
            ))}
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  )
}
