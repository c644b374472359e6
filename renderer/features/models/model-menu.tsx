/** Everything that can be done with a model, as one menu, and the two dialogs it opens. */
import {
  Box,
  Copy,
  FolderSearch,
  FolderSymlink,
  GitCompareArrows,
  ListMinus,
  MessageSquare,
  Pencil,
  SlidersHorizontal,
  Trash2,
} from 'lucide-react'
import { useRef, useState } from 'react'
import { useLocation } from 'wouter'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { formatBytes } from '../../lib/format.ts'
import { Button } from '../../ui/button.tsx'
import { Field, TextInput } from '../../ui/controls.tsx'
import { Dialog } from '../../ui/dialog.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { Menu, type MenuAction } from '../../ui/menu.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { showToast } from '../../ui/toast.tsx'
import { useModelActions } from './queries.ts'

export function ModelMenu({ model, size = 'medium' }: { readonly model: ModelSummary; readonly size?: 'small' | 'medium' }) {
  const [, navigate] = useLocation()
  const host = useHost()
  const actions = useModelActions()
  const [dialog, setDialog] = useState<'rename' | 'delete' | null>(null)
  const ready = model.status === 'ready'
  const { reveal } = host
  const copyPath = async () => {
    await host.copyText(model.path)
    showToast({ title: 'Path copied', description: model.path })
  }
  const entries: MenuAction[] = [
    { title: 'Inspect', icon: Box, onSelect: () => navigate(`/models/${model.id}`) },
    {
      title: 'Optimize',
      icon: SlidersHorizontal,
      disabled: !ready || model.parentId !== null,
      onSelect: () => navigate(`/optimize/${model.id}`),
    },
    { title: 'Compare', icon: GitCompareArrows, disabled: !ready, onSelect: () => navigate(`/compare/${model.parentId ?? model.id}`) },
    { title: 'Chat', icon: MessageSquare, disabled: !ready || !model.hasTokenizer, onSelect: () => navigate(`/chat?model=${model.id}`) },
    { title: 'Rename…', icon: Pencil, separated: true, onSelect: () => setDialog('rename') },
    reveal === null
      ? { title: 'Copy folder path', icon: Copy, onSelect: () => void copyPath() }
      : {
          title: 'Show in file manager',
          icon: FolderSymlink,
          disabled: model.status === 'missing',
          onSelect: () => void reveal(model.path),
        },
    ...(model.status === 'missing' ? [{ title: 'Locate…', icon: FolderSearch, onSelect: () => void actions.locate(model) }] : []),
    { title: 'Remove from library', icon: ListMinus, separated: true, onSelect: () => actions.remove(model) },
    // Only what Lathe wrote itself may be deleted by Lathe.
    ...(model.presetId !== null && model.parentId !== null
      ? [{ title: 'Delete files…', icon: Trash2, danger: true, onSelect: () => setDialog('delete') }]
      : []),
  ]
  return (
    <>
      <Menu label={`Actions for ${model.name}`} actions={entries} size={size} />
      {dialog === 'rename' && <RenameDialog model={model} onClose={() => setDialog(null)} rename={actions.rename} />}
      {dialog === 'delete' && <DeleteDialog model={model} onClose={() => setDialog(null)} deleteFiles={actions.deleteFiles} />}
    </>
  )
}

function RenameDialog({
  model,
  onClose,
  rename,
}: {
  readonly model: ModelSummary
  readonly onClose: () => void
  readonly rename: (model: ModelSummary, name: string) => void
}) {
  const [name, setName] = useState(model.name)
  const input = useRef<HTMLInputElement>(null)
  const usable = name.trim() !== ''
  const submit = () => {
    if (!usable) return
    if (name.trim() !== model.name) rename(model, name.trim())
    onClose()
  }
  return (
    <Dialog
      open
      onClose={onClose}
      title="Rename"
      description="Only the name in the library changes; the folder keeps its own."
      initialFocus={input}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button variant="primary" disabled={!usable} onClick={submit}>
            Rename
          </Button>
        </>
      }
    >
      <form
        onSubmit={(event) => {
          event.preventDefault()
          submit()
        }}
      >
        <Field label="Name">
          {(control) => (
            <TextInput {...control} ref={input} value={name} maxLength={200} onChange={(event) => setName(event.target.value)} />
          )}
        </Field>
      </form>
    </Dialog>
  )
}

interface DeleteDialogProps {
  readonly model: ModelSummary
  readonly onClose: () => void
  readonly deleteFiles: ReturnType<typeof useModelActions>['deleteFiles']
}

function DeleteDialog({ model, onClose, deleteFiles }: DeleteDialogProps) {
  const [typed, setTyped] = useState('')
  const input = useRef<HTMLInputElement>(null)
  return (
    <Dialog
      open
      onClose={onClose}
      title="Delete this variant’s files?"
      description={
        <>
          <code>{model.path}</code> and {formatBytes(model.diskBytes)} in it will be gone for good. The original model is not touched.
        </>
      }
      initialFocus={input}
      footer={
        <>
          <Button onClick={onClose}>Keep</Button>
          <Button
            variant="danger"
            disabled={typed !== model.name}
            busy={deleteFiles.isPending}
            onClick={() => deleteFiles.mutate(model, typed, onClose)}
          >
            Delete {formatBytes(model.diskBytes)}
          </Button>
        </>
      }
    >
      <Field label="Type the name to confirm" description={model.name}>
        {(control) => <TextInput {...control} ref={input} value={typed} onChange={(event) => setTyped(event.target.value)} />}
      </Field>
      {deleteFiles.error !== null && <ErrorCard error={deleteFiles.error} />}
    </Dialog>
  )
}
