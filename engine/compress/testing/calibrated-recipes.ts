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

const W8_G32: IntegerScheme = { ...W4_G32, bits: 8 }

export const CALIBRATED_RECIPES = {
  gptq: { steps: [GPTQ] },
  sparsegpt: { steps: [PRUNING] },
  magnitude: { steps: [{ ...PRUNING, method: 'magnitude' }] },
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
  imatrix: {
    steps: [
      { ...NEAREST, groups: GPTQ.groups.map((group) => ({ ...group, observer: { kind: 'imatrix', maxShrink: 0.2, grid: 20, norm: 3 } })) },
    ],
  },
  'rotation and gptq': { steps: [{ kind: 'rotation', transform: 'random-hadamard', r1: true, r2: true }, GPTQ] },
  'mixed precision': {
    steps: [
      {
        ...GPTQ,
        groups: [
          ...GPTQ.groups,
          { name: 'group_1', targets: ['re:model\\.layers\\.1\\.mlp\\..*'], scheme: W8_G32, observer: { kind: 'minmax' } },
        ],
      },
    ],
  },
} as const satisfies Record<string, Recipe>

export type CalibratedRecipe = keyof typeof CALIBRATED_RECIPES
