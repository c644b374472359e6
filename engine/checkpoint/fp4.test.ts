import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FP4_MAGNITUDES, fp4Code, fp4Value, mxScaleByte, packFp4, unpackFp4 } from './fp4.ts'

describe('E2M1', () => {
  test('every threshold of specs/compressed-tensors.md §6.1 falls on the stated side', () => {
    const values = [0.25, 0.2500001, 0.7499999, 0.75, 1.25, 1.2500001, 1.7499999, 1.75, 2.5, 2.5000002, 3.4999998, 3.5, 5, 5.0000005, 7]
    expect(values.map((value) => fp4Value(fp4Code(value)))).toEqual([0, 0.5, 0.5, 1, 1, 1.5, 1.5, 2, 2, 3, 3, 4, 4, 6, 6])
  })

  test('a negative value that rounds to zero keeps its sign', () => {
    expect([fp4Code(-0.1), fp4Code(-0), fp4Code(0), fp4Code(-6)]).toEqual([8, 8, 0, 15])
  })

  test('rounding is to a nearest magnitude (seed 3)', () => {
    fc.assert(
      fc.property(fc.double({ min: -6, max: 6, noNaN: true }), (value) => {
        const error = Math.abs(fp4Value(fp4Code(value)) - value)
        const nearest = Math.min(...FP4_MAGNITUDES.map((magnitude) => Math.abs(magnitude - Math.abs(value))))
        expect(error).toBe(nearest)
      }),
      { seed: 3, numRuns: 2000 },
    )
  })

  test('packing puts the even column in the low nibble and round-trips (seed 3)', () => {
    expect([...packFp4(Uint8Array.of(1, 2, 15, 0))]).toEqual([0x21, 0x0f])
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 15 }), { maxLength: 64 }), (codes) => {
        const even = Uint8Array.from(codes.length % 2 === 0 ? codes : codes.slice(1))
        expect(unpackFp4(packFp4(even))).toEqual(even)
      }),
      { seed: 3 },
    )
    expect(() => packFp4(Uint8Array.of(1))).toThrow(RangeError)
  })
})

test('microscaling bytes of §6.4', () => {
  expect([3.4, 3.5, 4, 6, 6.9, 7, 7.5, 1, 0].map((absmax) => mxScaleByte(absmax, 'fp4'))).toEqual([
    126, 127, 127, 127, 127, 128, 128, 125, 0,
  ])
})
