/** Where variants go, and whether there is room. */
import { FolderOpen } from 'lucide-react'
import type { Preflight } from '../../../engine/contract/index.ts'
import { useFolderPicker } from '../../shell/use-folder-picker.ts'
import { Button } from '../../ui/button.tsx'
import { Bytes } from '../../ui/numbers.tsx'
import styles from './optimize.module.css'

export function OutputFolder({
  preflight,
  folder,
  onChange,
}: {
  readonly preflight: Preflight | undefined
  readonly folder: string
  readonly onChange: (folder: string | null) => void
}) {
  return (
    <div className={styles.group}>
      <h2 className={styles.groupTitle}>Write to</h2>
      <p className={styles.folder} title={preflight?.outputFolder}>
        {preflight?.outputFolder ?? (folder === '' ? 'The studio’s own folder' : folder)}
      </p>
      <p className={styles.disk}>
        {preflight === undefined ? (
          <span className={styles.quiet}>Choose a preset to see how much room it takes.</span>
        ) : (
          <>
            Needs <Bytes value={preflight.needBytes} />, <Bytes value={preflight.freeBytes} /> free
          </>
        )}
      </p>
      <div className={styles.row}>
        <ChooseFolder onChange={onChange} label="Change…" />
        {folder !== '' && (
          <Button size="small" variant="ghost" onClick={() => onChange(null)}>
            Use the default
          </Button>
        )}
      </div>
    </div>
  )
}

export function ChooseFolder({ label, onChange }: { readonly label: string; readonly onChange: (folder: string) => void }) {
  const pickFolder = useFolderPicker()
  const choose = async () => {
    const path = await pickFolder({ title: 'Where should variants go?', confirm: 'Use this folder', note: null, startPath: null })
    if (path !== null) onChange(path)
  }
  return (
    <Button size="small" icon={FolderOpen} onClick={() => void choose()}>
      {label}
    </Button>
  )
}
