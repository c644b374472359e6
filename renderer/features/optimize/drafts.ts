/**
 * What is being written on the Optimize screen and is too long for an address: a recipe of one's own and schemes of single layers, by model.
 * Kept for the session, so that a reload costs no line.
 */
import { create } from 'zustand'
import { createJSONStorage, persist } from 'zustand/middleware'
import type { SchemeOverride } from '../../../engine/contract/index.ts'

export interface RecipeDraft {
  readonly title: string
  readonly yaml: string
  /** Whether it is among what will be started. */
  readonly chosen: boolean
  /** Most divergence that was promised for it, nats per token; checked before the result is kept. */
  readonly holdsWithin?: number | null | undefined
}

/** By unit id. */
export type LayerChanges = Readonly<Record<string, SchemeOverride>>

interface DraftsState {
  readonly recipes: Readonly<Record<string, RecipeDraft>>
  readonly changes: Readonly<Record<string, LayerChanges>>
  /** Losses that a search has measured, by model and unit: shown beside the layers. */
  readonly losses: Readonly<Record<string, Readonly<Record<string, number>>>>
  /** null throws it away. */
  readonly setRecipe: (modelId: string, recipe: RecipeDraft | null) => void
  readonly setChanges: (modelId: string, changes: LayerChanges) => void
  readonly setLosses: (modelId: string, losses: Readonly<Record<string, number>>) => void
}

export const NO_CHANGES: LayerChanges = {}

export const useDrafts = create<DraftsState>()(
  persist(
    (set) => ({
      recipes: {},
      changes: {},
      losses: {},
      setRecipe: (modelId, recipe) =>
        set(({ recipes }) => {
          const { [modelId]: _, ...others } = recipes
          return { recipes: recipe === null ? others : { ...others, [modelId]: recipe } }
        }),
      setChanges: (modelId, changes) => set((state) => ({ changes: { ...state.changes, [modelId]: changes } })),
      setLosses: (modelId, losses) => set((state) => ({ losses: { ...state.losses, [modelId]: losses } })),
    }),
    { name: 'lathe.optimize-drafts', storage: createJSONStorage(() => sessionStorage) },
  ),
)
