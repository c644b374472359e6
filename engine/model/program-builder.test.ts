import { describe, expect, test } from 'vitest'
import type { LatheError } from '../contract/errors.ts'
import type { Operation, Program } from '../gpu/program.ts'
import { buildProgram } from './program-builder.ts'
import { describeModel } from './spec.ts'
import { memoryCheckpoint, TINY_CONFIG, type TensorShapes, tinyShapes } from './test/memory-checkpoint.ts'

function build(change: { config?: object; shapes?: TensorShapes; remove?: readonly string[] } = {}): Program {
  const config = { ...TINY_CONFIG, ...change.config }
  const shapes = { ...tinyShapes(), ...change.shapes }
  for (const name of change.remove ?? []) delete shapes[name]
  return buildProgram(describeModel(config, null), memoryCheckpoint(config, shapes), 16)
}

function errorOf(run: () => unknown): LatheError {
  try {
    run()
  } catch (error) {
    return error as LatheError
  }
  throw new Error('nothing was thrown')
}

function linearsInto(program: Program, out: string): Extract<Operation, { op: 'linear' }>[] {
  return program.operations.filter((operation) => operation.op === 'linear').filter((operation) => operation.out.name === out)
}

const INT4 = {
  quant_method: 'compressed-tensors',
  format: 'pack-quantized',
  ignore: [],
  config_groups: {
    group_0: {
      targets: ['Linear'],
      format: 'pack-quantized',
      weights: { num_bits: 4, type: 'int', symmetric: true, strategy: 'group', group_size: 8, dynamic: false },
      input_activations: null,
    },
  },
}
const INT4_ASYMMETRIC = {
  ...INT4,
  config_groups: { group_0: { ...INT4.config_groups.group_0, weights: { ...INT4.config_groups.group_0.weights, symmetric: false } } },
}

/** Packed tensors in place of one dense weight, groups of 8. */
function packed(prefix: string, rows: number, cols: number, options: { zeroPoints?: boolean } = {}): TensorShapes {
  return {
    [`${prefix}.weight_packed`]: ['I32', rows, Math.ceil(cols / 8)],
    [`${prefix}.weight_scale`]: ['BF16', rows, cols / 8],
    [`${prefix}.weight_shape`]: ['I64', 2],
    ...(options.zeroPoints === true ? { [`${prefix}.weight_zero_point`]: ['I32', Math.ceil(rows / 8), cols / 8] as const } : {}),
  }
}

describe('buildProgram', () => {
  test('fuses q|k|v and gate|up, one rope, norm after the rows are gathered', () => {
    const program = build()
    const layer = ['rmsNorm', 'linear', 'ropeAppend', 'attention', 'linear', 'rmsNorm', 'linear', 'swiglu', 'linear']
    expect(program.operations.map(({ op }) => op)).toEqual(['embed', ...layer, ...layer, 'gatherRows', 'rmsNorm', 'linear'])
    expect(linearsInto(program, 'qkv').map(({ weight, outOffset }) => [weight.rows, weight.parts.length, outOffset])).toEqual([
      [16, 3, 0],
      [16, 3, 0],
    ])
    expect(program.ropes.map(({ positions, rotaryDim }) => [positions, rotaryDim])).toEqual([[16, 4]])
    expect(program.weights.map(({ id }) => id)).toEqual(Array.from(program.weights.keys()))
  })

  test('a tied model uses one weight twice, whichever tensor is stored', () => {
    for (const remove of ['lm_head.weight', 'model.embed_tokens.weight']) {
      const program = build({ config: { tie_word_embeddings: true }, remove: [remove] })
      const [first, last] = [program.operations[0]!, program.operations.at(-1)!]
      expect(first.op === 'embed' && last.op === 'linear' && first.weight === last.weight).toBe(true)
    }
  })

  test('a tied model with both tensors uses the embedding, as transformers does', () => {
    const program = build({ config: { tie_word_embeddings: true } })
    expect(program.weights.map(({ name }) => name)).not.toContain('lm_head.weight')
  })

  test('biases of fused projections lie end to end', () => {
    const biases = Object.fromEntries(
      [0, 1].flatMap((layer) =>
        Object.entries({ q_proj: 8, k_proj: 4, v_proj: 4, o_proj: 8 }).map(([name, rows]) => [
          `model.layers.${layer}.self_attn.${name}.bias`,
          ['BF16', rows] as const,
        ]),
      ),
    )
    const program = build({ config: { attention_bias: true }, shapes: biases })
    const bias = linearsInto(program, 'qkv')[0]!.bias!
    expect([bias.rows, bias.cols, bias.parts.map(({ cols }) => cols)]).toEqual([1, 16, [8, 4, 4]])
    expect(linearsInto(program, 'hidden').map((linear) => linear.bias?.cols ?? null)).toEqual([8, null, 8, null])
  })

  test('projections of different formats share the output side by side', () => {
    const k = 'model.layers.0.self_attn.k_proj'
    const program = build({ config: { quantization_config: INT4 }, shapes: packed(k, 4, 8), remove: [`${k}.weight`] })
    const found = linearsInto(program, 'qkv').map(({ weight, outOffset }) => [weight.format.kind, weight.rows, outOffset])
    expect(found).toEqual([
      ['dense', 8, 0],
      ['packed-int', 4, 8],
      ['dense', 4, 12],
      ['dense', 16, 0],
    ])
  })

  test('parts stack only below whole words of zero points', () => {
    const shapes = Object.fromEntries(
      [0, 1].flatMap((layer) =>
        [
          ['q', 8],
          ['k', 4],
          ['v', 4],
        ].flatMap(([name, rows]) =>
          Object.entries(packed(`model.layers.${layer}.self_attn.${name}_proj`, Number(rows), 8, { zeroPoints: true })),
        ),
      ),
    )
    const remove = [0, 1].flatMap((layer) => ['q', 'k', 'v'].map((name) => `model.layers.${layer}.self_attn.${name}_proj.weight`))
    const program = build({ config: { quantization_config: INT4_ASYMMETRIC }, shapes, remove })
    expect(
      linearsInto(program, 'qkv')
        .map(({ weight, outOffset }) => [weight.rows, outOffset])
        .slice(0, 2),
    ).toEqual([
      [12, 0],
      [4, 12],
    ])
  })
})

describe('a checkpoint that does not fit its config', () => {
  const o = 'model.layers.1.self_attn.o_proj'
  const int4 = { config: { quantization_config: INT4 }, remove: [`${o}.weight`] }
  test.each<[string, string, string, Parameters<typeof build>[0]]>([
    ['lacks a tensor', 'checkpoint.missing-tensor', `"${o}.weight"`, { remove: [`${o}.weight`] }],
    ['lacks the head of an untied model', 'checkpoint.missing-tensor', '"lm_head.weight"', { remove: ['lm_head.weight'] }],
    [
      'has a wrong shape',
      'checkpoint.invalid-tensor',
      `${o}.weight has shape [8, 4], config.json calls for [8, 8]`,
      { shapes: { [`${o}.weight`]: ['BF16', 8, 4] } },
    ],
    ['has a matrix where a vector belongs', 'checkpoint.invalid-tensor', '[8, 1]', { shapes: { 'model.norm.weight': ['BF16', 8, 1] } }],
    ['stores FP8', 'checkpoint.unsupported-scheme', 'F8_E4M3', { shapes: { [`${o}.weight`]: ['F8_E4M3', 8, 8] } }],
    [
      'has a bias the family does not',
      'model.unsupported-architecture',
      'k_proj.bias',
      { shapes: { 'model.layers.0.self_attn.k_proj.bias': ['BF16', 4] } },
    ],
    [
      'packs 3 bits where it says 4',
      'checkpoint.invalid-tensor',
      '[32, 3], config.json calls for [32, 4]',
      {
        config: { ...int4.config, hidden_size: 32, num_attention_heads: 8, head_dim: 4 },
        shapes: {
          ...wide(),
          [`model.layers.0.self_attn.q_proj.weight_packed`]: ['I32', 32, 3],
          [`model.layers.0.self_attn.q_proj.weight_scale`]: ['BF16', 32, 4],
        },
      },
    ],
    [
      'packs words that fit no width',
      'checkpoint.invalid-tensor',
      '[8, 9], config.json calls for [8, 1]',
      { ...int4, shapes: { ...packed(o, 8, 8), [`${o}.weight_packed`]: ['I32', 8, 9] } },
    ],
    [
      'packs otherwise than it says',
      'checkpoint.invalid-tensor',
      'the scheme is symmetric',
      { ...int4, shapes: packed(o, 8, 8, { zeroPoints: true }) },
    ],
    [
      'packs without saying so',
      'checkpoint.invalid-tensor',
      'quantization_config describes no such',
      { remove: [`${o}.weight`], shapes: packed(o, 8, 8) },
    ],
    ['has no scale', 'checkpoint.missing-tensor', 'weight_scale', { ...int4, shapes: { [`${o}.weight_packed`]: ['I32', 8, 1] } }],
    [
      'has scales that divide nothing',
      'checkpoint.invalid-tensor',
      '[8, 3], config.json calls for [8, 1]',
      { ...int4, shapes: { ...packed(o, 8, 8), [`${o}.weight_scale`]: ['BF16', 8, 3] } },
    ],
    [
      'lists groups of other columns',
      'checkpoint.invalid-tensor',
      '[7], config.json calls for [8]',
      { ...int4, shapes: { ...packed(o, 8, 8), [`${o}.weight_g_idx`]: ['I32', 7] } },
    ],
  ])('%s', (_, code, message, change) => {
    const error = errorOf(() => build(change))
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(message)])
    expect(error.hint).not.toBe('')
  })
})

/** Shapes for hidden 32 in place of 8, with layer 0's q_proj left out, so that widths of 3 and 4 bits differ. */
function wide(): TensorShapes {
  const widened = Object.entries(tinyShapes()).map(([name, [dtype, ...shape]]) => [
    name,
    [dtype, ...shape.map((size) => (size === 8 ? 32 : size))],
  ])
  return Object.fromEntries(widened.filter(([name]) => name !== 'model.layers.0.self_attn.q_proj.weight')) as TensorShapes
}
