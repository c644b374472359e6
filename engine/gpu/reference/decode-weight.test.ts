import { describe, expect, test } from 'vitest'
import type { WeightFormat, WeightSpec } from '../program.ts'
import { bytesOf, denseWeight } from '../test/memory-weights.ts'
import { decodeWeight } from './decode-weight.ts'
import { decodeBf16, decodeF16, encodeF16 } from './float16.ts'

/** Words and bytes are those of specs/compressed-tensors.md §5.1 and §6.2, which the compressed-tensors library produced. */
function packed(spec: {
  rows: number
  cols: number
  format: Extract<WeightFormat, { kind: 'packed-int' }>
  words: readonly number[]
  scale: ArrayBufferView
  zeroPoint?: readonly number[]
}): WeightSpec {
  const { rows, cols, format } = spec
  const zeroPoint = spec.zeroPoint === undefined ? null : bytesOf(Uint32Array.from(spec.zeroPoint))
  const part = { name: 'w', rows, cols, format, values: bytesOf(Uint32Array.from(spec.words)), scale: bytesOf(spec.scale), zeroPoint }
  return { id: 0, name: 'w', rows, cols, format, parts: [part] }
}

const int4 = { kind: 'packed-int', bits: 4, groupSize: 8, hasZeroPoint: false, scaleDtype: 'bf16' } as const

describe('decodeWeight', () => {
  test('int4 symmetric, bf16 scale 0.2001953125', async () => {
    const weight = packed({ rows: 1, cols: 8, format: int4, words: [0xf5c82c68], scale: Uint8Array.of(0x4d, 0x3e) })
    expect(Array.from(await decodeWeight(weight))).toEqual([0, -2, 4, -6, 0, 4, -3, 7].map((q) => q * 0.2001953125))
  })

  test('int4 asymmetric, zero point −1', async () => {
    const format = { ...int4, hasZeroPoint: true }
    const weight = packed({ rows: 1, cols: 8, format, words: [0xf4c70b58], scale: Uint8Array.of(0x39, 0x3e), zeroPoint: [7] })
    expect(Array.from(await decodeWeight(weight))).toEqual([0, -3, 3, -8, -1, 4, -4, 7].map((q) => (q + 1) * 0.1806640625))
  })

  test('a column of nine zero points packed down the rows', async () => {
    const zero = [-8, -7, 0, 7, 1, -1, 2, 3, 5]
    const weight = packed({
      rows: 9,
      cols: 8,
      format: { ...int4, hasZeroPoint: true, scaleDtype: 'f32' },
      words: Array.from(zero, () => 0x88888888),
      scale: new Float32Array(9).fill(1),
      zeroPoint: [0xba79f810, 0x0000000d],
    })
    const firstColumn = (await decodeWeight(weight)).filter((_, i) => i % 8 === 0)
    expect(Array.from(firstColumn)).toEqual(zero.map((z) => 0 - z))
  })

  test('int8 with a row that ends inside a word', async () => {
    const format = { kind: 'packed-int', bits: 8, groupSize: 5, hasZeroPoint: false, scaleDtype: 'f16' } as const
    const weight = packed({ rows: 1, cols: 5, format, words: [0xff807f00, 0x00000081], scale: Uint16Array.of(0x3800) })
    expect(Array.from(await decodeWeight(weight))).toEqual([-64, -0.5, 0, 63.5, 0.5])
  })

  test.each(['f32', 'f16', 'bf16'] as const)('dense %s', async (dtype) => {
    const values = [1, -0.5, 0.0078125, 96, -0, 3]
    expect(Array.from(await decodeWeight(denseWeight(0, 2, 3, values, dtype)))).toEqual(values)
  })
})

describe('f16', () => {
  test.each([
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [1e9, 0x7bff],
    [-Infinity, 0xfbff],
    [2 ** -24, 1],
    [2 ** -25, 0],
    [1.5 * 2 ** -24, 2],
    [2 ** -14 - 2 ** -25, 0x0400],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [2 - 2 ** -12, 0x4000],
    [0.1, 0x2e66],
    [-0, 0x8000],
  ])('%f is %i', (value, bits) => {
    expect(encodeF16(value)).toBe(bits)
  })

  test('every finite pattern survives a round trip', () => {
    const finite = Array.from({ length: 0x10000 }, (_, bits) => bits).filter((bits) => Number.isFinite(decodeF16(bits)))
    expect(finite.filter((bits) => encodeF16(decodeF16(bits)) !== bits)).toEqual([])
  })

  test('NaN stays NaN', () => {
    expect(decodeF16(encodeF16(NaN))).toBeNaN()
    expect([0x3f80, 0xbf00, 0x7f80].map(decodeBf16)).toEqual([1, -0.5, Infinity])
  })
})
