/** `?`: every shortcut that works here and now, from the same registry that binds them. */
import { Dialog } from '../ui/dialog.tsx'
import { Shortcut } from '../ui/kbd.tsx'
import styles from './cheat-sheet.module.css'
import { useCommandStore } from './commands.ts'
import { bySection } from './palette.tsx'
import { useViewStore } from './view-store.ts'

export function CheatSheet() {
  const open = useViewStore((state) => state.cheatSheetOpen)
  const setOpen = useViewStore((state) => state.setCheatSheetOpen)
  const commands = useCommandStore((state) => state.commands)
  const bound = [...commands.values()].filter((command) => command.shortcut !== undefined)
  return (
    <Dialog open={open} onClose={() => setOpen(false)} title="Keyboard shortcuts" wide>
      <div className={styles.sections}>
        {bySection(bound).map(([section, entries]) => (
          <section key={section}>
            <h3 className={styles.heading}>{section}</h3>
            <ul>
              {entries.map((command) => (
                <li key={command.id} className={styles.row}>
                  <span>{command.title}</span>
                  <Shortcut keys={command.shortcut ?? ''} />
                </li>
              ))}
            </ul>
          </section>
        ))}
      </div>
    </Dialog>
  )
}
