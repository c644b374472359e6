import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { f8e4m3ToF32, roundToDtype } from '../checkpoint/dtypes.ts'
import { fp4Value, mxScaleValue, unpackFp4 } from '../checkpoint/fp4.ts'
import { fp8WithScale, mxfp4Row, mxfp8Row, nvfp4GlobalScale, nvfp4Row } from './float-schemes.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const bf16 = (values: readonly number[]): Float32Array => Float32Array.from(values, (value) => roundToDtype(value, 'BF16'))

/** The 8 bf16 columns of specs/compressed-tensors.md §6.2. */
const EIGHT = Float32Array.of(0.10009765625, -0.349609375, 0.69921875, -1.203125, 0.050048828125, 0.8984375, -0.6015625, 1.5)
/** The 16 columns of §6.3, and the second group of a tenth of them. */
const SIXTEEN = bf16([0, 0.1001, -0.25, 0.5, -0.75, 1, 1.25, -1.5, 2, -2.5, 3, -3.5, 0.05005, -0.02002, 0.30078, 4])
const THIRTY_TWO = Float32Array.from([...SIXTEEN, ...bf16([...SIXTEEN].map((value) => value * 0.1))])

describe('worked examples', () => {
  test('FP8 channel (§6.2)', () => {
    const { bytes, scale } = fp8WithScale(EIGHT, 'BF16')
    expect(scale).toBe(0.0033416748046875)
    expect(hex(bytes)).toBe('5fed75fb5778f37e')
  })

  test('NVFP4 (§6.3)', () => {
    const globalScale = nvfp4GlobalScale(4)
    expect(globalScale).toBe(672)
    const one = nvfp4Row(SIXTEEN, globalScale)
    expect([hex(one.packed), hex(one.scales)]).toEqual(['00293ac4e5f68071', '7e'])
    expect(hex(nvfp4Row(THIRTY_TWO, globalScale).scales)).toBe('7e63')
  })

  test('MXFP4 (§6.4)', () => {
    const { packed, scales } = mxfp4Row(THIRTY_TWO)
    expect(hex(scales)).toBe('7f')
    expect(hex(packed)).toBe('00182ab2c4e580610008088080918010')
  })

  test('MXFP8 (§6.4)', () => {
    const { bytes, scales } = mxfp8Row(THIRTY_TWO)
    expect(hex(scales)).toBe('79')
    expect(hex(bytes.subarray(0, 16))).toBe('004dd860e4686aec70f274f645ba5a78')
  })
})

describe('error bounds (seed 9)', () => {
  const row = fc
    .array(fc.float({ min: -8, max: 8, noNaN: true, noDefaultInfinity: true }), { minLength: 32, maxLength: 32 })
    .map((values) => Float32Array.from(values))

  test('NVFP4 dequantizes to within half a step of the group scale', () => {
    fc.assert(
      fc.property(row, (values) => {
        const globalScale = nvfp4GlobalScale(Math.max(...values.map(Math.abs)))
        const { packed, scales } = nvfp4Row(values, globalScale)
        const codes = unpackFp4(packed)
        for (const [i, value] of values.entries()) {
          const scale = f8e4m3ToF32(scales[i >> 4]!) / globalScale
          // The widest gap between magnitudes is 2 (4 to 6); a scale rounded down may clip by its rounding, 1/16 of 6.
          expect(Math.abs(fp4Value(codes[i]!) * scale - value)).toBeLessThanOrEqual(scale * 1.001 + Number.EPSILON)
        }
      }),
      { seed: 9 },
    )
  })

  test('MXFP8 keeps 3 bits of mantissa where it does not saturate', () => {
    fc.assert(
      fc.property(row, (values) => {
        const { bytes, scales } = mxfp8Row(values)
        const scale = mxScaleValue(scales[0]!)
        for (const [i, value] of values.entries()) {
          const restored = f8e4m3ToF32(bytes[i]!) * scale
          const saturated = Math.abs(value) > 448 * scale
          expect(saturated || Math.abs(restored - value) <= Math.max(Math.abs(value) / 16, scale * 2 ** -10)).toBe(true)
        }
      }),
      { seed: 9 },
    )
  })

  test('groups of zeros give zeros and usable scales', () => {
    const zeros = new Float32Array(32)
    expect(nvfp4Row(zeros, nvfp4GlobalScale(0)).packed.every((byte) => byte === 0)).toBe(true)
    expect(hex(mxfp4Row(zeros).scales)).toBe('00')
    expect(fp8WithScale(zeros, 'BF16').scale).toBe(1)
  })

  test('ragged rows are refused', () => {
    expect(() => nvfp4Row(new Float32Array(17), 1)).toThrow(/divisible by 16/)
    expect(() => mxfp4Row(new Float32Array(16))).toThrow(/divisible by 32/)
  })
})
