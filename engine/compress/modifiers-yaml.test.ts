/** Every step of a recipe through YAML and back, LLM Compressor's own examples, and what is refused. */
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { describeRecipe } from './describe-recipe.ts'
import { parseRecipeYaml, recipeToYaml } from './recipe-yaml.ts'
import type { Observer, QuantizationGroupRecipe, RecipeStep } from './recipe.ts'

const SEED = 20261128

const targets = fc.uniqueArray(fc.constantFrom('Linear', 're:.*down_proj$', 'model.layers.0.mlp.up_proj', 're:.*layers\\.[0-3]\\..*'), {
  minLength: 1,
})
const observer: fc.Arbitrary<Observer> = fc.oneof(
  fc.constant<Observer>({ kind: 'minmax' }),
  fc.record({
    kind: fc.constantFrom('mse' as const, 'imatrix' as const),
    maxShrink: fc.constantFrom(0.2, 0.25, 0.95),
    grid: fc.integer({ min: 1, max: 200 }),
    norm: fc.constantFrom(2, 2.4, 3),
  }),
)
const group: fc.Arbitrary<Omit<QuantizationGroupRecipe, 'name'>> = fc.record({
  targets,
  observer,
  scheme: fc.record({
    kind: fc.constant('packed-int' as const),
    bits: fc.constantFrom(4 as const, 8 as const),
    symmetric: fc.boolean(),
    strategy: fc.constant('group' as const),
    groupSize: fc.constantFrom(32, 64, 128),
  }),
})
const groups = fc
  .array(group, { minLength: 1, maxLength: 3 })
  .map((list): readonly QuantizationGroupRecipe[] => list.map((each, i) => ({ name: `group_${i}`, ...each })))
const ignore = fc.constantFrom([], ['lm_head'], ['lm_head', 're:.*gate$'])
const share = fc.double({ min: 0, max: 0.99, noNaN: true })
const mappings = fc.constantFrom(null, [{ smooth: 're:.*input_layernorm', balance: ['re:.*q_proj', 're:.*k_proj', 're:.*v_proj'] }])
const sparsity = fc.constantFrom(
  { sparsity: 0.5, maskStructure: { prune: 2, of: 4 } },
  { sparsity: 0.5, maskStructure: { prune: 4, of: 8 } },
  { sparsity: 1 / 3, maskStructure: { prune: 1, of: 3 } },
  { sparsity: 0.37, maskStructure: null },
)
const owl = fc.constantFrom(null, { m: 5, lambda: 0.08 })

const step: fc.Arbitrary<RecipeStep> = fc.oneof(
  fc.record({ kind: fc.constant('quantization' as const), groups, ignore }),
  fc.record({
    kind: fc.constant('gptq' as const),
    groups,
    ignore,
    blockSize: fc.integer({ min: 1, max: 512 }),
    dampening: share,
    actorder: fc.constantFrom('static' as const, 'weight' as const, null),
  }),
  fc.record({
    kind: fc.constant('awq' as const),
    mappings,
    duoScaling: fc.constantFrom(true, false, 'both' as const),
    nGrid: fc.integer({ min: 2, max: 100 }),
    clip: fc.constantFrom(null, { nGrid: 20, maxShrink: 0.5 }),
  }),
  fc.record({
    kind: fc.constant('smoothquant' as const),
    smoothingStrength: share,
    algorithm: fc.constantFrom('smoothquant' as const, 'log_equalization' as const),
    mappings,
  }),
  fc
    .tuple(sparsity, owl, targets, ignore, fc.integer({ min: 1, max: 512 }), share)
    .map(([pattern, profile, where, without, blockSize, dampening]): RecipeStep => ({
      kind: 'pruning',
      method: 'sparsegpt',
      ...pattern,
      owl: profile,
      targets: where,
      ignore: without,
      blockSize,
      dampening,
    })),
  fc
    .tuple(fc.constantFrom('wanda' as const, 'magnitude' as const), sparsity, targets, ignore)
    .map(([method, pattern, where, without]): RecipeStep => {
      const common = { ...pattern, owl: null, targets: where, ignore: without, blockSize: 128, dampening: 0.01 }
      return { kind: 'pruning', method, ...common }
    }),
  fc
    .tuple(fc.constantFrom('hadamard' as const, 'random-hadamard' as const), fc.constantFrom([true, true], [true, false], [false, true]))
    .map(([transform, [r1 = false, r2 = false]]): RecipeStep => ({ kind: 'rotation', transform, r1, r2 })),
  fc.record({ kind: fc.constant('recovery' as const), dampening: share }),
)

function failure(text: string): { message: string; hint: string } {
  try {
    parseRecipeYaml(text)
  } catch (error) {
    if (error instanceof LatheError && error.code === 'compress.invalid-recipe') return { message: error.message, hint: error.hint }
    throw error
  }
  throw new Error('the recipe was accepted')
}

function outcomeOf(text: string): string {
  try {
    const parsed = parseRecipeYaml(text)
    return isDeepStrictEqual(parseRecipeYaml(recipeToYaml(parsed)), parsed) ? 'reads back' : 'reads back as something else'
  } catch (error) {
    return error instanceof LatheError ? error.code : String(error)
  }
}

describe('modifiers', () => {
  it('come back from YAML as they went in, in order', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 5 }), (steps) => {
        expect(parseRecipeYaml(recipeToYaml({ steps }))).toEqual({ steps })
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  it('read what LLM Compressor’s examples say', () => {
    const { steps } = parseRecipeYaml(`
quant_stage:
  quant_modifiers:
    SmoothQuantModifier:
      smoothing_strength: 0.8
      mappings:
        - [["re:.*q_proj", "re:.*k_proj", "re:.*v_proj"], "re:.*input_layernorm"]
        - [["re:.*gate_proj", "re:.*up_proj"], "re:.*post_attention_layernorm"]
    GPTQModifier:
      ignore: ["lm_head"]
      targets: Linear
      scheme: W8A16
`)
    expect(steps).toEqual([
      {
        kind: 'smoothquant',
        smoothingStrength: 0.8,
        algorithm: 'smoothquant',
        mappings: [
          { smooth: 're:.*input_layernorm', balance: ['re:.*q_proj', 're:.*k_proj', 're:.*v_proj'] },
          { smooth: 're:.*post_attention_layernorm', balance: ['re:.*gate_proj', 're:.*up_proj'] },
        ],
      },
      expect.objectContaining({ kind: 'gptq', ignore: ['lm_head'], blockSize: 128, dampening: 0.01, actorder: 'static' }),
    ])
  })

  it('read pruning, rotation and recovery with their defaults', () => {
    const { steps } = parseRecipeYaml(`
SpinQuantModifier: {rotations: R2, transform_type: random-hadamard}
SparseGPTModifier: {sparsity: 0.5, mask_structure: "2:4", targets: ['re:.*layers.*'], sparsity_profile: owl, owl_m: 5, owl_lmbda: 0.08}
WandaPruningModifier: {sparsity: 0.4}
MagnitudePruningModifier: {init_sparsity: 0, final_sparsity: 0.3, targets: __ALL_PRUNABLE__, mask_structure: unstructured}
RecoveryModifier: {}
`)
    const place = { ignore: [], blockSize: 128, dampening: 0.01 }
    const anywhere = { ...place, kind: 'pruning', maskStructure: null, owl: null, targets: ['Linear'] }
    expect(steps).toEqual([
      { kind: 'rotation', transform: 'random-hadamard', r1: false, r2: true },
      {
        ...place,
        kind: 'pruning',
        method: 'sparsegpt',
        sparsity: 0.5,
        maskStructure: { prune: 2, of: 4 },
        owl: { m: 5, lambda: 0.08 },
        targets: ['re:.*layers.*'],
      },
      { ...anywhere, method: 'wanda', sparsity: 0.4 },
      { ...anywhere, method: 'magnitude', sparsity: 0.3 },
      { kind: 'recovery', dampening: 0.001 },
    ])
    expect(describeRecipe({ steps })).toBe('rotations R2, then SparseGPT 2:4, then Wanda 40 %, then magnitude pruning 30 %, then recovery')
  })

  it('takes an AWQModifier of older versions for the two steps that it was', () => {
    const { steps } = parseRecipeYaml('AWQModifier: {scheme: W4A16_ASYM, targets: [Linear], ignore: [lm_head], duo_scaling: both}')
    expect(steps.map(({ kind }) => kind)).toEqual(['awq', 'quantization'])
    expect(steps[0]).toEqual({ kind: 'awq', mappings: null, duoScaling: 'both', nGrid: 20, clip: null })
    expect(describeRecipe({ steps })).toBe('AWQ, then W4A16 g128 asymmetric, round to nearest')
  })

  it('reads the importance-weighted observer', () => {
    const { steps } = parseRecipeYaml(
      'QuantizationModifier: {config_groups: {g: {targets: [Linear], weights: {num_bits: 4, group_size: 32, strategy: group, observer: imatrix_mse}}}}',
    )
    expect(steps[0]).toMatchObject({ groups: [{ observer: { kind: 'imatrix', maxShrink: 0.95, grid: 20, norm: 3 } }] })
  })

  it.each([
    [
      'SmoothQuantModifier: {smoothing_strenght: 0.5}',
      'SmoothQuantModifier: "smoothing_strenght" is not known.',
      'Did you mean "smoothing_strength"?',
    ],
    [
      'SmoothQuantModifier: {algorithm: smothquant}',
      'SmoothQuantModifier.algorithm is "smothquant"; "smoothquant" or "log_equalization" is possible.',
      'Did you mean "smoothquant"?',
    ],
    ['SparseGPTModifer: {sparsity: 0.5}', 'The recipe: "SparseGPTModifer" is not known.', 'Did you mean "SparseGPTModifier"?'],
    [
      'WandaPruningModifier: {sparsity: 0.5, mask: "2:4"}',
      'WandaPruningModifier: "mask" is not known.',
      expect.stringContaining('Known here: sparsity'),
    ],
    [
      'AWQModifier: {mappings: [{smoothlayer: a, balance_layers: [b]}]}',
      'AWQModifier.mappings[0]: "smoothlayer" is not known.',
      'Did you mean "smooth_layer"?',
    ],
  ])('name an unknown key with the nearest known one: %s', (text, message, hint) => {
    expect(failure(text)).toEqual({ message, hint })
  })

  it.each([
    [
      'WandaPruningModifier: {sparsity: 0.4, mask_structure: "2:4"}',
      'WandaPruningModifier.sparsity is 0.4, but "2:4" prunes 0.5 of all weights.',
    ],
    ['WandaPruningModifier: {}', 'WandaPruningModifier needs "sparsity".'],
    ['WandaPruningModifier: {sparsity: 1}', 'WandaPruningModifier.sparsity is 1; 0 to 0.999 is possible.'],
    [
      'SparseGPTModifier: {sparsity: 0.5, mask_structure: "4:2"}',
      'SparseGPTModifier.mask_structure is "4:2"; "0:0" (any), "2:4", "4:8" and the like are possible.',
    ],
    ['SparseGPTModifier: {sparsity: [0.5, 0.6]}', 'SparseGPTModifier.sparsity is [0.5,0.6]; 0 to 0.999 is possible.'],
    [
      'SparseGPTModifier: {sparsity: 0.5, preserve_sparsity_mask: true}',
      'SparseGPTModifier.preserve_sparsity_mask is true; this version of Lathe runs only null or false.',
    ],
    [
      'MagnitudePruningModifier: {final_sparsity: 0.5, apply_globally: true}',
      'MagnitudePruningModifier.apply_globally is true; this version of Lathe runs only null or false.',
    ],
    [
      'SpinQuantModifier: {rotations: [R1, R3]}',
      'SpinQuantModifier.rotations holds "R3", which a server would have to compute for every token; R1 and R2 cost nothing.',
    ],
    ['SpinQuantModifier: {learnable: true}', 'SpinQuantModifier.learnable is true; this version of Lathe runs only null or false.'],
    [
      'GPTQModifier: {scheme: W4A16, actorder: group}',
      'GPTQModifier.actorder is "group", which needs group indices that servers are slow with; "static" orders the same way without.',
    ],
    ['GPTQModifier: {}', 'GPTQModifier needs either "scheme" or "config_groups".'],
    ['AWQModifier: {n_grid: 1}', 'AWQModifier.n_grid is 1; a whole number from 2 to 1000 is possible.'],
    [
      'AutoRoundModifier: {iters: 200}',
      'AutoRoundModifier cannot be run by Lathe: it trains rounding by back-propagation; GPTQModifier is the nearest that Lathe runs.',
    ],
  ])('are refused with the reason: %s', (text, message) => {
    expect(failure(text).message).toBe(message)
  })

  it('fail only as LatheErrors, whatever the file holds', () => {
    const word = fc.constantFrom(
      'AWQModifier',
      'GPTQModifier',
      'SparseGPTModifier',
      'SpinQuantModifier',
      'SmoothQuantModifier',
      'MagnitudePruningModifier',
      ...'mappings scheme sparsity mask_structure clip rotations actorder W4A16 2:4 R1 null [] {} -1 1e9'.split(' '),
    )
    const value: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
      node: fc.oneof(
        { maxDepth: 4 },
        fc.oneof(word, fc.integer(), fc.double(), fc.boolean(), fc.constant(null), fc.string()),
        fc.array(tie('node'), { maxLength: 4 }),
        fc.dictionary(word, tie('node'), { maxKeys: 4 }),
      ),
    })).node
    fc.assert(
      fc.property(fc.dictionary(word, value, { minKeys: 1, maxKeys: 4 }), (recipe) => {
        expect(outcomeOf(JSON.stringify(recipe))).toMatch(/^(?:reads back|compress\.invalid-recipe)$/)
      }),
      { seed: SEED, numRuns: 1000 },
    )
  })
})
