import { describe, expect, test } from 'vitest'
import { kvBytesOf, kvBytesPerToken } from './kv-memory.ts'
import { modelShapeOf } from './model-shape.ts'
import { bytesPerWeight, costPerMillionTokens, operationsPerToken, predictDecodeTokensPerSecond } from './roofline.ts'

const BF16 = { bytesPerElement: 2, tensorParallel: 1 }

/** Published configurations, the fields that matter. */
const LLAMA_8B = {
  hidden_size: 4096,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  intermediate_size: 14336,
  vocab_size: 128256,
  tie_word_embeddings: false,
}
const LLAMA_70B = { ...LLAMA_8B, hidden_size: 8192, num_hidden_layers: 80, num_attention_heads: 64, intermediate_size: 28672 }
const MISTRAL_SMALL_24B = {
  hidden_size: 5120,
  num_hidden_layers: 40,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: 128,
  intermediate_size: 32768,
  vocab_size: 131072,
}
const QWEN3_4B = {
  hidden_size: 2560,
  num_hidden_layers: 36,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: 128,
  intermediate_size: 9728,
  vocab_size: 151936,
  tie_word_embeddings: true,
}
const DEEPSEEK_V3 = {
  hidden_size: 7168,
  num_hidden_layers: 61,
  num_attention_heads: 128,
  num_key_value_heads: 128,
  kv_lora_rank: 512,
  q_lora_rank: 1536,
  qk_rope_head_dim: 64,
  qk_nope_head_dim: 128,
  v_head_dim: 128,
  intermediate_size: 18432,
  moe_intermediate_size: 2048,
  n_routed_experts: 256,
  n_shared_experts: 1,
  num_experts_per_tok: 8,
  first_k_dense_replace: 3,
  vocab_size: 129280,
}
const GPT_OSS_120B = {
  hidden_size: 2880,
  num_hidden_layers: 36,
  num_attention_heads: 64,
  num_key_value_heads: 8,
  head_dim: 64,
  intermediate_size: 2880,
  num_local_experts: 128,
  num_experts_per_tok: 4,
  vocab_size: 201088,
  sliding_window: 128,
  layer_types: Array.from({ length: 36 }, (_, layer) => (layer % 2 === 0 ? 'sliding_attention' : 'full_attention')),
}

describe('weights and KV cache of published models (specs/benchmark.md §7)', () => {
  test('Llama-3.1-8B: 6.979 B linear and 2 × 0.525 B embedding parameters', () => {
    const shape = modelShapeOf(LLAMA_8B)
    expect(shape.linearParameters).toBe(6_979_321_856)
    expect([shape.embeddingParameters, shape.headParameters]).toEqual([525_336_576, 525_336_576])
  })

  test.each([
    ['Llama-3.1-8B', LLAMA_8B, 131_072],
    ['Llama-3.1-70B', LLAMA_70B, 327_680],
    ['Mistral-Small-24B', MISTRAL_SMALL_24B, 163_840],
    ['Qwen3-4B', QWEN3_4B, 147_456],
    ['DeepSeek-V3 (latent, no factor 2)', DEEPSEEK_V3, 70_272],
    ['gpt-oss-120b (every layer)', GPT_OSS_120B, 73_728],
  ])('%s: bytes per token', (_, config, bytes) => {
    expect(kvBytesPerToken(modelShapeOf(config), BF16)).toBe(bytes)
  })

  test('DeepSeek-V3 has 671 B parameters of which 37 B are active', () => {
    const shape = modelShapeOf(DEEPSEEK_V3)
    expect((shape.linearParameters + 2 * shape.embeddingParameters) / 1e9).toBeCloseTo(671, 0)
    expect((shape.activeLinearParameters + shape.headParameters) / 1e9).toBeGreaterThan(36)
    expect((shape.activeLinearParameters + shape.headParameters) / 1e9).toBeLessThan(38)
  })

  test('windows stop growing and count whole blocks', () => {
    const shape = modelShapeOf(GPT_OSS_120B)
    const perLayer = 2 * 8 * 64 * 2
    expect(kvBytesOf(shape, 8192, { ...BF16, blockSize: 16 })).toBe(18 * perLayer * 8192 + 18 * perLayer * 128)
    expect(kvBytesOf(modelShapeOf(LLAMA_8B), 17, { ...BF16, blockSize: 16 })).toBe(32 * 131_072)
  })

  test('heads are replicated beyond their number, latent caches always', () => {
    expect(kvBytesPerToken(modelShapeOf(LLAMA_8B), { bytesPerElement: 2, tensorParallel: 16 })).toBe(131_072 / 8)
    expect(kvBytesPerToken(modelShapeOf(DEEPSEEK_V3), { bytesPerElement: 2, tensorParallel: 8 })).toBe(70_272)
  })

  test('a vision wrapper is looked through', () => {
    expect(modelShapeOf({ model_type: 'mistral3', text_config: MISTRAL_SMALL_24B }).linearParameters).toBe(
      modelShapeOf(MISTRAL_SMALL_24B).linearParameters,
    )
  })

  test('hybrid layers and Qwen2 with its window switched off', () => {
    const hybrid = modelShapeOf({ ...QWEN3_4B, num_hidden_layers: 8, full_attention_interval: 4 })
    expect(hybrid.caches.map((cache) => cache.kind)).toEqual([
      'constant',
      'constant',
      'constant',
      'full',
      'constant',
      'constant',
      'constant',
      'full',
    ])
    expect(
      modelShapeOf({ ...QWEN3_4B, sliding_window: 4096, use_sliding_window: false }).caches.every((cache) => cache.kind === 'full'),
    ).toBe(true)
  })

  test('a missing field is named', () => {
    expect(() => modelShapeOf({ hidden_size: 1 })).toThrow(/num_hidden_layers/)
    expect(() => modelShapeOf({ ...LLAMA_8B, hidden_size: -4 })).toThrow(/hidden_size/)
  })
})

describe('roofline', () => {
  test('bytes per weight (§7.1)', () => {
    const int4 = { bits: 4, asymmetric: false }
    expect([128, 64, 32].map((groupSize) => bytesPerWeight({ ...int4, groupSize }, 4096))).toEqual([0.515625, 0.53125, 0.5625])
    expect(bytesPerWeight({ bits: 8, groupSize: null, asymmetric: false }, 4096)).toBeCloseTo(1.0005, 4)
    expect(bytesPerWeight({ bits: 4, groupSize: 32, asymmetric: true }, 4096)).toBe(0.5625 + 0.5 / 32)
  })

  test('operations per token of Llama-3.1-8B: 15.0 G + 0.54 G at a mean context of 1024', () => {
    const shape = modelShapeOf(LLAMA_8B)
    expect(operationsPerToken(shape, 0) / 1e9).toBeCloseTo(15.0, 1)
    expect((operationsPerToken(shape, 1024) - operationsPerToken(shape, 0)) / 1e9).toBeCloseTo(0.54, 2)
  })

  // Measured by vLLM's documentation (Qwen3-4B BF16 on an L4, batch 1); one constant, 81 % of 300 GB/s.
  test.each([
    [2048, 2, 29.1],
    [8192, 2, 26.4],
    [16384, 2, 23.6],
    [32768, 2, 19.4],
    [2048, 1, 29.4],
    [8192, 1, 27.9],
    [16384, 1, 26.2],
    [32768, 1, 23.4],
  ])(
    'decode of Qwen3-4B on an L4 at context %i with %i-byte KV within 5 %% of the measured rate',
    (contextTokens, kvBytesPerElement, measured) => {
      const shape = modelShapeOf(QWEN3_4B)
      const predicted = predictDecodeTokensPerSecond(
        shape,
        { linearBytes: 2 * shape.linearParameters, headBytes: 2 * shape.embeddingParameters, contextTokens, batch: 1, kvBytesPerElement },
        { bytesPerSecond: 0.81 * 300e9, operationsPerSecond: 121e12, overheadSeconds: 0 },
      )
      expect(Math.abs(predicted / measured - 1)).toBeLessThan(0.05)
    },
  )

  test('a batch of one reads only its own experts, a large one nearly all', () => {
    const shape = modelShapeOf(DEEPSEEK_V3)
    const limits = { bytesPerSecond: 1e12, operationsPerSecond: 1e18, overheadSeconds: 0 }
    const step = { linearBytes: shape.linearParameters, headBytes: 0, contextTokens: 0, kvBytesPerElement: 2 }
    const one = 1e12 / predictDecodeTokensPerSecond(shape, { ...step, batch: 1 }, limits)
    expect(one / shape.activeLinearParameters).toBeCloseTo(1, 1)
    const many = (256 * 1e12) / predictDecodeTokensPerSecond(shape, { ...step, batch: 256 }, limits)
    expect(many / shape.linearParameters).toBeGreaterThan(0.99)
  })

  test('cost per million tokens (§7.5): $2.50 an hour, 2500 tok/s, 40 % used', () => {
    expect(costPerMillionTokens(2.5, 2500, 0.4)).toBeCloseTo(0.69, 2)
  })
})
