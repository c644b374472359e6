/** The engine's own folder browser, for hosts without a native dialog. Lists folders only; one that looks like a model is marked. */
import { useQuery } from '@tanstack/react-query'
import { Box, ChevronUp, Folder } from 'lucide-react'
import { useState } from 'react'
import { useEngine } from '../data/engine.tsx'
import { formatBytes } from '../lib/format.ts'
import { Badge } from '../ui/badge.tsx'
import { Button, IconButton } from '../ui/button.tsx'
import { TextInput } from '../ui/controls.tsx'
import { Dialog } from '../ui/dialog.tsx'
import { SkeletonLines } from '../ui/skeleton.tsx'
import { ErrorCard, Notice } from '../ui/state.tsx'
import styles from './folder-dialog.module.css'
import { useViewStore, type FolderRequest } from './view-store.ts'

export function FolderDialog() {
  const request = useViewStore((state) => state.folderRequest)
  const settle = useViewStore((state) => state.settleFolder)
  return request === null ? null : <FolderBrowser request={request} settle={settle} />
}

function FolderBrowser({ request, settle }: { readonly request: FolderRequest; readonly settle: (path: string | null) => void }) {
  const { queries } = useEngine()
  const refused = request.refused ?? null
  const [path, setPath] = useState<string | null>(refused === null ? request.startPath : folderOf(refused.path))
  // null = shows where the listing is; text = what the user typed or chose on top of it.
  const [chosen, setChosen] = useState<string | null>(refused?.path ?? null)
  const listing = useQuery({
    ...queries.files.browse.queryOptions({ input: { path } }),
    placeholderData: (previous) => previous,
    gcTime: 0,
  })
  const here = listing.data
  const typed = chosen ?? here?.path ?? request.startPath ?? ''
  const go = (target: string | null) => {
    setChosen(null)
    setPath(target)
  }
  return (
    <Dialog
      open
      wide
      onClose={() => settle(null)}
      title={request.title}
      footer={
        <>
          <Button onClick={() => settle(null)}>Cancel</Button>
          <Button variant="primary" disabled={typed === ''} onClick={() => settle(typed)}>
            {request.confirm}
          </Button>
        </>
      }
    >
      <div className={styles.browser}>
        {request.note !== null && <Notice tone="info">{request.note}</Notice>}
        <form
          className={styles.path}
          onSubmit={(event) => {
            event.preventDefault()
            go(typed === '' ? null : typed)
          }}
        >
          <IconButton
            label="Up one folder"
            icon={ChevronUp}
            variant="secondary"
            disabled={here?.parent === null || here === undefined}
            onClick={() => go(here?.parent ?? null)}
          />
          <TextInput
            aria-label="Folder path"
            value={typed}
            onChange={(event) => setChosen(event.target.value)}
            placeholder="/path/to/folder"
            className="mono"
          />
          <Button type="submit">Go</Button>
        </form>
        {refused !== null && typed === refused.path && <ErrorCard error={refused.error} />}
        {listing.error !== null && <ErrorCard error={listing.error} onRetry={() => void listing.refetch()} />}
        <div className={styles.list} aria-busy={listing.isFetching}>
          {here === undefined && listing.error === null && <SkeletonLines label="Reading folder" />}
          {here?.entries.length === 0 && <p className={styles.empty}>No folders in here.</p>}
          {here?.entries.map((entry) => (
            <button
              key={entry.path}
              type="button"
              className={styles.entry}
              onClick={() => (entry.isModel ? setChosen(entry.path) : go(entry.path))}
              onDoubleClick={() => (entry.isModel ? settle(entry.path) : undefined)}
              data-chosen={entry.path === typed || undefined}
            >
              {entry.isModel ? <Box size={16} aria-hidden /> : <Folder size={16} aria-hidden />}
              <span className={styles.name}>{entry.name}</span>
              {entry.isModel && <Badge tone="accent">model</Badge>}
            </button>
          ))}
        </div>
        {here !== undefined && here.freeBytes !== null && <p className={styles.free}>{formatBytes(here.freeBytes)} free on this disk</p>}
      </div>
    </Dialog>
  )
}

/** The folder that holds a path; null, which is the home folder, where the path does not say. */
function folderOf(path: string): string | null {
  return /^(.+)[\\/][^\\/]+[\\/]*$/.exec(path)?.[1] ?? null
}
