/** Tabs for parts of a page, and a segmented control for a choice of a few. Which one is active belongs in the URL. */
import { Tabs as Base } from '@base-ui/react/tabs'
import { Toggle } from '@base-ui/react/toggle'
import { ToggleGroup } from '@base-ui/react/toggle-group'
import type { ReactNode } from 'react'
import styles from './tabs.module.css'

interface TabsProps<T extends string> {
  readonly value: T
  readonly onChange: (value: T) => void
  readonly label: string
  readonly tabs: readonly { readonly value: T; readonly title: ReactNode }[]
  /** The panel of the active tab. */
  readonly children: ReactNode
}

export function Tabs<T extends string>({ value, onChange, label, tabs, children }: TabsProps<T>) {
  return (
    <Base.Root value={value} onValueChange={(next) => onChange(next as T)}>
      <Base.List className={styles.list} aria-label={label} activateOnFocus>
        {tabs.map((tab) => (
          <Base.Tab key={tab.value} value={tab.value} className={styles.tab}>
            {tab.title}
          </Base.Tab>
        ))}
        <Base.Indicator className={styles.indicator} />
      </Base.List>
      {tabs.map((tab) => (
        <Base.Panel key={tab.value} value={tab.value} className={styles.panel}>
          {tab.value === value ? children : null}
        </Base.Panel>
      ))}
    </Base.Root>
  )
}

interface SegmentedProps<T extends string> {
  readonly value: T
  readonly onChange: (value: T) => void
  readonly label: string
  readonly options: readonly { readonly value: T; readonly title: ReactNode }[]
}

export function Segmented<T extends string>({ value, onChange, label, options }: SegmentedProps<T>) {
  return (
    <ToggleGroup
      aria-label={label}
      className={styles.segmented}
      value={[value]}
      onValueChange={(next) => {
        const chosen = next.at(-1)
        if (chosen !== undefined) onChange(chosen as T)
      }}
    >
      {options.map((option) => (
        <Toggle key={option.value} value={option.value} className={styles.segment}>
          {option.title}
        </Toggle>
      ))}
    </ToggleGroup>
  )
}
