/** Drop a model folder anywhere, or published results on a board. In a browser a page never learns the path of a drop, so the folder browser opens and says why. */
import { Download } from 'lucide-react'
import { useEffect, useRef, useState } from 'react'
import { usePublishedDrop } from '../features/compare/add-dialog.ts'
import { useImport } from '../features/models/use-import.ts'
import { useHost } from '../ui/host-context.tsx'
import styles from './drop-layer.module.css'

export function DropLayer() {
  const host = useHost()
  const { importPath, chooseFolder } = useImport()
  const takePublished = usePublishedDrop()
  const [over, setOver] = useState(false)
  // dragenter and dragleave fire for every child element; only their balance tells whether the pointer is still inside.
  const depth = useRef(0)
  useEffect(() => {
    const carriesFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') === true
    const enter = (event: DragEvent) => {
      if (!carriesFiles(event)) return
      depth.current += 1
      setOver(true)
    }
    const leave = (event: DragEvent) => {
      if (!carriesFiles(event)) return
      depth.current = Math.max(0, depth.current - 1)
      if (depth.current === 0) setOver(false)
    }
    const hover = (event: DragEvent) => {
      // Also for other drags: a missed drop would navigate away.
      event.preventDefault()
      if (event.dataTransfer !== null) event.dataTransfer.dropEffect = carriesFiles(event) ? 'copy' : 'none'
    }
    const drop = (event: DragEvent) => {
      event.preventDefault()
      depth.current = 0
      setOver(false)
      if (event.dataTransfer === null || !carriesFiles(event)) return
      const items = host.dropped(event.dataTransfer)
      if (takePublished(items)) return
      for (const item of items) if (item.path !== null) importPath(item.path)
      const [first] = items
      if (first !== undefined && items.every((item) => item.path === null)) {
        void chooseFolder(`A browser does not tell where “${first.name}” lies on your disk. Find it here once; nothing is copied.`)
      }
    }
    window.addEventListener('dragenter', enter)
    window.addEventListener('dragleave', leave)
    window.addEventListener('dragover', hover)
    window.addEventListener('drop', drop)
    return () => {
      window.removeEventListener('dragenter', enter)
      window.removeEventListener('dragleave', leave)
      window.removeEventListener('dragover', hover)
      window.removeEventListener('drop', drop)
    }
  }, [host, importPath, chooseFolder, takePublished])
  if (!over) return null
  return (
    <div className={styles.layer} aria-hidden>
      <div className={styles.zone}>
        <Download size={28} strokeWidth={1.75} />
        <p className={styles.title}>Drop to import</p>
        <p>A folder with config.json and safetensors. Nothing is copied or changed.</p>
      </div>
    </div>
  )
}
