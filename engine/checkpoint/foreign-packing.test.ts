/** What GPTQ and AWQ configs are refused for, and shapes that contradict each other. Values: engine/model's golden tests of both formats. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { foreignProblem, foreignQuantization, foreignView } from './foreign-packing.ts'
import { latheError } from './test/fixtures.ts'
import type { Checkpoint, TensorEntry } from './types.ts'

const GPTQ = { quant_method: 'gptq', bits: 4, group_size: 32, desc_act: false }

function checkpointOf(shapes: Readonly<Record<string, readonly [TensorEntry['dtype'], ...number[]]>>): Checkpoint {
  const tensors = Object.entries(shapes).map(([name, [dtype, ...shape]]): [string, TensorEntry] => {
    return [name, { name, dtype, shape, byteLength: 0, file: 'model.safetensors' }]
  })
  return {
    folder: '',
    config: {},
    generationConfig: null,
    quantization: null,
    tensors: new Map(tensors),
    metadata: new Map(),
    files: [],
    open: () => ({ byteLength: 0, read: () => Promise.resolve(new Uint8Array(0)) }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

describe('what is read', () => {
  it.each([
    [{ ...GPTQ, bits: 3 }, '3-bit weights'],
    [{ ...GPTQ, bits: undefined }, 'undefined-bit weights'],
    [{ ...GPTQ, group_size: 0 }, 'groups of 0'],
    [{ ...GPTQ, checkpoint_format: 'marlin' }, 'the layout "marlin"'],
    [{ ...GPTQ, dynamic: { '-:.*down': {} } }, 'settings of their own for some modules'],
    [{ quant_method: 'awq', bits: 8, group_size: 128 }, '8-bit AWQ weights'],
    [{ quant_method: 'awq', bits: 4, group_size: 128, version: 'gemv' }, 'the layout "gemv"'],
  ])('%j: %s', (config, problem) => {
    expect(foreignProblem(config)).toBe(problem)
    expect(() => foreignQuantization(config)).toThrow(problem)
  })

  it('answers for any JSON without throwing (seed 4)', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom('quant_method', 'bits', 'group_size', 'version', 'dynamic'), fc.jsonValue()), (config) => {
        const problem = foreignProblem(config)
        expect(problem === null || problem.length > 0).toBe(true)
      }),
      { seed: 4, numRuns: 200 },
    )
  })

  it('puts pack-quantized tensors in the place of a module, and leaves others alone', () => {
    const view = foreignView(
      checkpointOf({
        'a.qweight': ['I32', 8, 24],
        'a.qzeros': ['I32', 2, 3],
        'a.scales': ['F16', 2, 24],
        'a.g_idx': ['I32', 64],
        'a.bias': ['F16', 24],
        'norm.scales': ['F16', 4],
      }),
      { ...GPTQ, desc_act: true },
    )
    expect([...view.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, ...shape])).toEqual([
      ['a.weight_packed', 'I32', 24, 8],
      ['a.weight_scale', 'F16', 24, 2],
      ['a.weight_zero_point', 'I32', 3, 2],
      ['a.weight_shape', 'I64', 2],
      ['a.weight_g_idx', 'I32', 64],
      ['a.bias', 'F16', 24],
      ['norm.scales', 'F16', 4],
    ])
  })
})

describe('contradictions', () => {
  const whole = { 'a.qweight': ['I32', 8, 24], 'a.qzeros': ['I32', 2, 3], 'a.scales': ['F16', 2, 24] } as const
  it.each([
    ['scales of other groups', { ...whole, 'a.scales': ['F16', 3, 24] }, 'checkpoint.invalid-tensor', /\[3, 24\]/],
    ['zero points of other outputs', { ...whole, 'a.qzeros': ['I32', 2, 4] }, 'checkpoint.invalid-tensor', /\[2, 4\]/],
    ['codes of another dtype', { ...whole, 'a.qweight': ['F16', 8, 24] }, 'checkpoint.invalid-tensor', /F16/],
    ['no scales', { 'a.qweight': whole['a.qweight'] }, 'checkpoint.missing-tensor', /a\.scales/],
  ] as const)('%s', async (_, shapes, code, message) => {
    const error = await latheError(() => Promise.resolve().then(() => foreignView(checkpointOf(shapes), GPTQ)), code)
    expect(error).toBeInstanceOf(LatheError)
    expect(error.message).toMatch(message)
  })
})
