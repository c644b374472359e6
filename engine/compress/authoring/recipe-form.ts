/**
 * The common fields of a recipe, as a form has them, to and from recipes. A recipe that says more (several groups, own targets, pruning,
 * rotations) has no form: a form that hides part of what will run would lie.
 */
import type { RecipeAlgorithm, RecipeForm } from '../../contract/index.ts'
import { RECIPE_ALGORITHMS } from '../../contract/index.ts'
import { parseRecipeYaml } from '../recipe-yaml.ts'
import { IMATRIX_DEFAULTS, isStoringStep } from '../recipe.ts'
import type { Observer, Recipe, RecipeStep, StoringStep } from '../recipe.ts'
import { groupSizeOf, schemeId, schemeOf } from './scheme-names.ts'

/** The steps of each algorithm with the defaults of the reader of recipe files, so that the short and the spelled-out form agree. */
const TEMPLATES: Readonly<Record<RecipeAlgorithm, string>> = {
  rtn: 'QuantizationModifier: {scheme: W4A16}',
  mse: 'QuantizationModifier: {scheme: W4A16}',
  imatrix: 'QuantizationModifier: {scheme: W4A16}',
  gptq: 'GPTQModifier: {scheme: W4A16}',
  awq: 'AWQModifier: {}\nQuantizationModifier: {scheme: W4A16}',
  // 0.8 is what LLM Compressor's W8A8 examples use; 0.5 is the paper's for models with few outliers
  smoothquant: 'SmoothQuantModifier: {smoothing_strength: 0.8}\nQuantizationModifier: {scheme: W4A16}',
}

/** As the presets search (presets.ts says why); imatrix as LLM Compressor does. */
const OBSERVERS: Readonly<Partial<Record<RecipeAlgorithm, Observer>>> = {
  mse: { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 },
  imatrix: IMATRIX_DEFAULTS,
}

/** Throws `compress.invalid-recipe` for a scheme or a group size that does not exist. */
export function recipeOfForm(form: RecipeForm): Recipe {
  const scheme = schemeOf(form.scheme, form.groupSize)
  const observer = OBSERVERS[form.algorithm] ?? { kind: 'minmax' }
  return {
    steps: parseRecipeYaml(TEMPLATES[form.algorithm]).steps.map((step): RecipeStep => {
      if (!isStoringStep(step)) return step
      return { ...step, groups: [{ name: 'group_0', targets: ['Linear'], scheme, observer }], ignore: [...form.ignore] }
    }),
  }
}

/** null where the form could not say all of it. Details that only the text has (dampening, grids) must be those that the form would write. */
export function formOfRecipe(recipe: Recipe): RecipeForm | null {
  const step = recipe.steps.at(-1)
  if (step === undefined || !isStoringStep(step)) return null
  const [group, ...others] = step.groups
  if (group === undefined || others.length > 0) return null
  const scheme = schemeId(group.scheme)
  const algorithm = RECIPE_ALGORITHMS.find((candidate) => candidate === algorithmOf(recipe, step))
  if (scheme === null || algorithm === undefined) return null
  const form: RecipeForm = { algorithm, scheme, groupSize: groupSizeOf(group.scheme), ignore: [...step.ignore] }
  return JSON.stringify(sorted(recipeOfForm(form))) === JSON.stringify(sorted(recipe)) ? form : null
}

function algorithmOf(recipe: Recipe, storing: StoringStep): string {
  const [first] = recipe.steps
  if (recipe.steps.length === 2 && first !== undefined) return first.kind
  if (storing.kind === 'gptq') return 'gptq'
  const kind = storing.groups[0]?.observer.kind
  return kind === 'minmax' || kind === undefined ? 'rtn' : kind
}

/** The same value with keys in order; null activations count as absent. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, entry]) => !(key === 'activations' && entry === null))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, sorted(entry)]),
  )
}
