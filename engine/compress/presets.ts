/**
 * The presets: named recipes with a promise that a person understands. Data only. The order is that of the Optimize screen:
 * largest first.
 */
import { LatheError } from '../contract/errors.ts'
import type { Preset } from '../contract/index.ts'
import type { Observer, Recipe } from './recipe.ts'
import { schemeName } from './scheme.ts'
import type { Scheme } from './scheme.ts'

export interface PresetDefinition {
  readonly preset: Preset
  readonly recipe: Recipe
}

const MINMAX: Observer = { kind: 'minmax' }

/**
 * Ten candidate ranges from 1 down to 0.775. On the demo model twenty steps of 1/100 gain nothing over these (SQNR 19.80 dB both, 18.98 dB
 * without search), and the plain square (norm 2) does as well as LLM Compressor's 2.4 while costing no power function per weight.
 */
const MSE: Observer = { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 }

const W8_CHANNEL: Scheme = { kind: 'packed-int', bits: 8, symmetric: true, strategy: 'channel', groupSize: null }
const W4_G128: Scheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 128 }
const W4_G32_ASYMMETRIC: Scheme = { kind: 'packed-int', bits: 4, symmetric: false, strategy: 'group', groupSize: 32 }

/** A 16-bit scale per `group` columns, and a zero point of `bits` bits where asymmetric. Codes only; embeddings and norms come on top. */
function nominalBits(bits: number, group: number, symmetric: boolean): number {
  return bits + (16 + (symmetric ? 0 : bits)) / group
}

function linearRecipe(scheme: Scheme, observer: Observer): Recipe {
  return { steps: [{ kind: 'quantization', groups: [{ name: 'group_0', targets: ['Linear'], scheme, observer }], ignore: ['lm_head'] }] }
}

export const PRESETS: readonly PresetDefinition[] = [
  {
    preset: {
      id: 'near-lossless-8bit',
      title: 'Near-lossless 8-bit',
      promise: 'About half the size, with answers practically the same as the original’s.',
      scheme: schemeName(W8_CHANNEL),
      algorithm: 'Round to nearest',
      nominalBitsPerWeight: 8,
      qualityClass: 'near-lossless',
      fastOn: 'Any GPU; NVIDIA from Turing in vLLM',
      recommended: false,
      needsCalibration: false,
    },
    recipe: linearRecipe(W8_CHANNEL, MINMAX),
  },
  {
    preset: {
      id: 'fine-4bit',
      title: 'Fine 4-bit',
      promise: 'A little larger than Balanced and closer to the original: small groups for models that 4 bits hurt.',
      scheme: schemeName(W4_G32_ASYMMETRIC),
      algorithm: 'MSE scale search',
      nominalBitsPerWeight: nominalBits(4, 32, false),
      qualityClass: 'balanced',
      fastOn: 'Any GPU; NVIDIA from Turing in vLLM',
      recommended: false,
      needsCalibration: false,
    },
    recipe: linearRecipe(W4_G32_ASYMMETRIC, MSE),
  },
  {
    preset: {
      id: 'balanced-4bit',
      title: 'Balanced 4-bit',
      promise: 'A quarter to a third of the size for a small loss of accuracy: the usual choice for one GPU.',
      scheme: schemeName(W4_G128),
      algorithm: 'MSE scale search',
      nominalBitsPerWeight: nominalBits(4, 128, true),
      qualityClass: 'balanced',
      fastOn: 'Any GPU; NVIDIA from Turing in vLLM',
      recommended: true,
      needsCalibration: false,
    },
    recipe: linearRecipe(W4_G128, MSE),
  },
]

export function listPresets(): readonly Preset[] {
  return PRESETS.map((definition) => definition.preset)
}

/** Throws `compress.invalid-recipe` for an unknown id. */
export function presetById(presetId: string): PresetDefinition {
  const found = PRESETS.find((definition) => definition.preset.id === presetId)
  if (found === undefined) {
    const known = PRESETS.map((definition) => definition.preset.id).join(', ')
    throw new LatheError('compress.invalid-recipe', `There is no preset "${presetId}".`, `Choose one of: ${known}.`)
  }
  return found
}
