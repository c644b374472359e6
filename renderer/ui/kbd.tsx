/** A keyboard shortcut, written the way the platform writes it. */
import { displayShortcut } from '../lib/shortcut.ts'
import { useHost } from './host-context.tsx'
import styles from './kbd.module.css'

export function Shortcut({ keys }: { readonly keys: string }) {
  const { isMac } = useHost()
  return (
    <span className={styles.kbd}>
      {displayShortcut(keys, isMac).map((key) => (
        <kbd key={key} className={styles.key}>
          {key}
        </kbd>
      ))}
    </span>
  )
}
