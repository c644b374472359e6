/** Quantized cache rows: known e4m3 numbers, error bounds of each type, exact cases, settings. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { kvDtypesOf, kvRowBytes, kvTokenBytes, parseKvSetting, quantizeKvRow, roundToE4m3 } from './kv-format.ts'

it.each([
  // The format's landmarks (OCP 8-bit floating point, table 2): greatest, least normal, greatest and least subnormal.
  [448, 448],
  [1000, 448],
  [2 ** -6, 2 ** -6],
  [0.875 * 2 ** -6, 0.875 * 2 ** -6],
  [2 ** -9, 2 ** -9],
  // Halfway between neighbours goes to the even mantissa.
  [1.0625, 1],
  [1.1875, 1.25],
  [2 ** -10, 0],
  [3 * 2 ** -10, 2 ** -8],
  [-17, -16],
  [0, 0],
])('rounds %d to %d in e4m3', (value, expected) => {
  expect(roundToE4m3(value)).toBe(expected)
})

it.each(['fp8', 'int8', 'int4'] as const)('keeps %s rows within the error of their type, and what is exact exact', (dtype) => {
  const row = fc
    .array(fc.double({ min: -1e4, max: 1e4, noNaN: true }), { minLength: 1, maxLength: 40 })
    .map((list) => Float64Array.from(list, (value) => (Math.abs(value) < 1e-30 ? 0 : value)))
  fc.assert(
    fc.property(row, (values) => {
      const most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0)
      const found = quantizeKvRow(values, dtype)
      for (const [i, value] of values.entries()) {
        // int4's positive end is one step short of −m.
        const bound = { fp8: Math.max(Math.abs(value) / 16, most / 448 / 1024), int8: most / 254, int4: most / 8 }[dtype]
        expect(Math.abs(found[i]! - value)).toBeLessThanOrEqual(bound * 1.001 + 1e-30)
      }
      // The scale is stored in f32.
      const extreme = values.findIndex((value) => Math.abs(value) === most)
      expect(Math.abs(found[extreme]! - values[extreme]!)).toBeLessThanOrEqual(dtype === 'int4' ? most / 8 : most * 2 ** -23)
      expect(quantizeKvRow(found, dtype).every((value, i) => Math.abs(value - found[i]!) <= most * 2 ** -20)).toBe(true)
    }),
    { seed: 20_261_123, numRuns: 200 },
  )
  expect(quantizeKvRow(new Float64Array(5), dtype)).toEqual(new Float64Array(5))
  expect(quantizeKvRow(Float64Array.of(1, Infinity), dtype)).toEqual(Float64Array.of(NaN, NaN))
})

it('counts bytes with their scales', () => {
  expect(['f32', 'f16', 'fp8', 'int8', 'int4'].map((dtype) => kvRowBytes(dtype as 'f32', 128))).toEqual([512, 256, 132, 132, 68])
  expect(kvTokenBytes({ layers: 32, kvHeads: 8, headDim: 128, dtype: 'int8', valueDtype: 'int4' })).toBe(32 * 8 * 200)
})

it('reads settings', () => {
  expect(['int8', 'fp8/int4', 'int9', 'f16/f16/f16', '', '/f16'].map(parseKvSetting)).toEqual(['int8', 'fp8/int4', null, null, null, null])
  expect(kvDtypesOf('fp8/int4')).toEqual({ key: 'fp8', value: 'int4' })
  expect(kvDtypesOf('f16')).toEqual({ key: 'f16', value: 'f16' })
})
