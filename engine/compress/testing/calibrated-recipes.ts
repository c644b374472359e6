/** Recipes of each algorithm family for tests of the calibrated pipeline. */
import type { GptqStep, PruningStep, QuantizationStep, Recipe } from '../recipe.ts'
import type { IntegerScheme } from '../scheme.ts'

export const W4_G32: IntegerScheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 32 }

export const GPTQ: GptqStep = {
  kind: 'gptq',
  groups: [{ name: 'group_0', targets: ['Linear'], scheme: W4_G32, observer: { kind: 'minmax' } }],
  ignore: ['lm_head'],
  blockSize: 128,
  dampening: 0.01,
  actorder: 'static',
}

export const PRUNING: PruningStep = {
  kind: 'pruning',
  method: 'sparsegpt',
  sparsity: 0.5,
  maskStructure: { prune: 2, of: 4 },
  owl: null,
  targets: ['Linear'],
  ignore: ['lm_head'],
  blockSize: 128,
  dampening: 0.01,
}

const NEAREST: QuantizationStep = { kind: 'quantization', groups: GPTQ.groups, ignore: GPTQ.ignore }

export const CALIBRATED_RECIPES = {
  gptq: { steps: [GPTQ] },
  sparsegpt: { steps: [PRUNING] },
  wanda: { steps: [{ ...PRUNING, method: 'wanda' }] },
  'sparsegpt and gptq': { steps: [PRUNING, GPTQ] },
  awq: { steps: [{ kind: 'awq', mappings: null, duoScaling: true, nGrid: 4, clip: null }, NEAREST] },
  smoothquant: { steps: [{ kind: 'smoothquant', smoothingStrength: 0.5, algorithm: 'smoothquant', mappings: null }, NEAREST] },
  'owl and recovery': {
    steps: [
      { ...PRUNING, method: 'wanda', maskStructure: null, owl: { m: 5, lambda: 0.08 } },
      { kind: 'recovery', dampening: 0.01 },
    ],
  },
} as const satisfies Record<string, Recipe>

export type CalibratedRecipe = keyof typeof CALIBRATED_RECIPES
