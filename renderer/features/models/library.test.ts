import { expect, test } from 'vitest'
import { DEFAULT_SETTINGS } from '../../../engine/contract/index.ts'
import { LIBRARY, SAMPLE, SAMPLE_W4, SAMPLE_W8, hardware } from '../../test/fixtures.ts'
import { fitOfModel, kvBytesPerToken, modelTree, variantTitle } from './library.ts'

test('variants hang under their source; without it they stand alone', () => {
  expect(modelTree(LIBRARY).map((node) => [node.model.id, node.variants.map((variant) => variant.model.id)])).toEqual([
    ['m-pebble', ['m-pebble-w8', 'm-pebble-w4']],
    ['m-qwen3', []],
    ['m-llama', []],
    ['m-mixtral', []],
  ])
  expect(modelTree([SAMPLE_W4, SAMPLE_W8]).map((node) => node.model.id)).toEqual(['m-pebble-w4', 'm-pebble-w8'])
})

test('a variant’s row does not repeat the name above it', () => {
  expect(variantTitle(SAMPLE_W4, SAMPLE)).toBe('Balanced 4-bit')
  expect(variantTitle(SAMPLE_W4, undefined)).toBe(SAMPLE_W4.name)
  expect(variantTitle({ ...SAMPLE_W4, name: 'my own name' }, SAMPLE)).toBe('my own name')
  expect(variantTitle({ ...SAMPLE_W4, name: SAMPLE.name }, SAMPLE)).toBe(SAMPLE.name)
})

test('KV cache per token: layers × KV heads × head size × two × bytes', () => {
  expect(kvBytesPerToken(SAMPLE.architecture, 'f16')).toBe(6 * 2 * 64 * 2 * 2)
  expect(kvBytesPerToken(SAMPLE.architecture, 'f32')).toBe(6 * 2 * 64 * 2 * 4)
  expect(kvBytesPerToken(SAMPLE.architecture, 'auto')).toBe(kvBytesPerToken(SAMPLE.architecture, 'f16'))
  expect(kvBytesPerToken({ ...SAMPLE.architecture, kvCacheDtype: 'fp8' }, 'auto')).toBe(6 * 2 * 2 * (64 + 4))
  expect(kvBytesPerToken({ ...SAMPLE.architecture, headDim: null }, 'f16')).toBeNull()
})

test('a fit never assumes more context than the model has', () => {
  expect(fitOfModel(SAMPLE, { ...DEFAULT_SETTINGS, contextTokens: 131_072 }, hardware('discrete')).contextTokens).toBe(1024)
})
