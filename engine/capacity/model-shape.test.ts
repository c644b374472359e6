import { describe, expect, test } from 'vitest'
import { kvBytesOf, kvBytesPerToken, kvElementBytes } from './kv-memory.ts'
import { modelShapeOf, parametersOf } from './model-shape.ts'
import { PUBLISHED_MODELS, findPublishedModel } from './published-models.ts'

const BF16 = { bytesPerElement: 2, tensorParallel: 1 }

function configOf(id: string): Record<string, unknown> {
  return { ...PUBLISHED_MODELS.find((model) => model.id === id)!.config }
}

describe('published configurations (specs/benchmark.md §7)', () => {
  test('parameters equal what the published safetensors headers add up to', () => {
    const known = PUBLISHED_MODELS.filter((model) => model.parameters !== null)
    expect(known.length).toBeGreaterThanOrEqual(10)
    expect(Object.fromEntries(known.map((model) => [model.id, parametersOf(modelShapeOf(model.config))]))).toEqual(
      Object.fromEntries(known.map((model) => [model.id, model.parameters])),
    )
  })

  test('Llama-3.1-8B: 6.979 B linear and 2 × 0.525 B embedding parameters', () => {
    const shape = modelShapeOf(configOf('llama-3.1-8b'))
    expect(shape.linearParameters).toBe(6_979_321_856)
    expect([shape.embeddingParameters, shape.headParameters]).toEqual([525_336_576, 525_336_576])
  })

  test.each([
    ['llama-3.1-8b', 131_072],
    ['llama-3.1-70b', 327_680],
    ['mistral-small-24b', 163_840],
    ['qwen3-4b', 147_456],
    // latent, no factor 2
    ['deepseek-v3', 70_272],
    // every layer
    ['gpt-oss-120b', 73_728],
  ])('%s: %i bytes of cache per token', (id, bytes) => {
    expect(kvBytesPerToken(modelShapeOf(configOf(id)), BF16)).toBe(bytes)
  })

  test('DeepSeek-V3 has 671 B parameters of which 37 B are active', () => {
    const shape = modelShapeOf(configOf('deepseek-v3'))
    expect(parametersOf(shape) / 1e9).toBeCloseTo(671, 0)
    expect((shape.activeLinearParameters + shape.headParameters) / 1e9).toBeGreaterThan(36)
    expect((shape.activeLinearParameters + shape.headParameters) / 1e9).toBeLessThan(38)
  })

  test('are found by id or name, however written', () => {
    expect(['Llama-3.1-8B', 'qwen3 4b', 'gpt-oss-20b'].map((name) => findPublishedModel(name)?.id)).toEqual([
      'llama-3.1-8b',
      'qwen3-4b',
      'gpt-oss-20b',
    ])
    expect(findPublishedModel('llama')).toBeNull()
  })
})

describe('caches', () => {
  test('windows stop growing and count whole blocks', () => {
    const shape = modelShapeOf(configOf('gpt-oss-120b'))
    const perLayer = 2 * 8 * 64 * 2
    expect(kvBytesOf(shape, 8192, { ...BF16, blockSize: 16 })).toBe(18 * perLayer * 8192 + 18 * perLayer * 128)
    expect(kvBytesOf(modelShapeOf(configOf('llama-3.1-8b')), 17, { ...BF16, blockSize: 16 })).toBe(32 * 131_072)
  })

  test('Gemma 3 keeps five of six layers to their window, inside a vision wrapper too', () => {
    const { caches } = modelShapeOf(configOf('gemma-3-27b'))
    expect([caches.filter((cache) => cache.kind === 'window').length, caches.filter((cache) => cache.kind === 'full').length]).toEqual([
      52, 10,
    ])
  })

  test('heads are replicated beyond their number, latent caches always', () => {
    expect(kvBytesPerToken(modelShapeOf(configOf('llama-3.1-8b')), { bytesPerElement: 2, tensorParallel: 16 })).toBe(131_072 / 8)
    expect(kvBytesPerToken(modelShapeOf(configOf('deepseek-v3')), { bytesPerElement: 2, tensorParallel: 8 })).toBe(70_272)
  })

  test('elements in fewer bits carry their scales', () => {
    expect((['f32', 'f16', 'int8', 'fp8', 'int4'] as const).map((element) => kvElementBytes(element, 128))).toEqual([
      4,
      2,
      1 + 2 / 128,
      1,
      0.5 + 2 / 128,
    ])
  })

  test('hybrid layers and Qwen2 with its window switched off', () => {
    const qwen = configOf('qwen3-4b')
    const hybrid = modelShapeOf({ ...qwen, num_hidden_layers: 8, full_attention_interval: 4 })
    expect(hybrid.caches.map((cache) => cache.kind).join(' ')).toBe('constant constant constant full constant constant constant full')
    const off = modelShapeOf({ ...qwen, sliding_window: 4096, use_sliding_window: false })
    expect(off.caches.every((cache) => cache.kind === 'full')).toBe(true)
  })

  test('a missing field is named', () => {
    expect(() => modelShapeOf({ hidden_size: 1 })).toThrow(/num_hidden_layers/)
    expect(() => modelShapeOf({ ...configOf('llama-3.1-8b'), hidden_size: -4 })).toThrow(/hidden_size/)
    expect(() => modelShapeOf({ ...configOf('qwen3-4b'), num_hidden_layers: 1, layer_types: ['telepathy'] })).toThrow(/telepathy/)
  })
})
