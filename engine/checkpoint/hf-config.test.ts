import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { architectureOf, bosTokenIdOf, configuredDtypeOf, decoderConfigOf, eosTokenIdsOf } from './hf-config.ts'
import { DEMO_MODEL, latheError, sharedData } from './test/fixtures.ts'

async function configOf(folder: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>
}

const models = sharedData('models')

const LLAMA = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 100,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
}

describe('decoderConfigOf', () => {
  it('reads the demo model', async () => {
    expect(decoderConfigOf(await configOf(DEMO_MODEL))).toEqual({
      family: 'llama',
      className: 'LlamaForCausalLM',
      layers: 6,
      hiddenSize: 256,
      intermediateSize: 640,
      attentionHeads: 4,
      keyValueHeads: 2,
      headDim: 64,
      vocabSize: 2048,
      contextLength: 1024,
      rmsNormEps: 1e-5,
      hiddenAct: 'silu',
      attentionBias: { qkv: false, output: false },
      mlpBias: false,
      tiedEmbeddings: true,
      rope: { type: 'default', theta: 10000 },
      ropeByLayerType: {},
      slidingWindow: null,
      layerTypes: Array.from({ length: 6 }, () => 'full_attention'),
    })
  })

  it('reads Llama 3 rope scaling in the old spelling and the new one alike', () => {
    const scaling = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 }
    const expected = { type: 'llama3', theta: 500000, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 8192 }
    const { rope_type: rest, ...older } = scaling
    expect(decoderConfigOf({ ...LLAMA, rope_theta: 500000, rope_scaling: scaling }).rope).toEqual(expected)
    expect(decoderConfigOf({ ...LLAMA, rope_theta: 500000, rope_scaling: { ...older, type: rest } }).rope).toEqual(expected)
    expect(decoderConfigOf({ ...LLAMA, rope_parameters: { ...scaling, rope_theta: 500000 } }).rope).toEqual(expected)
  })

  it('reads linear scaling, names what it does not know, and rope per layer type', () => {
    expect(decoderConfigOf({ ...LLAMA, rope_scaling: { type: 'linear', factor: 4 } }).rope).toEqual({
      type: 'linear',
      theta: 10000,
      factor: 4,
    })
    const yarn = { rope_type: 'yarn', factor: 4 }
    expect(decoderConfigOf({ ...LLAMA, rope_scaling: yarn }).rope).toEqual({ type: 'other', name: 'yarn', theta: 10000, parameters: yarn })
    const both = { full_attention: { rope_theta: 1e6, rope_type: 'default' }, sliding_attention: { rope_theta: 1e4, rope_type: 'default' } }
    expect(decoderConfigOf({ ...LLAMA, rope_parameters: both })).toMatchObject({
      rope: { theta: 1e6 },
      ropeByLayerType: { full_attention: { theta: 1e6 }, sliding_attention: { theta: 1e4 } },
    })
  })

  it('has Mistral slide in every layer, by default too, and not when told null', () => {
    const mistral = { ...LLAMA, model_type: 'mistral', num_key_value_heads: undefined, num_attention_heads: 8 }
    expect(decoderConfigOf({ ...mistral, sliding_window: 32 })).toMatchObject({
      slidingWindow: 32,
      layerTypes: ['sliding_attention', 'sliding_attention'],
    })
    expect(decoderConfigOf(mistral)).toMatchObject({ slidingWindow: 4096, keyValueHeads: 8, contextLength: 512 })
    expect(decoderConfigOf({ ...mistral, sliding_window: null })).toMatchObject({
      slidingWindow: null,
      layerTypes: ['full_attention', 'full_attention'],
    })
  })

  it('has Qwen slide only when asked, from max_window_layers on', () => {
    const qwen = { ...LLAMA, model_type: 'qwen2', sliding_window: 16, max_window_layers: 1 }
    expect(decoderConfigOf(qwen)).toMatchObject({ slidingWindow: null, attentionBias: { qkv: true, output: false } })
    expect(decoderConfigOf({ ...qwen, use_sliding_window: true })).toMatchObject({
      slidingWindow: 16,
      layerTypes: ['full_attention', 'sliding_attention'],
    })
    const typed = { ...qwen, use_sliding_window: true, layer_types: ['sliding_attention', 'full_attention'] }
    expect(decoderConfigOf(typed).layerTypes).toEqual(['sliding_attention', 'full_attention'])
  })

  it('gives Qwen 3 heads of 128 unless said otherwise', () => {
    expect(decoderConfigOf({ ...LLAMA, model_type: 'qwen3' }).headDim).toBe(128)
    expect(decoderConfigOf({ ...LLAMA, model_type: 'qwen3', head_dim: 48 }).headDim).toBe(48)
    expect(decoderConfigOf({ ...LLAMA, attention_bias: true }).attentionBias).toEqual({ qkv: true, output: true })
  })

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['a missing size', { hidden_size: undefined }, /hidden_size is missing/],
    ['a negative size', { num_hidden_layers: -1 }, /num_hidden_layers is -1/],
    ['a huge size', { num_hidden_layers: 1e9 }, /1 to 4096/],
    ['a fraction', { vocab_size: 10.5 }, /vocab_size is 10.5/],
    ['text for a number', { intermediate_size: '128' }, /intermediate_size is "128"/],
    ['heads that do not divide', { num_key_value_heads: 3 }, /does not divide/],
    ['a head size that is no whole number', { hidden_size: 63, num_key_value_heads: 4 }, /head_dim/],
    ['an odd head size', { head_dim: 15 }, /even/],
    ['a zero epsilon', { rms_norm_eps: 0 }, /rms_norm_eps/],
    ['text for a flag', { tie_word_embeddings: 'yes' }, /tie_word_embeddings/],
    ['no class', { architectures: [] }, /architectures/],
    ['an incomplete rope', { rope_scaling: { rope_type: 'llama3', factor: 8 } }, /low_freq_factor/],
    [
      'a rope that divides by zero',
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4, original_max_position_embeddings: 1 } },
      /not above/,
    ],
    ['a layer type too few', { layer_types: ['full_attention'] }, /one type for each of 2/],
    ['an unknown layer type', { layer_types: ['full_attention', 'linear_attention'] }, /linear_attention/],
    ['sliding layers without a window', { layer_types: ['full_attention', 'sliding_attention'] }, /sliding_window is missing/],
  ])('refuses %s', async (_, change, message) => {
    const config = Object.fromEntries(Object.entries({ ...LLAMA, ...change }).filter(([, value]) => value !== undefined))
    expect((await latheError(() => decoderConfigOf(config), 'checkpoint.invalid-config')).message).toMatch(message)
  })
})

describe('tokens and dtype', () => {
  it('joins the EOS ids of both files, generation_config first', () => {
    expect(eosTokenIdsOf({ eos_token_id: 2 }, { eos_token_id: [7, 2] })).toEqual([7, 2])
    expect(eosTokenIdsOf({ eos_token_id: [2, 3] }, null)).toEqual([2, 3])
    expect(eosTokenIdsOf({}, null)).toEqual([])
    expect(bosTokenIdOf({ bos_token_id: 1 }, null)).toBe(1)
  })

  it('refuses ids that are none', async () => {
    for (const id of [-1, 1.5, 'x', [null]]) {
      expect((await latheError(() => eosTokenIdsOf({ eos_token_id: id }, null))).code).toBe('checkpoint.invalid-config')
    }
  })

  it('knows both spellings of the dtype', () => {
    expect([configuredDtypeOf({ torch_dtype: 'bfloat16' }), configuredDtypeOf({ dtype: 'float16' }), configuredDtypeOf({})]).toEqual([
      'bfloat16',
      'float16',
      null,
    ])
  })
})

describe('architectureOf', () => {
  it('never throws, and says null for what is missing or of the wrong type', () => {
    const nothing = {
      family: 'unknown',
      className: 'unknown',
      layers: null,
      hiddenSize: null,
      intermediateSize: null,
      attentionHeads: null,
      keyValueHeads: null,
      headDim: null,
      vocabSize: null,
      contextLength: null,
      tiedEmbeddings: null,
      slidingWindow: null,
    }
    expect(architectureOf({})).toEqual(nothing)
    expect(
      architectureOf({ architectures: 7, hidden_size: '64', num_hidden_layers: -1, vocab_size: 1e300, tie_word_embeddings: 'no' }),
    ).toEqual(nothing)
  })

  it('looks into the text part of a multimodal config', () => {
    const config = {
      architectures: ['Gemma3ForConditionalGeneration'],
      model_type: 'gemma3',
      text_config: { ...LLAMA, model_type: 'gemma3_text' },
    }
    expect(architectureOf(config)).toMatchObject({
      family: 'gemma3',
      className: 'Gemma3ForConditionalGeneration',
      hiddenSize: 64,
      layers: 2,
    })
  })

  it.skipIf(models === null)('describes models of the test data', async () => {
    const lines = await Promise.all(
      (await readdir(models ?? ''))
        .filter((name) => name.startsWith('random-'))
        .map(async (name) => {
          const { family, layers, hiddenSize, keyValueHeads, headDim, tiedEmbeddings, slidingWindow } = architectureOf(
            await configOf(join(models ?? '', name)),
          )
          return [name, family, layers, hiddenSize, keyValueHeads, headDim, tiedEmbeddings, slidingWindow].join(' ')
        }),
    )
    expect(lines.sort()).toMatchInlineSnapshot(`
      [
        "random-gemma2 gemma2 3 128 2 32 true 24",
        "random-gemma3 gemma3_text 4 128 1 64 true 24",
        "random-gpt2 gpt2 3 128 4 32 true ",
        "random-granite granite 3 128 2 32 false ",
        "random-llama3 llama 2 192 3 32 true ",
        "random-mistral mistral 3 128 2 16 false 24",
        "random-mixtral mixtral 2 128 2 32 false ",
        "random-olmo2 olmo2 3 128 2 32 false ",
        "random-phi3 phi3 3 128 2 32 false ",
        "random-qwen2 qwen2 3 128 2 32 true ",
        "random-qwen3 qwen3 3 128 1 64 false ",
        "random-qwen3_moe qwen3_moe 2 128 2 32 false ",
      ]
    `)
  })
})
