import { readdirSync, readFileSync } from 'node:fs'
import { assert, constantFrom, dictionary, integer, jsonValue, oneof, property } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { describeModel } from './spec.ts'
import { supportOf } from './support.ts'
import { hasSharedData, modelFolder } from './test/golden-data.ts'
import { TINY_CONFIG } from './test/memory-checkpoint.ts'

function configOf(name: string): Record<string, unknown> {
  return JSON.parse(readFileSync(`${modelFolder(name)}/config.json`, 'utf8')) as Record<string, unknown>
}

function rotaryDimOf(config: object): number {
  return describeModel({ ...TINY_CONFIG, head_dim: 16, ...config }, null).rope.rotaryDim
}

describe('describeModel', () => {
  test('the demo model', () => {
    const generation = JSON.parse(readFileSync(`${modelFolder('demo')}/generation_config.json`, 'utf8')) as Record<string, unknown>
    expect(describeModel(configOf('demo'), generation)).toEqual({
      family: 'llama',
      layers: 6,
      hiddenSize: 256,
      intermediateSize: 640,
      heads: 4,
      kvHeads: 2,
      headDim: 64,
      vocabulary: 2048,
      contextLimit: 1024,
      normEpsilon: 1e-5,
      rope: { parameters: { type: 'default', theta: 10_000 }, rotaryDim: 64 },
      attentionScale: 0.125,
      windows: [null, null, null, null, null, null],
      biases: { qkv: false, attentionOutput: false, mlp: false },
      headNorm: false,
      projections: 'separate',
      tiedEmbeddings: true,
      bosTokenId: 0,
      eosTokenIds: [2, 0],
      defaultSampling: { temperature: 0.6, topK: 0, topP: 0.9, minP: 0 },
    })
  })

  test('sampling turned off is greedy; values out of range are left out; ids beyond the vocabulary too', () => {
    const spec = describeModel(
      { ...TINY_CONFIG, eos_token_id: [1, 10] },
      { do_sample: false, temperature: 0.7, top_k: -1, top_p: 0, min_p: 7 },
    )
    expect(spec.defaultSampling).toEqual({ temperature: 0, topK: 0, topP: 1, minP: 0 })
    expect(spec.eosTokenIds).toEqual([1])
  })

  test('partial rotation in either place', () => {
    expect([
      rotaryDimOf({}),
      rotaryDimOf({ partial_rotary_factor: 0.5 }),
      rotaryDimOf({ rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.25 } }),
    ]).toEqual([16, 8, 4])
  })

  test.each([
    ['num_attention_heads', { num_attention_heads: 0 }],
    ['num_key_value_heads', { num_key_value_heads: 3 }],
    ['head_dim', { head_dim: 5 }],
    ['vocab_size', { vocab_size: '10' }],
    ['hidden_size', { hidden_size: 1e300 }],
    ['num_hidden_layers', { num_hidden_layers: null }],
  ])('refuses a bad %s', (key, change) => {
    expect(() => describeModel({ ...TINY_CONFIG, ...change }, null)).toThrow(key)
  })
})

describe.skipIf(!hasSharedData)('families of the shared models', () => {
  test('llama3 scaling, windows, biases, head norms', () => {
    expect(describeModel(configOf('random-llama3'), null).rope.parameters).toMatchObject({ type: 'llama3', factor: 8, theta: 500_000 })
    expect(describeModel(configOf('random-mistral'), null).windows).toEqual([24, 24, 24])
    expect(describeModel(configOf('random-qwen2'), null)).toMatchObject({
      biases: { qkv: true, attentionOutput: false },
      windows: [null, null, null],
    })
    expect(describeModel(configOf('random-qwen3'), null)).toMatchObject({ headNorm: true, headDim: 64, heads: 4, kvHeads: 1 })
  })
})

function failureOf(run: () => unknown): unknown {
  try {
    run()
    return null
  } catch (error) {
    return error
  }
}

describe('supportOf', () => {
  test.runIf(hasSharedData)('every shared model: runs, or says what is missing', () => {
    const folder = modelFolder('')
    const answers = readdirSync(folder).map((name) => {
      const support = supportOf(configOf(name === 'demo' ? 'demo' : name))
      return [name, support.supported ? 'runs' : support.missing.join('; ')]
    })
    expect(Object.fromEntries(answers)).toMatchInlineSnapshot(`
      {
        "demo": "runs",
        "llmcompressor-fp8-dynamic": "runs",
        "llmcompressor-gptq-w4a16-g128": "runs",
        "llmcompressor-rtn-w3-g64": "runs",
        "llmcompressor-w8a8": "runs",
        "random-gemma2": "GeGLU activation; norm weights offset by one; embeddings scaled by √hidden; norms after attention and MLP; attention logit softcapping; final logit softcapping",
        "random-gemma3": "GeGLU activation; norm weights offset by one; norms after attention and MLP; a RoPE base per layer type",
        "random-gpt2": "learned positions; LayerNorm; GELU activation; transposed weights",
        "random-granite": "residual, embedding and logit multipliers",
        "random-llama3": "runs",
        "random-mistral": "runs",
        "random-mixtral": "mixture-of-experts routing",
        "random-olmo2": "norms after attention and MLP; q/k norm over all heads at once",
        "random-phi3": "runs",
        "random-qwen2": "runs",
        "random-qwen3": "runs",
        "random-qwen3_moe": "mixture-of-experts routing",
        "stories260k": "runs",
        "tinystories-656k": "runs",
      }
    `)
  })

  test.each([
    [{ ...TINY_CONFIG, rope_scaling: { rope_type: 'yarn', factor: 4 } }, ['RoPE scaling "yarn"']],
    [{ ...TINY_CONFIG, rope_scaling: { type: 'dynamic', factor: 4 } }, ['RoPE scaling "dynamic"']],
    [{ ...TINY_CONFIG, rope_interleaved: true }, ['interleaved RoPE']],
    [{ ...TINY_CONFIG, hidden_act: 'gelu' }, ['the activation "gelu"']],
    [{ ...TINY_CONFIG, architectures: ['LlamaForSequenceClassification'] }, ['the model class LlamaForSequenceClassification']],
    [{ ...TINY_CONFIG, num_local_experts: 8 }, ['mixture-of-experts routing']],
    [{ ...TINY_CONFIG, quantization_config: { quant_method: 'gptq', bits: 3 } }, ['gptq quantized weights: 3-bit weights']],
    [
      { ...TINY_CONFIG, quantization_config: { quant_method: 'awq', bits: 4, version: 'gemv' } },
      ['awq quantized weights: the layout "gemv"'],
    ],
    [{ model_type: 'starlight' }, ['the architecture "starlight"']],
    [{ model_type: 'constructor' }, ['the architecture "constructor"']],
    [{}, ['the architecture (config.json names none)']],
    [{ model_type: 7, architectures: 'x', quantization_config: [] }, ['the architecture (config.json names none)']],
  ])('%j', (config, missing) => {
    expect(supportOf(config)).toEqual({ supported: false, missing })
  })

  test('any JSON at all: an answer, and describeModel fails only with a LatheError', () => {
    const keys = [
      ...Object.keys(TINY_CONFIG),
      'head_dim',
      'rope_scaling',
      'rope_parameters',
      'layer_types',
      'sliding_window',
      'quantization_config',
    ]
    const value = oneof(jsonValue(), integer(), constantFrom('llama', 'qwen3', 'silu', null, true))
    assert(
      property(dictionary(constantFrom(...keys), value), (change) => {
        const config = { ...TINY_CONFIG, ...change }
        expect(typeof supportOf(config).supported).toBe('boolean')
        expect(failureOf(() => describeModel(config, change))).toSatisfy((error) => error === null || error instanceof LatheError)
      }),
      { seed: 20_261_123, numRuns: 2000 },
    )
  })

  test('describeModel refuses with the same list', () => {
    expect(() => describeModel({ ...TINY_CONFIG, hidden_act: 'gelu' }, null)).toThrow('Missing: the activation "gelu"')
  })
})
