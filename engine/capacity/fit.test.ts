import { describe, expect, test } from 'vitest'
import { activationBytes, fitOf, largestContext } from './fit.ts'

/** Llama-3.1-8B, BF16 KV: 32 layers · 2 · 8 heads · 128 · 2 bytes (specs/benchmark.md §7.2). */
const LLAMA_8B_KV_BYTES_PER_TOKEN = 131_072
const GIB = 2 ** 30

describe('fit', () => {
  test('names the part that does not fit', () => {
    const base = { weightBytes: 16 * GIB, kvBytesPerToken: LLAMA_8B_KV_BYTES_PER_TOKEN, activationBytes: GIB }
    const verdicts = (
      [
        [12 * GIB, 4096],
        [24 * GIB, 131_072],
        [18 * GIB, 4096],
        [24 * GIB, 4096],
        [null, 4096],
      ] as const
    ).map(([budgetBytes, contextTokens]) => fitOf({ ...base, budgetBytes, contextTokens }).verdict)
    expect(verdicts).toEqual(['weights', 'context', 'tight', 'fits', 'unknown'])
  })

  test('KV bytes and the largest context agree with the published formula', () => {
    const input = {
      weightBytes: 16_060_522_496,
      kvBytesPerToken: LLAMA_8B_KV_BYTES_PER_TOKEN,
      activationBytes: 1.5 * GIB,
      budgetBytes: 24 * GIB,
    }
    const tokens = largestContext(input)
    expect(tokens).toBe(Math.floor((24 * GIB - 16_060_522_496 - 1.5 * GIB) / 131_072))
    expect(fitOf({ ...input, contextTokens: tokens! }).verdict).toBe('tight')
    expect(fitOf({ ...input, contextTokens: tokens! + 1 }).verdict).toBe('context')
    expect(largestContext({ ...input, budgetBytes: 8 * GIB })).toBe(0)
    expect(largestContext({ ...input, budgetBytes: null })).toBeNull()
  })

  test('activations are f32', () => {
    expect(activationBytes({ tokens: 256, width: 10_000, logitRows: 64, vocabulary: 128_256 })).toBe(4 * (256 * 10_000 + 64 * 128_256))
  })
})
