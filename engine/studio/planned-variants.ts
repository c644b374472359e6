/**
 * What a request of the Optimize screen asks for, variant by variant: its recipe, its name, its size, what is measured before it is kept.
 * Knows nothing of disks, jobs or devices.
 */
import { isLayered } from '../compress/recipe.ts'
import { recipeToYaml } from '../compress/recipe-yaml.ts'
import { LatheError } from '../contract/index.ts'
import type { Preset, StartCompression } from '../contract/index.ts'
import { folderName } from './output-folder.ts'
import type { CompressPort } from './ports.ts'
import type { Recipes } from './recipes.ts'

/** Compressions that an outcome takes; of a searched map, before anything is known. */
const CANDIDATES = { 'best-of': 2, holds: 1 } as const
const NO_OUTCOME = { outcome: null, candidates: 1, holdsWithin: null } as const

/** One of the variants that a request asks for. */
export interface PlannedVariant {
  /** null for a recipe of the user's own, and for a preset with overrides: that is another recipe. */
  readonly presetId: string | null
  readonly title: string
  /** In the names of folders. */
  readonly slug: string
  /** null = the preset as it is. */
  readonly yaml: string | null
  readonly weightBytes: number
  readonly calibrated: boolean
  /** What is measured before a result is kept, and how many are made for it. */
  readonly outcome: Preset['outcome']
  readonly candidates: number
  /** Most divergence that a recipe of the user's own promises. */
  readonly holdsWithin: number | null
}

export interface VariantPlanners {
  readonly compressor: CompressPort
  readonly recipes: Recipes
}

/** What a request asks for, each to be worked out when it is its turn: one that can't be done must not hide the others. */
export function planVariants(
  folder: string,
  request: StartCompression,
  { compressor, recipes }: VariantPlanners,
): (() => Promise<PlannedVariant>)[] {
  const changed = request.overrides.length > 0
  const presets = [...new Set(request.presetIds)].map((presetId) => async (): Promise<PlannedVariant> => {
    const preset = compressor.listPresets().find((candidate) => candidate.id === presetId)
    if (preset === undefined)
      throw new LatheError('compress.invalid-recipe', `There is no preset "${presetId}".`, 'Choose one of the presets shown.')
    if (changed && preset.outcome === 'holds') {
      throw new LatheError(
        'compress.invalid-recipe',
        `The layers of ${preset.title} are chosen by measuring, so there are none to change yet.`,
        'Choose “See the map first”, then change the layers of that.',
      )
    }
    if (changed) {
      const { recipe, plan } = await recipes.overridden(folder, compressor.presetRecipe(presetId), request.overrides)
      return {
        presetId: null,
        // A changed recipe runs as it is: what the preset would have tried beside it does not.
        title: `${preset.title}${preset.outcome === 'best-of' ? ' by GPTQ' : ''}, some layers changed`,
        slug: `${presetId}-changed`,
        yaml: recipeToYaml(recipe),
        weightBytes: plan.weightBytes,
        calibrated: isLayered(recipe),
        ...NO_OUTCOME,
      }
    }
    const { weightBytes } = await compressor.predict(folder, presetId)
    const { outcome } = preset
    const candidates = outcome === null ? 1 : CANDIDATES[outcome]
    const calibrated = preset.needsCalibration
    return { presetId, title: preset.title, slug: presetId, yaml: null, weightBytes, calibrated, outcome, candidates, holdsWithin: null }
  })
  const custom = request.recipes.map(({ title, yaml, holdsWithin = null }) => async (): Promise<PlannedVariant> => {
    const { recipe, plan } = await recipes.overridden(folder, recipes.read({ yaml }), request.overrides)
    return {
      presetId: null,
      title,
      slug: folderName(title).toLowerCase(),
      yaml: recipeToYaml(recipe),
      weightBytes: plan.weightBytes,
      // A promise is measured on text, whatever the recipe needs.
      calibrated: isLayered(recipe) || holdsWithin !== null,
      ...NO_OUTCOME,
      outcome: holdsWithin === null ? null : 'holds',
      holdsWithin,
    }
  })
  return [...presets, ...custom]
}
