/** The steps of a recipe that change a layer before anything is stored, by kind. */
import type { ModelSpec } from '../../model/spec.ts'
import type { Recipe, RecipeStep } from '../recipe.ts'
import { awqTransform } from '../steps/awq-step.ts'
import { smoothQuantTransform } from '../steps/smooth-quant-step.ts'
import type { LayerContext } from './layer-context.ts'

/** Throws `compress.invalid-recipe` for a step that does not fit the model. */
export function checkTransforms(recipe: Recipe, spec: ModelSpec): void {
  for (const step of recipe.steps) {
    if (step.kind === 'awq') awqTransform.check(step, spec)
    else if (step.kind === 'smoothquant') smoothQuantTransform.check(step, spec)
  }
}

/** Applies a step that has a transform; others are somebody else's. */
export async function applyTransform(step: RecipeStep, context: LayerContext): Promise<void> {
  if (step.kind === 'awq') await awqTransform.apply(step, context)
  else if (step.kind === 'smoothquant') await smoothQuantTransform.apply(step, context)
}
