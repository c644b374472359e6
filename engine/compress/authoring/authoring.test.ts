/** Names, forms, overrides and error lines on the demo model's headers: nothing here reads a weight. */
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../checkpoint/open.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { LatheError, RECIPE_ALGORITHMS } from '../../contract/index.ts'
import { PRESETS } from '../presets.ts'
import { parseRecipeYaml, recipeToYaml } from '../recipe-yaml.ts'
import type { Recipe } from '../recipe.ts'
import { schemeName } from '../scheme.ts'
import { withOverrides } from './overrides.ts'
import { formOfRecipe, recipeOfForm } from './recipe-form.ts'
import { lineOf } from './recipe-line.ts'
import { planRecipe } from './recipe-plan.ts'
import { OVERRIDE_SCHEMES, SCHEME_INFOS, nextHigher, schemeNamed, schemeOf } from './scheme-names.ts'

const DEMO = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url))
const Q3 = 'model.layers.3.self_attn.q_proj'

let checkpoint: Checkpoint
let modules: readonly string[]

beforeAll(async () => {
  checkpoint = await openCheckpoint(DEMO)
  modules = planRecipe(checkpoint, rtn()).map.units.flatMap((unit) => unit.modules)
})
afterAll(() => checkpoint[Symbol.asyncDispose]())

function rtn(ignore: readonly string[] = ['lm_head']): Recipe {
  return recipeOfForm({ algorithm: 'rtn', scheme: 'W4A16', groupSize: 128, ignore: [...ignore] })
}

/** Scheme of each unit that is not W4A16 g128. */
function exceptions(recipe: Recipe): Record<string, string | null> {
  const { units } = planRecipe(checkpoint, recipe).map
  return Object.fromEntries(units.filter((unit) => unit.scheme !== 'W4A16 g128').map((unit) => [unit.id, unit.scheme]))
}

function errorOf(yaml: string): LatheError {
  try {
    parseRecipeYaml(yaml)
  } catch (error) {
    if (error instanceof LatheError) return error
  }
  throw new Error('The recipe was accepted.')
}

function raised(name: string): string | null {
  const higher = nextHigher(schemeNamed(name))
  return higher === null ? null : schemeName(higher)
}

function recipeWith(line: string): string {
  return `# mine\nquant_stage:\n  quant_modifiers:\n    QuantizationModifier:\n      ignore: [lm_head]\n      ${line}\n`
}

describe('names of schemes', () => {
  it('every offered scheme is found by the name it shows', () => {
    for (const { id, groupSizes } of SCHEME_INFOS) {
      for (const size of groupSizes) {
        const scheme = schemeOf(id, size)
        expect(schemeNamed(schemeName(scheme)), `${id} ${size}`).toEqual(scheme)
      }
    }
  })

  it('a misspelled one is answered with the nearest, a size that it lacks with those it has', () => {
    expect(() => schemeNamed('W4A16 g12')).toThrow(expect.objectContaining({ hint: 'Did you mean "W4A16 g128"?' }))
    expect(() => schemeOf('NVFP4', 128)).toThrow(expect.objectContaining({ hint: 'Possible: 16.' }))
  })

  it('a raised layer gets 8 bits in its own groups, then stays as it was', () => {
    expect(['W4A16 g32 asymmetric', 'W4A16 channel', 'NVFP4A16', 'MXFP4', 'W8A16 g128', 'FP8_DYNAMIC'].map(raised)).toEqual([
      'W8A16 g32',
      'W8A16 channel',
      'MXFP8A16',
      'FP8_DYNAMIC',
      null,
      null,
    ])
  })
})

describe('form and text', () => {
  it('say the same of every algorithm and scheme', () => {
    for (const algorithm of RECIPE_ALGORITHMS) {
      for (const { id, groupSizes } of SCHEME_INFOS) {
        for (const groupSize of groupSizes) {
          const form = { algorithm, scheme: id, groupSize, ignore: ['lm_head', 're:.*down_proj'] }
          expect(formOfRecipe(parseRecipeYaml(recipeToYaml(recipeOfForm(form))))).toEqual(form)
        }
      }
    }
  })

  it('a recipe that says more has no form, and presets of one scheme have one', () => {
    expect(formOfRecipe(parseRecipeYaml('GPTQModifier: {scheme: W4A16, dampening_frac: 0.2}'))).toBeNull()
    expect(formOfRecipe(parseRecipeYaml('WandaPruningModifier: {sparsity: 0.5}'))).toBeNull()
    expect(formOfRecipe(withOverrides(rtn(), [{ target: Q3, scheme: 'W8A16 g128' }], modules))).toBeNull()
    const balanced = PRESETS.find(({ preset }) => preset.id === 'quick-4bit')
    expect(balanced === undefined ? null : formOfRecipe(balanced.recipe)).not.toBeNull()
  })
})

describe('overrides', () => {
  it('a raised layer takes its fused partners along and leaves the others', () => {
    const recipe = withOverrides(rtn(), [{ target: Q3, scheme: 'W8A16 g128' }], modules)
    expect(exceptions(recipe)).toEqual({ 'model.layers.3.self_attn.q_proj+k_proj+v_proj': 'W8A16 g128' })
    expect(parseRecipeYaml(recipeToYaml(recipe))).toEqual(recipe)
  })

  it('patterns name many, later ones win, and null keeps a layer as it is', () => {
    const overrides = [
      { target: 're:model\\.layers\\.[01]\\.', scheme: 'W8A16 channel' },
      { target: 'model.layers.1.mlp.down_proj', scheme: null },
      { target: 'model.layers.0.mlp.down_proj', scheme: 'W4A16 g128' },
    ]
    expect(exceptions(withOverrides(rtn(), overrides, modules))).toEqual({
      'model.layers.0.self_attn.q_proj+k_proj+v_proj': 'W8A16 channel',
      'model.layers.0.self_attn.o_proj': 'W8A16 channel',
      'model.layers.0.mlp.gate_proj+up_proj': 'W8A16 channel',
      'model.layers.1.self_attn.q_proj+k_proj+v_proj': 'W8A16 channel',
      'model.layers.1.self_attn.o_proj': 'W8A16 channel',
      'model.layers.1.mlp.gate_proj+up_proj': 'W8A16 channel',
      'model.layers.1.mlp.down_proj': null,
    })
  })

  it('a layer that a pattern ignores is freed without freeing the others', () => {
    const recipe = withOverrides(
      rtn(['lm_head', 're:.*down_proj']),
      [{ target: 'model.layers.2.mlp.down_proj', scheme: 'W4A16 g128' }],
      modules,
    )
    expect(Object.keys(exceptions(recipe))).toEqual([0, 1, 3, 4, 5].map((layer) => `model.layers.${layer}.mlp.down_proj`))
  })

  it('raising again replaces the first override, and a group of nothing goes', () => {
    const once = withOverrides(rtn(), [{ target: Q3, scheme: 'W8A16 g128' }], modules)
    expect(exceptions(withOverrides(once, [{ target: Q3, scheme: null }], modules))).toEqual({
      'model.layers.3.self_attn.q_proj+k_proj+v_proj': null,
    })
    expect(exceptions(withOverrides(once, [{ target: Q3, scheme: 'W4A16 g128' }], modules))).toEqual({})
    const all = withOverrides(rtn(), [{ target: 're:.*', scheme: 'W8A16 g128' }], modules)
    expect(planRecipe(checkpoint, all).scheme).toBe('W8A16 g128')
    expect(() => withOverrides(rtn(), [{ target: 're:.*', scheme: null }], modules)).toThrow(/No layer is left/)
  })

  it('a target that names nothing is refused', () => {
    expect(() => withOverrides(rtn(), [{ target: 'model.layers.9.mlp.down_proj', scheme: null }], modules)).toThrow(/No linear layer/)
    expect(() => withOverrides(rtn(), [{ target: 're:(', scheme: null }], modules)).toThrow(LatheError)
  })

  it('totals move by the bytes of the table and by nothing else', () => {
    const before = planRecipe(checkpoint, rtn()).map
    for (const { id, modules: members, options, bytes } of before.units.slice(0, 4)) {
      for (const option of options) {
        const after = planRecipe(checkpoint, withOverrides(rtn(), [{ target: members[0]!, scheme: option.scheme }], modules)).map
        expect(after.weightBytes - before.weightBytes, `${id} ${option.scheme}`).toBe(option.bytes - bytes)
      }
    }
    expect(before.units[0]?.options).toHaveLength(OVERRIDE_SCHEMES.length)
  })
})

describe('the line of an error', () => {
  it.each([
    ['an unknown key', recipeWith('sheme: W4A16'), 6],
    ['an unknown modifier', 'a_stage:\n  a_modifiers:\n    QuantisationModifier: {}\n', 3],
    ['a value deep inside', recipeWith('config_groups: {group_0: {weights: {num_bits: 4,\n        group_size: 77, strategy: group}}}'), 7],
    ['a missing part, at what lacks it', recipeWith('targets: [Linear]'), 4],
    ['broken YAML', 'a_stage:\n  b: [1,\n', 3],
    ['a text without modifiers', '{}', null],
  ])('%s', (_, text, line) => {
    expect(lineOf(text, errorOf(text))).toBe(line)
  })
})
