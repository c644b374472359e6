/** Bringing a model into the library: by path, by folder dialog, or the bundled sample. Every way ends at the model's card. */
import { useMutation } from '@tanstack/react-query'
import { useCallback } from 'react'
import { useLocation } from 'wouter'
import { useEngine } from '../../data/engine.tsx'
import { toUiError } from '../../lib/errors.ts'
import { useFolderPicker } from '../../shell/use-folder-picker.ts'
import { useHost } from '../../ui/host-context.tsx'
import { showToast } from '../../ui/toast.tsx'

export interface ImportModel {
  readonly importPath: (path: string) => void
  readonly chooseFolder: (note?: string) => Promise<void>
  readonly importSample: () => void
  readonly pending: boolean
  /** The last import's failure, until the next attempt. */
  readonly error: unknown
  readonly dismissError: () => void
}

/** Shared by every place that imports, so that one error is shown wherever the user is looking. */
const IMPORT_KEY = ['import'] as const

export function useImport(): ImportModel {
  const { client } = useEngine()
  const [, navigate] = useLocation()
  const pickFolder = useFolderPicker()
  const host = useHost()
  const mutation = useMutation({
    mutationKey: IMPORT_KEY,
    mutationFn: (path: string | null) => (path === null ? client.models.importSample() : client.models.import({ path })),
    onSuccess: (model) => {
      showToast({ type: 'success', title: `${model.name} is in your library` })
      navigate(`/models/${model.id}`)
    },
    onError: (error) => {
      const { message, hint } = toUiError(error)
      showToast({ type: 'error', title: 'That folder was not imported', description: `${message} ${hint}` })
    },
  })
  const { mutate, mutateAsync, reset } = mutation
  const chooseFolder = useCallback(
    async (note?: string) => {
      const request = { title: 'Choose a model folder', confirm: 'Import this folder', note: note ?? null, startPath: null }
      let refused: { readonly path: string; readonly error: unknown } | null = null
      for (;;) {
        const path = await pickFolder({ ...request, refused })
        if (path === null) return
        const error: unknown = await mutateAsync(path).then(
          () => null,
          (reason: unknown) => reason,
        )
        // The system's own dialog can show no error; the screen behind it does.
        if (error === null || host.pickFolder !== null) return
        refused = { path, error }
      }
    },
    [pickFolder, mutateAsync, host],
  )
  return {
    importPath: mutate,
    chooseFolder,
    importSample: useCallback(() => mutate(null), [mutate]),
    pending: mutation.isPending,
    error: mutation.error,
    dismissError: reset,
  }
}
