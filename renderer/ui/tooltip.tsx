/** The name of a control on hover or focus. Never the only place where something is said: the control carries the same text as its label. */
import { Tooltip as Base } from '@base-ui/react/tooltip'
import type { ReactElement } from 'react'
import popup from './popup.module.css'

export const TooltipProvider = Base.Provider

export function Tooltip({
  text,
  shortcut,
  children,
}: {
  readonly text: string
  readonly shortcut?: string | undefined
  readonly children: ReactElement
}) {
  return (
    <Base.Root>
      <Base.Trigger render={children} />
      <Base.Portal>
        <Base.Positioner sideOffset={6} className={popup.positioner}>
          <Base.Popup className={popup.tooltip}>
            {text}
            {shortcut !== undefined && <kbd>{shortcut}</kbd>}
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  )
}
