/** Three ways to put more on a board: compress once more, a model behind an address, a published results file. */
import { useMutation } from '@tanstack/react-query'
import { FileUp, Globe, Plus, SlidersHorizontal } from 'lucide-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { Button } from '../../ui/button.tsx'
import { Field, TextInput } from '../../ui/controls.tsx'
import { Dialog } from '../../ui/dialog.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Menu } from '../../ui/menu.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { showToast } from '../../ui/toast.tsx'
import styles from './compare.module.css'

export function AddEntry({ sourceId }: { readonly sourceId: string }) {
  const [, navigate] = useLocation()
  const [open, setOpen] = useState<'server' | 'file' | null>(null)
  const close = () => setOpen(null)
  return (
    <>
      <Menu
        label="Add to the board"
        trigger={
          <Button size="small" variant="ghost" icon={Plus}>
            Add
          </Button>
        }
        actions={[
          { title: 'Compress another variant', icon: SlidersHorizontal, onSelect: () => navigate(`/optimize/${sourceId}`) },
          { title: 'A model on a server…', icon: Globe, onSelect: () => setOpen('server') },
          { title: 'A published results file…', icon: FileUp, onSelect: () => setOpen('file') },
        ]}
      />
      {open === 'server' && <ServerDialog sourceId={sourceId} onClose={close} />}
      {open === 'file' && <FileDialog sourceId={sourceId} onClose={close} />}
    </>
  )
}

interface EntryDialogProps {
  readonly sourceId: string
  readonly onClose: () => void
}

function announce(model: ModelSummary): void {
  showToast({ type: 'success', title: `${model.name} is on the board` })
}

function ServerDialog({ sourceId, onClose }: EntryDialogProps) {
  const { client } = useEngine()
  const [url, setUrl] = useState('')
  const [model, setModel] = useState('')
  const [apiKey, setApiKey] = useState('')
  const add = useMutation({
    mutationFn: () =>
      client.remotes.add({
        parentId: sourceId,
        url: url.trim(),
        model: model.trim() === '' ? null : model.trim(),
        name: null,
        apiKeyVariable: null,
        apiKey: apiKey === '' ? null : apiKey,
      }),
    onSuccess: (added) => {
      announce(added)
      onClose()
    },
  })
  return (
    <Dialog
      open
      onClose={onClose}
      title="Add a model on a server"
      description="Any OpenAI-compatible address, a vLLM for instance. It is asked by the engine, never by this page."
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" form="add-server" variant="primary" busy={add.isPending} disabled={url.trim() === ''}>
            Add it
          </Button>
        </>
      }
    >
      <form
        id="add-server"
        className={styles.form}
        onSubmit={(event) => {
          event.preventDefault()
          add.mutate()
        }}
      >
        <Field label="Address">
          {(control) => (
            <TextInput
              {...control}
              inputMode="url"
              value={url}
              placeholder="http://host:8000/v1"
              onChange={(event) => setUrl(event.target.value)}
            />
          )}
        </Field>
        <Field label="Model" description="Its name there; may stay empty where the server has only one.">
          {(control) => <TextInput {...control} value={model} onChange={(event) => setModel(event.target.value)} />}
        </Field>
        <Field label="API key" description="Kept in memory until Lathe closes, never stored.">
          {(control) => <TextInput {...control} type="password" value={apiKey} onChange={(event) => setApiKey(event.target.value)} />}
        </Field>
        {add.error !== null && <ErrorCard error={add.error} />}
      </form>
    </Dialog>
  )
}

function FileDialog({ sourceId, onClose }: EntryDialogProps) {
  const { client } = useEngine()
  const host = useHost()
  const [path, setPath] = useState('')
  const add = useMutation({
    mutationFn: () => client.results.importPublished({ modelId: sourceId, path: path.trim() }),
    onSuccess: (added) => {
      announce(added)
      onClose()
    },
  })
  const { pickFile } = host
  return (
    <Dialog
      open
      onClose={onClose}
      title="Add a published results file"
      description="A results_….json as lm-eval writes it, or its folder. With the samples_….jsonl of that run beside it, answers are compared item by item; without them, only the totals are."
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" form="add-file" variant="primary" busy={add.isPending} disabled={path.trim() === ''}>
            Add it
          </Button>
        </>
      }
    >
      <form
        id="add-file"
        className={styles.form}
        onSubmit={(event) => {
          event.preventDefault()
          add.mutate()
        }}
      >
        <Field label="File">
          {(control) => (
            <TextInput {...control} value={path} placeholder="/path/to/results.json" onChange={(event) => setPath(event.target.value)} />
          )}
        </Field>
        {pickFile !== null && (
          <Button size="small" onClick={() => void pickFile('.json').then((picked) => picked !== null && setPath(picked))}>
            Choose a file…
          </Button>
        )}
        {add.error !== null && <ErrorCard error={add.error} />}
      </form>
    </Dialog>
  )
}
