/** The search for a scheme per layer, from anywhere on the screen: its progress, and the recipe that it leaves behind to be looked at and changed. */
import { useMutation } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import type { AutomaticRequest, ModelSummary } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { NO_CHANGES, useDrafts } from './drafts.ts'

export interface FoundMap {
  readonly weightBytes: number
  readonly bitsPerWeight: number
  readonly predictedLoss: number
  readonly exact: boolean
}

export interface AutomaticSearch {
  readonly request: Omit<AutomaticRequest, 'modelId'>
  /** Of the recipe that is left behind. */
  readonly title: string
  readonly holdsWithin: number | null
}

export interface SearchProgress {
  readonly done: number
  readonly total: number
  readonly unit: string
}

export function useAutomatic(model: ModelSummary) {
  const { client } = useEngine()
  const { setRecipe, setChanges, setLosses } = useDrafts()
  const [progress, setProgress] = useState<SearchProgress | null>(null)
  const stop = useRef<AbortController | null>(null)
  useEffect(() => () => stop.current?.abort(), [])
  const find = useMutation({
    mutationFn: async ({ request, title, holdsWithin }: AutomaticSearch): Promise<FoundMap | null> => {
      const controller = new AbortController()
      stop.current = controller
      try {
        for await (const event of await client.optimize.automatic({ modelId: model.id, ...request }, { signal: controller.signal })) {
          if (event.kind === 'progress') {
            setProgress(event)
            continue
          }
          setRecipe(model.id, { title, yaml: event.yaml, chosen: true, holdsWithin })
          setChanges(model.id, NO_CHANGES)
          setLosses(model.id, Object.fromEntries(event.map.units.flatMap((unit) => (unit.loss === null ? [] : [[unit.id, unit.loss]]))))
          return { ...event.map, predictedLoss: event.predictedLoss, exact: event.exact }
        }
        return null
      } catch (error) {
        if (controller.signal.aborted) return null
        throw error
      } finally {
        setProgress(null)
      }
    },
  })
  return { find, progress, stop: () => stop.current?.abort() }
}
