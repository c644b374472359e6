/** Queries and actions of the library, shared with the inspector and the pickers. */
import { useMutation, useQuery } from '@tanstack/react-query'
import { useLocation } from 'wouter'
import type { Fit, ModelSummary, ThroughputResult } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { toUiError } from '../../lib/errors.ts'
import { formatBytes } from '../../lib/format.ts'
import { useFolderPicker } from '../../shell/use-folder-picker.ts'
import type { MeasuredWith } from '../../ui/numbers.tsx'
import { showToast } from '../../ui/toast.tsx'
import { fitOfModel } from './library.ts'

export function useModels() {
  const { queries } = useEngine()
  return useQuery(queries.models.list.queryOptions())
}

/** null while the hardware or the settings are not known yet. */
export function useFit(): (model: ModelSummary) => Fit | null {
  const { queries } = useEngine()
  const hardware = useQuery(queries.system.hardware.queryOptions()).data
  const settings = useQuery(queries.settings.get.queryOptions()).data
  return (model) => (hardware === undefined || settings === undefined ? null : fitOfModel(model, settings, hardware))
}

export interface MeasuredSpeed {
  readonly throughput: ThroughputResult
  readonly measured: MeasuredWith
  readonly software: boolean
}

/** The measured throughput of one model, from the board of its source. */
export function useMeasuredSpeed(model: ModelSummary): MeasuredSpeed | null {
  const { queries } = useEngine()
  const board = useQuery({
    ...queries.results.board.queryOptions({ input: { modelId: model.parentId ?? model.id } }),
    enabled: model.status === 'ready',
  })
  const result = board.data?.results.find((candidate) => candidate.modelId === model.id)
  const provenance = result?.provenance['throughput']
  if (result === undefined || result.throughput === null || provenance === undefined) return null
  const { throughput } = result
  return {
    throughput,
    software: provenance.adapterType === 'software' || provenance.adapterType === 'reference',
    measured: {
      provenance,
      details: {
        Protocol: `${throughput.promptTokens} prompt, ${throughput.generatedTokens} generated tokens`,
        Samples: `median of ${throughput.repeats} runs after ${throughput.warmups} warm-up`,
      },
    },
  }
}

function failed(title: string): (error: unknown) => void {
  return (error) => showToast({ type: 'error', title, description: toUiError(error).message })
}

export interface ModelActions {
  readonly rename: (model: ModelSummary, name: string) => void
  readonly remove: (model: ModelSummary) => void
  readonly locate: (model: ModelSummary) => Promise<void>
  readonly deleteFiles: {
    readonly mutate: (model: ModelSummary, confirmName: string, done: () => void) => void
    readonly isPending: boolean
    readonly error: unknown
  }
}

export function useModelActions(): ModelActions {
  const { client } = useEngine()
  const pickFolder = useFolderPicker()
  const [location, navigate] = useLocation()
  const rename = useMutation({
    mutationFn: (input: { modelId: string; name: string }) => client.models.rename(input),
    onError: failed('The name was not changed'),
  })
  const restore = useMutation({
    mutationFn: (modelId: string) => client.models.restore({ modelId }),
    onError: failed('It could not be brought back'),
  })
  const leave = (model: ModelSummary) => {
    if (location.startsWith(`/models/${model.id}`)) navigate('/models')
  }
  const remove = useMutation({
    mutationFn: (model: ModelSummary) => client.models.remove({ modelId: model.id }),
    onSuccess: (_, model) => {
      leave(model)
      showToast({
        title: `${model.name} is out of the library`,
        description: 'Its files were not touched.',
        action: { title: 'Undo', onPress: () => restore.mutate(model.id) },
      })
    },
    onError: failed('It was not removed'),
  })
  const locate = useMutation({
    mutationFn: (input: { modelId: string; path: string }) => client.models.locate(input),
    onError: failed('That folder does not fit'),
  })
  const deleteFiles = useMutation({
    mutationFn: ({ model, confirmName }: { model: ModelSummary; confirmName: string }) =>
      client.models.deleteFiles({ modelId: model.id, confirmName }),
    onSuccess: ({ freedBytes }, { model }) => {
      leave(model)
      showToast({ type: 'success', title: `Deleted ${model.name}`, description: `${formatBytes(freedBytes)} freed.` })
    },
  })
  return {
    rename: (model, name) => rename.mutate({ modelId: model.id, name }),
    remove: (model) => remove.mutate(model),
    locate: async (model) => {
      const path = await pickFolder({
        title: `Where is ${model.name} now?`,
        confirm: 'It is here',
        note: `Last seen at ${model.path}`,
        startPath: null,
      })
      if (path !== null) locate.mutate({ modelId: model.id, path })
    },
    deleteFiles: {
      mutate: (model, confirmName, done) => deleteFiles.mutate({ model, confirmName }, { onSuccess: done }),
      isPending: deleteFiles.isPending,
      error: deleteFiles.error,
    },
  }
}
