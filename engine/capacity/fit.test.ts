import { expect, test } from 'vitest'
import { fitOf } from './fit.ts'

const GIB = 2 ** 30
/** Llama-3.1-8B, BF16 KV: 32 layers · 2 · 8 heads · 128 · 2 bytes (specs/benchmark.md §7.2). */
const KV_BYTES_PER_TOKEN = 131_072

test('names the part that does not fit, the reserve counted', () => {
  const verdict = (budgetBytes: number | null, contextTokens: number, reserveBytes = 0) =>
    fitOf({
      weightBytes: 16 * GIB,
      kvBytes: KV_BYTES_PER_TOKEN * contextTokens,
      activationBytes: GIB,
      reserveBytes,
      budgetBytes,
      contextTokens,
    }).verdict
  expect([
    verdict(12 * GIB, 4096),
    verdict(24 * GIB, 131_072),
    verdict(18 * GIB, 4096),
    verdict(24 * GIB, 4096),
    verdict(24 * GIB, 4096, 8 * GIB),
    verdict(null, 4096),
  ]).toEqual(['weights', 'context', 'tight', 'fits', 'weights', 'unknown'])
})
