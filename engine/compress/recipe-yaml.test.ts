import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { describeRecipe } from './describe-recipe.ts'
import { PRESETS } from './presets.ts'
import { parseRecipeYaml, recipeToYaml } from './recipe-yaml.ts'
import { isStoringStep } from './recipe.ts'
import { schemeName } from './scheme.ts'

const shared = fileURLToPath(new URL('../../../shared/data/models', import.meta.url))
const hasShared = existsSync(shared)
if (!hasShared) process.stderr.write('recipe-yaml.test.ts: LLM Compressor’s own recipes are not beside this checkout (../shared/data)\n')

function failure(text: string): { message: string; hint: string } {
  try {
    parseRecipeYaml(text)
  } catch (error) {
    if (error instanceof LatheError && error.code === 'compress.invalid-recipe') return { message: error.message, hint: error.hint }
    throw error
  }
  throw new Error('the recipe was accepted')
}

function apply(type: string, value: string): string {
  return `!!python/object/apply:${type} [${value}]`
}

describe('recipe.yaml', () => {
  it('writes the form of LLM Compressor', () => {
    const balanced = PRESETS.find(({ preset }) => preset.id === 'quick-4bit')!
    expect(recipeToYaml(balanced.recipe)).toBe(`default_stage:
  default_modifiers:
    QuantizationModifier:
      config_groups:
        group_0:
          targets:
            - Linear
          weights:
            num_bits: 4
            type: int
            symmetric: true
            group_size: 128
            strategy: group
            dynamic: false
            observer: memoryless_mse
            observer_kwargs:
              maxshrink: 0.25
              patience: 10
              grid: 40
              norm: 2
          input_activations: null
          output_activations: null
      ignore:
        - lm_head
`)
  })

  it.each(PRESETS.map((definition) => [definition.preset.id, definition.recipe] as const))('reads back what it writes: %s', (_, recipe) => {
    expect(parseRecipeYaml(recipeToYaml(recipe))).toEqual(recipe)
  })

  it('reads a recipe as LLM Compressor saves one', () => {
    const text = `default_stage:
  default_modifiers:
    QuantizationModifier:
      targets: [Linear]
      ignore: [lm_head]
      scheme: W4A16
      bypass_divisibility_checks: false
      requires_calibration_data: false
`
    expect(parseRecipeYaml(text)).toEqual({
      steps: [
        {
          kind: 'quantization',
          groups: [
            {
              name: 'group_0',
              targets: ['Linear'],
              scheme: { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 128 },
              observer: { kind: 'minmax' },
            },
          ],
          ignore: ['lm_head'],
        },
      ],
    })
  })

  it('reads schemes by target, without stages', () => {
    const recipe = parseRecipeYaml(`QuantizationModifier:
  scheme: {W8A16: ['re:.*down_proj$'], W4A16_ASYM: [Linear]}
  ignore: ['re:.*lm_head']
`)
    expect(recipe.steps.filter(isStoringStep)[0]!.groups.map((group) => [group.name, group.targets, schemeName(group.scheme)])).toEqual([
      ['group_0', ['re:.*down_proj$'], 'W8A16 g128'],
      ['group_1', ['Linear'], 'W4A16 g128 asymmetric'],
    ])
  })

  it.each([
    ['QuantizationModifier: {scheme: W4A16, ingore: [lm_head]}', 'QuantizationModifier: "ingore" is not known.', 'Did you mean "ignore"?'],
    ['QuantisationModifier: {scheme: W4A16}', 'The recipe: "QuantisationModifier" is not known.', 'Did you mean "QuantizationModifier"?'],
    [
      'quant_stage: {quant_modifier: {QuantizationModifier: {scheme: W4A16}}}',
      'quant_stage: "quant_modifier" is not known.',
      'Did you mean "quant_modifiers"?',
    ],
    [
      'QuantizationModifier: {config_groups: {g: {weights: {num_bits: 4, strategy: group, groupsize: 128}}}}',
      'QuantizationModifier.config_groups.g.weights: "groupsize" is not known.',
      'Did you mean "group_size"?',
    ],
    [
      'QuantizationModifier: {config_groups: {g: {weights: {num_bits: 4, strategy: group, group_size: 128, observer: mse2}}}}',
      'QuantizationModifier.config_groups.g.weights.observer: "mse2" is not known.',
      'Did you mean "mse"?',
    ],
  ])('refuses an unknown key with the nearest known one: %s', (text, message, hint) => {
    expect(failure(text)).toEqual({ message, hint })
  })

  it.each([
    [
      'QuIPModifier: {}',
      'QuIPModifier cannot be run by Lathe: its rotations would have to be computed for every token; SpinQuantModifier with R1 and R2 costs nothing.',
    ],
    ['QuantizationModifier: {scheme: NVFP5}', 'QuantizationModifier.scheme: the scheme "NVFP5" cannot be run by this version of Lathe.'],
    ['QuantizationModifier: {}', 'QuantizationModifier needs either "scheme" or "config_groups".'],
    [
      'QuantizationModifier: {config_groups: {g: {weights: {num_bits: 1, strategy: channel}}}}',
      'QuantizationModifier.config_groups.g.weights.num_bits is 1; 2 to 8 can be stored.',
    ],
    [
      'QuantizationModifier: {config_groups: {g: {weights: {num_bits: 4}}}}',
      'QuantizationModifier.config_groups.g.weights.strategy is "tensor"; integers can be stored per "channel" or per "group".',
    ],
    [
      'QuantizationModifier: {config_groups: {g: {weights: {num_bits: 4, group_size: 100}}}}',
      'QuantizationModifier.config_groups.g.weights.group_size is 100; 16, 32, 64, 128 or 256 are possible.',
    ],
    [
      'QuantizationModifier: {config_groups: {g: {weights: {num_bits: 8, strategy: channel}, input_activations: {num_bits: 8, symmetric: false}}}}',
      'QuantizationModifier.config_groups.g.input_activations.symmetric is false; inputs with a zero point are not supported.',
    ],
    ['[]', 'The recipe is []; a mapping is needed.'],
    ['', 'The recipe is null; a mapping is needed.'],
    ['{}', 'The recipe has no modifiers.'],
    ['a_stage: {}', 'The recipe has no modifiers.'],
  ])('refuses what it cannot run: %s', (text, message) => {
    expect(failure(text).message).toBe(message)
  })

  it('reads the enum members that LLM Compressor writes as Python types, and refuses every other type by name', () => {
    const order = apply('compressed_tensors.quantization.quant_args.ActivationOrdering', 'weight')
    const strategy = apply('compressed_tensors.quantization.quant_args.QuantizationStrategy', 'channel')
    const weights = `{num_bits: 4, strategy: ${strategy}, actorder: ${order}}`
    expect(
      parseRecipeYaml(`GPTQModifier: {actorder: ${order}, config_groups: {g: {targets: [Linear], weights: ${weights}}}}`).steps,
    ).toMatchObject([{ kind: 'gptq', actorder: 'weight', groups: [{ scheme: { strategy: 'channel' } }] }])
    const messages = [
      `GPTQModifier: {scheme: ${apply('os.system', 'W4A16')}}`,
      'GPTQModifier: {scheme: !!python/name:builtins.eval ""}',
      'GPTQModifier: {scheme: W4A16, ignore: !!python/tuple [lm_head]}',
      `GPTQModifier: {scheme: W4A16, actorder: ${apply('compressed_tensors.quantization.quant_args.ActivationOrdering', 'sideways')}}`,
      `GPTQModifier: {actorder: null, config_groups: {g: {targets: [Linear], weights: {num_bits: 4, strategy: channel, actorder: ${order}}}}}`,
    ].map((text) => failure(text).message)
    expect(messages).toEqual([
      'The recipe holds the Python type "python/object/apply:os.system", which is not a value of a recipe.',
      'The recipe holds the Python type "python/name:builtins.eval", which is not a value of a recipe.',
      'The recipe holds the Python type "python/tuple", which is not a value of a recipe.',
      expect.stringContaining('ActivationOrdering has no member like this; "group", "weight", "dynamic", "static" are known'),
      'GPTQModifier.config_groups.g.weights.actorder is "weight", and GPTQModifier.actorder is null.',
    ])
  })

  it.skipIf(!hasShared)('reads what LLM Compressor itself wrote, and writes it back to the same recipe', () => {
    const found = ['rtn-w3-g64', 'gptq-w4a16-g128', 'fp8-dynamic', 'w8a8'].map((name) => {
      const recipe = parseRecipeYaml(readFileSync(`${shared}/llmcompressor-${name}/recipe.yaml`, 'utf8'))
      expect(parseRecipeYaml(recipeToYaml(recipe))).toEqual(recipe)
      return describeRecipe(recipe)
    })
    expect(found).toEqual(['W3A16 g64, round to nearest', 'W4A16 g128, GPTQ', 'FP8_DYNAMIC, round to nearest', 'W8A8, round to nearest'])
  })

  it('refuses language tags, duplicate keys and alias bombs', () => {
    expect(failure('GPTQModifier: {actorder: !foo static}').message).toContain('is not plain YAML')
    expect(failure('QuantizationModifier: {scheme: W4A16, scheme: W8A16}').message).toContain('is not plain YAML')
    const bomb = ['a: &a [x, x]', ...'bcdefgh'.split('').map((key, i) => `${key}: &${key} [*${'abcdefg'[i]}, *${'abcdefg'[i]}]`)].join('\n')
    expect(failure(bomb).message).toContain('The recipe')
  })

  it('never throws anything but compress.invalid-recipe (seed 20261123)', () => {
    const word = fc.constantFrom('QuantizationModifier', 'scheme', 'W4A16', 'ignore', 'config_groups', 'weights', 'num_bits', 'x_stage')
    const value = fc.letrec((tie) => ({
      node: fc.oneof(
        { depthSize: 'small' },
        word,
        fc.integer(),
        fc.constant(null),
        fc.array(tie('node')),
        fc.dictionary(word, tie('node')),
      ),
    })).node
    const outcomes = fc.sample(value, { seed: 20261123, numRuns: 500 }).map((json) => {
      try {
        parseRecipeYaml(JSON.stringify(json))
        return 'accepted'
      } catch (error) {
        return error instanceof LatheError ? error.code : String(error)
      }
    })
    expect(new Set(outcomes).difference(new Set(['accepted', 'compress.invalid-recipe']))).toEqual(new Set())
  })
})
