/**
 * Which tensors two runs over one source make the same way, so that the bytes of one can stand for those of the other. A tensor that streams
 * depends on its own values, scheme and observer. A layer of a calibrated recipe depends on all that the recipe does to it, and on every layer
 * before it where activations come from layers as stored. Compares recipes and plans; reads no weights.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Checkpoint } from '../checkpoint/types.ts'
import { prunedModules } from './plan.ts'
import type { CompressionPlan, PlanItem } from './plan.ts'
import { isLayered, isStoringStep } from './recipe.ts'
import type { Recipe } from './recipe.ts'

/** What decides the bytes of a run, beside its source. */
export interface Making {
  readonly recipe: Recipe
  readonly plan: CompressionPlan
  readonly seed: number
  /** Whatever calibration depends on; null where there is none. */
  readonly calibration: {
    /** Of the calibration tokens. */
    readonly sha256: string
    readonly adapter: string
    readonly propagate: 'compressed' | 'original'
  } | null
}

export interface SameMaking {
  /** Items of `now` whose bytes `base` has. */
  readonly items: readonly PlanItem[]
  /** Layers of which that is true of every tensor, and how many there are. */
  readonly layers: readonly number[]
  readonly ofLayers: number
  /** Why nothing is the same; null where something is. */
  readonly nothing: string | null
}

const LAYER = /^model\.layers\.(\d+)\./

export function layerOfTensor(name: string): number | null {
  const layer = LAYER.exec(name)?.[1]
  return layer === undefined ? null : Number(layer)
}

/** Without a base nothing is the same. */
export function sameMaking(source: Checkpoint, now: Making, base: Making | null): SameMaking {
  const layerNames = new Set(now.plan.items.map((item) => layerOfTensor(item.source.name)).filter((layer) => layer !== null))
  const none = (nothing: string): SameMaking => ({ items: [], layers: [], ofLayers: layerNames.size, nothing })
  if (base === null) return none('there is no other result')
  if (now.seed !== base.seed) return none(`it was made with seed ${base.seed}, not ${now.seed}`)
  if (isLayered(now.recipe) !== isLayered(base.recipe)) return none('only one of the two recipes needs calibration')
  if (!isDeepStrictEqual(settingsOf(now.recipe), settingsOf(base.recipe)))
    return none('its recipe differs in more than what single layers are stored as')
  if (!isDeepStrictEqual(now.calibration, base.calibration)) return none('it was calibrated with other text, or on another adapter')
  const [own, other] = [howEachIsMade(source, now), howEachIsMade(source, base)]
  const differs = (item: PlanItem): boolean => own.get(item.source.name) !== other.get(item.source.name)
  if (now.calibration === null) return summary(now.plan, (item) => !differs(item), layerNames.size)
  // OWL shares zeros out among the layers: one that is left out changes all others.
  const owl = now.recipe.steps.some((step) => step.kind === 'pruning' && step.owl !== null)
  const changed = new Set(now.plan.items.filter(differs).map((item) => layerOfTensor(item.source.name)))
  const first = Math.min(...[...changed].filter((layer) => layer !== null))
  const pruningChanged = owl && !isDeepStrictEqual(prunedOf(source, now.recipe), prunedOf(source, base.recipe))
  const follows = now.calibration.propagate === 'compressed'
  return summary(
    now.plan,
    (item) => {
      const layer = layerOfTensor(item.source.name)
      if (layer === null) return !differs(item)
      return !pruningChanged && (follows ? layer < first : !changed.has(layer))
    },
    layerNames.size,
  )
}

function summary(plan: CompressionPlan, isSame: (item: PlanItem) => boolean, ofLayers: number): SameMaking {
  const items = plan.items.filter(isSame)
  return {
    items,
    layers: wholeLayers(plan, new Set(items)),
    ofLayers,
    nothing: items.length === 0 ? 'no tensor is made in the same way' : null,
  }
}

/** Layers of which `items` are everything. */
export function wholeLayers(plan: CompressionPlan, items: ReadonlySet<PlanItem>): readonly number[] {
  const found = new Set<number>()
  const broken = new Set<number>()
  for (const item of plan.items) {
    const layer = layerOfTensor(item.source.name)
    if (layer !== null) (items.has(item) ? found : broken).add(layer)
  }
  return [...found].filter((layer) => !broken.has(layer)).sort((a, b) => a - b)
}

/** All of a recipe but which modules get which scheme. */
function settingsOf({ steps }: Recipe): readonly unknown[] {
  return steps.map((step) => {
    if (isStoringStep(step)) return { ...step, groups: null, ignore: null }
    return step.kind === 'pruning' ? { ...step, targets: null, ignore: null } : step
  })
}

function prunedOf(source: Checkpoint, recipe: Recipe): readonly ReadonlySet<string>[] {
  return recipe.steps.flatMap((step) => (step.kind === 'pruning' ? [prunedModules(source, step)] : []))
}

/** Everything in recipe and plan that one tensor's bytes depend on, as text to compare. */
function howEachIsMade(source: Checkpoint, { recipe, plan }: Making): ReadonlyMap<string, string> {
  const pruned = prunedOf(source, recipe)
  return new Map(
    plan.items.map((item) => {
      const how =
        item.action === 'compress'
          ? [item.scheme, item.observer, item.stored, pruned.map((modules) => modules.has(item.module))]
          : [item.action === 'rewrite' ? pruned.map((modules) => modules.has(item.module)) : null]
      return [item.source.name, JSON.stringify([item.action, item.source.dtype, item.source.shape, ...how])]
    }),
  )
}
