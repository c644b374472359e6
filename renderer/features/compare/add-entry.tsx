/** Three ways to put more on a board: compress once more, a model behind an address, a published results file. */
import { FileUp, Globe, Plus, SlidersHorizontal } from 'lucide-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { Button } from '../../ui/button.tsx'
import { Field, TextInput } from '../../ui/controls.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Menu } from '../../ui/menu.tsx'
import { showToast } from '../../ui/toast.tsx'
import { useAddDialog } from './add-dialog.ts'
import { FormDialog } from './form-dialog.tsx'

export function AddEntry({ sourceId }: { readonly sourceId: string }) {
  const [, navigate] = useLocation()
  const { open, path, show } = useAddDialog()
  const close = () => show(null)
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
          { title: 'A model on a server…', icon: Globe, onSelect: () => show('server') },
          { title: 'A published results file…', icon: FileUp, onSelect: () => show('file') },
        ]}
      />
      {open === 'server' && <ServerDialog sourceId={sourceId} onClose={close} />}
      {open === 'file' && <FileDialog sourceId={sourceId} path={path} onClose={close} />}
    </>
  )
}

interface EntryDialogProps {
  readonly sourceId: string
  readonly onClose: () => void
}

interface EntryFormProps extends EntryDialogProps {
  readonly title: string
  readonly description: string
  /** Whether what was entered can be sent. */
  readonly ready: boolean
  readonly add: () => Promise<ModelSummary>
  readonly children: React.ReactNode
}

/** A dialog whose fields make one more entry of the board. */
function EntryForm({ add, ...form }: Omit<EntryFormProps, 'sourceId'>) {
  return <FormDialog {...form} action="Add it" submit={add} onDone={sayAdded} />
}

function sayAdded({ name }: ModelSummary): void {
  showToast({ type: 'success', title: `${name} is on the board` })
}

function ServerDialog({ sourceId, onClose }: EntryDialogProps) {
  const { client } = useEngine()
  const [url, setUrl] = useState('')
  const [model, setModel] = useState('')
  const [apiKey, setApiKey] = useState('')
  const add = () =>
    client.remotes.add({
      parentId: sourceId,
      url: url.trim(),
      model: model.trim() === '' ? null : model.trim(),
      name: null,
      apiKeyVariable: null,
      apiKey: apiKey === '' ? null : apiKey,
    })
  return (
    <EntryForm
      onClose={onClose}
      title="Add a model on a server"
      description="Any OpenAI-compatible address, a vLLM for instance. It is asked by the engine, never by this page; perplexity and drift need its prompt_logprobs."
      ready={url.trim() !== ''}
      add={add}
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
    </EntryForm>
  )
}

function FileDialog({ sourceId, path: dropped, onClose }: EntryDialogProps & { readonly path: string }) {
  const { client } = useEngine()
  const { pickFile } = useHost()
  const [path, setPath] = useState(dropped)
  return (
    <EntryForm
      onClose={onClose}
      title="Add a published results file"
      description="A results_….json as lm-eval writes it, or its folder. With the samples_….jsonl of that run beside it, answers are compared item by item; without them, only the totals are."
      ready={path.trim() !== ''}
      add={() => client.results.importPublished({ modelId: sourceId, path: path.trim() })}
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
    </EntryForm>
  )
}
