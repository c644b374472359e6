/**
 * The presets: named recipes, or outcomes to be measured for, with a promise that a person understands. Data only. The order is that of the
 * Optimize screen: largest first.
 */
import { LatheError } from '../contract/errors.ts'
import type { Preset } from '../contract/index.ts'
import { schemeNamed } from './authoring/scheme-names.ts'
import { AWQ_DEFAULTS, GPTQ_DEFAULTS, RECOVERY_DAMPENING } from './modifiers-yaml.ts'
import type { Observer, Recipe, RecipeStep } from './recipe.ts'
import { inputElementsOf, schemeName } from './scheme.ts'
import type { Scheme } from './scheme.ts'

/** One of several recipes that a preset tries. */
export interface PresetCandidate {
  readonly id: string
  readonly title: string
  readonly recipe: Recipe
}

/** A result that is measured before it is kept, on text that nothing was fitted to. Who measures lives above this folder. */
export type PresetOutcome =
  /** All candidates run; the one with the least divergence from the original is kept. */
  | { readonly kind: 'best-of'; readonly candidates: readonly PresetCandidate[] }
  /** The smallest map of these schemes that keeps this share of the original's next-token probability (contract/outcome.ts). */
  | { readonly kind: 'holds'; readonly share: number; readonly schemes: readonly Scheme[] }

export interface PresetDefinition {
  readonly preset: Preset
  /** What runs; of an outcome the first candidate, or where the search for a map begins. */
  readonly recipe: Recipe
  /** Null for a plain recipe. */
  readonly outcome: PresetOutcome | null
}

/** What is asked for: a preset, a recipe, or the recipe that a preset came to. */
export type RecipeChoice = { readonly presetId: string } | { readonly recipe: Recipe; readonly presetId?: string }

const MINMAX: Observer = { kind: 'minmax' }

/**
 * Ten candidate ranges from 1 down to 0.775. On the demo model twenty steps of 1/100 gain nothing over these (SQNR 19.80 dB both, 18.98 dB
 * without search), and the plain square (norm 2) does as well as LLM Compressor's 2.4 while costing no power function per weight.
 */
const MSE: Observer = { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 }

const W8_CHANNEL: Scheme = { kind: 'packed-int', bits: 8, symmetric: true, strategy: 'channel', groupSize: null }
const W4_G128: Scheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 128 }
const W4_G32_ASYMMETRIC: Scheme = { kind: 'packed-int', bits: 4, symmetric: false, strategy: 'group', groupSize: 32 }

/** LLM Compressor's definitions. */
const W8A8: Scheme = {
  kind: 'packed-int',
  bits: 8,
  symmetric: true,
  strategy: 'channel',
  groupSize: null,
  activations: { element: 'int8', scale: 'token' },
}
const FP8_DYNAMIC: Scheme = { kind: 'fp8', strategy: 'channel', activations: { element: 'fp8', scale: 'token' } }
const NVFP4: Scheme = { kind: 'nvfp4', activations: { element: 'nvfp4', scale: 'group' } }

/** A 16-bit scale per `group` columns, and a zero point of `bits` bits where asymmetric. Codes only; embeddings and norms come on top. */
function nominalBits(bits: number, group: number, symmetric: boolean): number {
  return bits + (16 + (symmetric ? 0 : bits)) / group
}

const IGNORE = ['lm_head']

function linearRecipe(scheme: Scheme, observer: Observer, before: readonly RecipeStep[] = []): Recipe {
  return {
    steps: [...before, { kind: 'quantization', groups: [{ name: 'group_0', targets: ['Linear'], scheme, observer }], ignore: IGNORE }],
  }
}

function gptqRecipe(scheme: Scheme, observer: Observer): Recipe {
  const groups = [{ name: 'group_0', targets: ['Linear'], scheme, observer }]
  return { steps: [{ kind: 'gptq', groups, ignore: IGNORE, ...GPTQ_DEFAULTS, actorder: 'static' }] }
}

const PRUNE_2_4: readonly RecipeStep[] = [
  {
    kind: 'pruning',
    method: 'sparsegpt',
    sparsity: 0.5,
    maskStructure: { prune: 2, of: 4 },
    owl: null,
    targets: ['Linear'],
    ignore: IGNORE,
    ...GPTQ_DEFAULTS,
  },
  { kind: 'recovery', dampening: RECOVERY_DAMPENING },
]

/** Weights alone, as GPTQ's grid: with the searched scales both algorithms start from the same ranges. */
const AWQ_W4: Recipe = linearRecipe(W4_G128, MSE, [AWQ_DEFAULTS])
const GPTQ_W4: Recipe = gptqRecipe(W4_G128, MSE)

interface Facts {
  readonly preset: Omit<Preset, 'inputElements' | 'outcome'>
  readonly recipe: Recipe
  readonly outcome?: PresetOutcome
}

function definition({ preset, recipe, ...rest }: Facts): PresetDefinition {
  const outcome = rest.outcome ?? null
  const schemes = recipe.steps.flatMap((step) => ('groups' in step ? step.groups.map((group) => group.scheme) : []))
  const inputElements = [...new Set(schemes.flatMap((scheme) => inputElementsOf(scheme)))]
  return { preset: { ...preset, inputElements, outcome: outcome?.kind ?? null }, recipe, outcome }
}

const DEFINITIONS: readonly Facts[] = [
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
      id: 'near-lossless-w8a8',
      title: 'Near-lossless W8A8',
      promise: 'About half the size, and 8-bit arithmetic too: a busy server reads prompts up to twice as fast.',
      scheme: schemeName(W8A8),
      algorithm: 'Round to nearest',
      nominalBitsPerWeight: 8,
      qualityClass: 'near-lossless',
      fastOn: 'GPUs with 8-bit integer products; NVIDIA from Turing in vLLM',
      recommended: false,
      needsCalibration: false,
    },
    recipe: linearRecipe(W8A8, MINMAX),
  },
  {
    preset: {
      id: 'near-lossless-fp8',
      title: 'Near-lossless FP8',
      promise: 'About half the size in 8-bit floating point: the usual choice for servers with recent NVIDIA or AMD cards.',
      scheme: schemeName(FP8_DYNAMIC),
      algorithm: 'Round to nearest',
      nominalBitsPerWeight: 8,
      qualityClass: 'near-lossless',
      fastOn: 'NVIDIA Ada, Hopper and later; AMD MI300 and later',
      recommended: false,
      needsCalibration: false,
    },
    recipe: linearRecipe(FP8_DYNAMIC, MINMAX),
  },
  {
    preset: {
      id: 'sparse-8bit',
      title: 'Sparse + 8-bit',
      promise: 'Half of all weights become zeros that Lathe never reads, the rest has 8 bits. Costs accuracy: measure it before use.',
      scheme: `2:4 sparse + ${schemeName(W8_CHANNEL)}`,
      algorithm: 'SparseGPT with recovery',
      nominalBitsPerWeight: 8,
      qualityClass: 'experimental',
      fastOn: 'Any GPU in Lathe; other servers read the zeros like other weights',
      recommended: false,
      needsCalibration: true,
    },
    recipe: linearRecipe(W8_CHANNEL, MINMAX, PRUNE_2_4),
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
      id: 'blackwell-4bit',
      title: 'Blackwell 4-bit',
      promise: 'NVFP4, the 4-bit floating point of recent NVIDIA cards, for weights and arithmetic alike.',
      scheme: schemeName(NVFP4),
      algorithm: 'GPTQ',
      // An 8-bit scale per 16 weights.
      nominalBitsPerWeight: 4.5,
      qualityClass: 'balanced',
      fastOn: 'NVIDIA Blackwell; elsewhere it saves memory only',
      recommended: false,
      needsCalibration: true,
    },
    recipe: gptqRecipe(NVFP4, MINMAX),
  },
  {
    preset: {
      id: 'smallest-99',
      title: 'Smallest that holds 99 %',
      promise:
        'The fewest bits for each layer that keep 99 % of the original’s certainty, token for token. Layers are measured first; you may change the map.',
      scheme: 'W3A16 to W8A16, layer by layer',
      algorithm: 'Automatic mixed precision, GPTQ',
      nominalBitsPerWeight: nominalBits(4, 128, true),
      qualityClass: 'balanced',
      fastOn: 'Any GPU; NVIDIA from Turing in vLLM',
      recommended: false,
      needsCalibration: true,
    },
    recipe: GPTQ_W4,
    outcome: {
      kind: 'holds',
      share: 0.99,
      // vLLM has kernels for all of them; fewer than these waste bytes, more cost a measurement per layer each.
      schemes: ['W8A16 g128', 'W6A16 g128', 'W4A16 g128', 'W3A16 g128'].map((name) => schemeNamed(name)),
    },
  },
  {
    preset: {
      id: 'balanced-4bit',
      title: 'Balanced 4-bit',
      promise:
        'A quarter to a third of the size for a small loss of accuracy. GPTQ and AWQ are both run, and the one that measures better is kept.',
      scheme: schemeName(W4_G128),
      algorithm: 'GPTQ or AWQ, measured',
      nominalBitsPerWeight: nominalBits(4, 128, true),
      qualityClass: 'balanced',
      fastOn: 'Any GPU; NVIDIA from Turing in vLLM',
      recommended: true,
      needsCalibration: true,
    },
    recipe: GPTQ_W4,
    outcome: {
      kind: 'best-of',
      candidates: [
        { id: 'gptq', title: 'GPTQ', recipe: GPTQ_W4 },
        { id: 'awq', title: 'AWQ', recipe: AWQ_W4 },
      ],
    },
  },
  {
    preset: {
      id: 'quick-4bit',
      title: 'Quick 4-bit',
      promise: 'The size of Balanced in seconds and without a GPU: scales are searched, weights are not fitted to text.',
      scheme: schemeName(W4_G128),
      algorithm: 'MSE scale search',
      nominalBitsPerWeight: nominalBits(4, 128, true),
      qualityClass: 'balanced',
      fastOn: 'Any GPU; NVIDIA from Turing in vLLM',
      recommended: false,
      needsCalibration: false,
    },
    recipe: linearRecipe(W4_G128, MSE),
  },
]

export const PRESETS: readonly PresetDefinition[] = DEFINITIONS.map((facts) => definition(facts))

/** No longer offered, but named by jobs and records of earlier versions. Balanced 4-bit runs it and AWQ, and keeps the better one. */
const RETIRED: readonly PresetDefinition[] = [
  definition({
    preset: {
      id: 'calibrated-4bit',
      title: 'Calibrated 4-bit',
      promise: 'GPTQ on sample text.',
      scheme: schemeName(W4_G128),
      algorithm: 'GPTQ',
      nominalBitsPerWeight: nominalBits(4, 128, true),
      qualityClass: 'balanced',
      fastOn: 'Any GPU; NVIDIA from Turing in vLLM',
      recommended: false,
      needsCalibration: true,
    },
    recipe: GPTQ_W4,
  }),
]

export function listPresets(): readonly Preset[] {
  return PRESETS.map((each) => each.preset)
}

/** Throws `compress.invalid-recipe` for an unknown id. */
export function presetById(presetId: string): PresetDefinition {
  const found = [...PRESETS, ...RETIRED].find((each) => each.preset.id === presetId)
  if (found === undefined) {
    const known = PRESETS.map((each) => each.preset.id).join(', ')
    throw new LatheError('compress.invalid-recipe', `There is no preset "${presetId}".`, `Choose one of: ${known}.`)
  }
  return found
}

/** The preset, if one is named, and the recipe to run. Throws `compress.invalid-recipe` for an unknown id. */
export function recipeOfChoice(choice: RecipeChoice): { readonly preset: Preset | null; readonly recipe: Recipe } {
  const found = choice.presetId === undefined ? null : presetById(choice.presetId)
  if ('recipe' in choice) return { preset: found?.preset ?? null, recipe: choice.recipe }
  if (found === null) throw new RangeError('a choice names a preset or brings a recipe')
  return { preset: found.preset, recipe: found.recipe }
}
