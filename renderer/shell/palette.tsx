/** Ctrl/Cmd+K: every action and every model, found by typing. Reads the command registry; holds no actions of its own. */
import { Dialog as Base } from '@base-ui/react/dialog'
import { useQuery } from '@tanstack/react-query'
import { Command as Cmdk, defaultFilter } from 'cmdk'
import { Box } from 'lucide-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { useEngine } from '../data/engine.tsx'
import { Shortcut } from '../ui/kbd.tsx'
import dialog from '../ui/dialog.module.css'
import { useCommandStore, type Command, type CommandSection } from './commands.ts'
import styles from './palette.module.css'
import { useViewStore } from './view-store.ts'

export function Palette() {
  const open = useViewStore((state) => state.paletteOpen)
  const setOpen = useViewStore((state) => state.setPaletteOpen)
  return (
    <Base.Root open={open} onOpenChange={(next) => setOpen(next)}>
      <Base.Portal>
        <Base.Backdrop className={dialog.backdrop} />
        <Base.Viewport className={dialog.viewport}>
          <Base.Popup className={styles.popup} aria-label="Command palette">
            <PaletteList close={() => setOpen(false)} />
          </Base.Popup>
        </Base.Viewport>
      </Base.Portal>
    </Base.Root>
  )
}

function PaletteList({ close }: { readonly close: () => void }) {
  const commands = useCommandStore((state) => state.commands)
  const { queries } = useEngine()
  const models = useQuery(queries.models.list.queryOptions())
  const [, navigate] = useLocation()
  const [search, setSearch] = useState('')
  const run = (action: () => void) => {
    close()
    // The dialog returns the focus first, so that an action may move it.
    queueMicrotask(action)
  }
  return (
    <Cmdk label="Command palette" className={styles.root} loop filter={paletteScore}>
      <Cmdk.Input className={styles.input} placeholder="Type a command or a model’s name" value={search} onValueChange={setSearch} />
      <Cmdk.List className={styles.list}>
        <Cmdk.Empty className={styles.empty}>Nothing matches “{search}”.</Cmdk.Empty>
        {bySection(commands.values()).map(([section, entries]) => (
          <Cmdk.Group key={section} heading={section} className={styles.group}>
            {entries.map((command) => (
              <Cmdk.Item
                key={command.id}
                value={command.id}
                keywords={[command.title, ...(command.keywords ?? [])]}
                className={styles.item}
                onSelect={() => run(command.run)}
              >
                {command.icon && <command.icon size={15} aria-hidden />}
                <span className={styles.title}>{command.title}</span>
                {command.shortcut !== undefined && <Shortcut keys={command.shortcut} />}
              </Cmdk.Item>
            ))}
          </Cmdk.Group>
        ))}
        {models.data !== undefined && models.data.length > 0 && (
          <Cmdk.Group heading="Open model" className={styles.group}>
            {models.data.map((model) => (
              <Cmdk.Item
                key={model.id}
                value={`model-${model.id}`}
                keywords={[model.name, model.scheme, model.architecture.family]}
                className={styles.item}
                onSelect={() => run(() => navigate(`/models/${model.id}`))}
              >
                <Box size={15} aria-hidden />
                <span className={styles.title}>{model.name}</span>
                <span className={styles.hint}>{model.scheme}</span>
              </Cmdk.Item>
            ))}
          </Cmdk.Group>
        )}
      </Cmdk.List>
    </Cmdk>
  )
}

/** What a thing is called comes before what it is about: "server" is Server first and Monitor, which watches one, second. */
export function paletteScore(_value: string, search: string, keywords: readonly string[] = []): number {
  const [title = '', ...about] = keywords
  return Math.max(defaultFilter(title, search), ABOUT_WEIGHT * defaultFilter(about.join(' '), search))
}

const ABOUT_WEIGHT = 0.5

export function bySection(commands: Iterable<Command>): readonly (readonly [CommandSection, readonly Command[]])[] {
  return [...Map.groupBy(commands, (command) => command.section)]
}
