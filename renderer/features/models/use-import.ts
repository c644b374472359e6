/** Bringing a model into the library: by path, by folder dialog, or the bundled sample. Every way ends at the model's card. */
import { useMutation } from '@tanstack/react-query'
import { useCallback } from 'react'
import { useLocation } from 'wouter'
import { useEngine } from '../../data/engine.tsx'
import { toUiError } from '../../lib/errors.ts'
import { useFolderPicker } from '../../shell/use-folder-picker.ts'
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
  const mutation = useMutation({
    mutationKey: IMPORT_KEY,
    mutationFn: (path: string | null) => (path === null ? client.models.importSample() : client.models.import({ path })),
    onSuccess: (model) => {
      showToast({ type: 'success', title: `${model.name} is in your library` })
      navigate(`/models/${model.id}`)
    },
    onError: (error) => showToast({ type: 'error', title: 'That folder was not imported', description: toUiError(error).message }),
  })
  const { mutate, reset } = mutation
  const chooseFolder = useCallback(
    async (note?: string) => {
      const path = await pickFolder({ title: 'Choose a model folder', confirm: 'Import this folder', note: note ?? null, startPath: null })
      if (path !== null) mutate(path)
    },
    [pickFolder, mutate],
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
