/** A recipe in one line for people: what happens to the weights, in order. */
import type { GptqStep, Observer, PruningStep, QuantizationStep, Recipe } from './recipe.ts'
import { schemeName } from './scheme.ts'

const OBSERVER_TITLES: Readonly<Record<Observer['kind'], string>> = {
  minmax: 'round to nearest',
  mse: 'MSE scale search',
  imatrix: 'importance-weighted scale search',
}

/** For people: "SmoothQuant, then W8A8, GPTQ". */
export function describeRecipe(recipe: Recipe): string {
  const steps = recipe.steps.map((step) => {
    switch (step.kind) {
      case 'quantization':
      case 'gptq':
        return describeGroups(step)
      case 'awq':
        return step.clip === null ? 'AWQ' : 'AWQ with clipping'
      case 'smoothquant':
        return `SmoothQuant ${step.smoothingStrength}`
      case 'rotation':
        return `rotations ${[...(step.r1 ? ['R1'] : []), ...(step.r2 ? ['R2'] : [])].join(' and ')}`
      case 'recovery':
        return 'recovery'
      case 'pruning':
        return describePruning(step)
    }
  })
  return [...new Set(steps)].join(', then ')
}

function describeGroups(step: QuantizationStep | GptqStep): string {
  const algorithm = (observer: Observer): string =>
    step.kind === 'quantization'
      ? OBSERVER_TITLES[observer.kind]
      : observer.kind === 'minmax'
        ? 'GPTQ'
        : `GPTQ with ${OBSERVER_TITLES[observer.kind]}`
  return [...new Set(step.groups.map((group) => `${schemeName(group.scheme)}, ${algorithm(group.observer)}`))].join(' + ')
}

const PRUNING_TITLES: Readonly<Record<PruningStep['method'], string>> = {
  sparsegpt: 'SparseGPT',
  wanda: 'Wanda',
  magnitude: 'magnitude pruning',
}

function describePruning(step: PruningStep): string {
  const { maskStructure, sparsity } = step
  const share = maskStructure === null ? `${Math.round(sparsity * 100)} %` : `${maskStructure.prune}:${maskStructure.of}`
  return `${PRUNING_TITLES[step.method]} ${share}`
}
