/** The SIMD kernels against the plain JavaScript that says what they compute, on ordinary, ragged and adversarial blocks. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { asBytes, narrowFromF32, widenToF32 } from '../../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../../checkpoint/dtypes.ts'
import type { Observer } from '../../recipe.ts'
import type { IntegerScheme } from '../../scheme.ts'
import { roundToNearest } from '../round-to-nearest.ts'
import { signed, unsigned } from './assembler.ts'
import { createBlockRounder } from './block-rounder.ts'

const SEED = 20261123
const MINMAX: Observer = { kind: 'minmax' }
const MSE: Observer = { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 }
const MSE_24: Observer = { kind: 'mse', maxShrink: 0.2, grid: 100, norm: 2.4 }
const DTYPES: readonly DenseDtype[] = ['BF16', 'F16', 'F32']

function scheme(bits: 4 | 8, groupSize: number | null, symmetric = true): IntegerScheme {
  return { kind: 'packed-int', bits, symmetric, strategy: groupSize === null ? 'channel' : 'group', groupSize }
}
const SCHEMES = [scheme(4, 8), scheme(4, 4, false), scheme(4, 16, false), scheme(8, null), scheme(8, 16), scheme(8, 8, false)]

/** Finite weights as `dtype` stores them: mostly ordinary, some of any bit pattern, zeros, whole groups of zeros or one value. */
function block(dtype: DenseDtype, length: number): fc.Arbitrary<Uint8Array> {
  const any = fc.float({ noNaN: true, noDefaultInfinity: true })
  const element = fc.oneof(
    { weight: 8, arbitrary: fc.float({ noNaN: true, min: -1, max: 1 }) },
    { weight: 1, arbitrary: any },
    fc.constantFrom(0, -0),
  )
  const runs = fc.array(
    fc.oneof(
      fc.array(element, { minLength: 8, maxLength: 8 }),
      element.map((x) => Array.from({ length: 8 }, () => x)),
    ),
    {
      minLength: length / 8,
      maxLength: length / 8,
    },
  )
  return runs.map((list) => {
    const stored = widenToF32(narrowFromF32(Float32Array.from(list.flat()), dtype), dtype)
    return Uint8Array.from(
      narrowFromF32(
        stored.map((x) => (Number.isFinite(x) ? x : 0)),
        dtype,
      ),
    )
  })
}

const rounder = createBlockRounder()

describe('SIMD kernels', () => {
  it.each(DTYPES)('give the codes, scales and errors of the plain version: min-max, %s (seed 20261123)', (dtype) => {
    fc.assert(
      fc.property(block(dtype, 64), fc.constantFrom(...SCHEMES), fc.constantFrom(MINMAX, MSE_24), (bytes, one, observer) => {
        const plain = roundToNearest(widenToF32(bytes, dtype), 2, 32, one, dtype, observer)
        const fast = rounder.round(bytes, 2, 32, one, dtype, observer)
        expect({ codes: [...fast.codes], scales: [...fast.scales], zeroPoints: fast.zeroPoints && [...fast.zeroPoints] }).toEqual({
          codes: [...plain.codes],
          scales: [...plain.scales],
          zeroPoints: plain.zeroPoints && [...plain.zeroPoints],
        })
        // The sums run in another order; the largest error is the same number.
        expect(fast.error.max).toBe(plain.error.max)
        for (const key of ['source', 'error', 'cross'] as const) {
          expect(Math.abs(fast.error[key] - plain.error[key])).toBeLessThanOrEqual(1e-12 * Math.max(plain.error.source, plain.error.error))
        }
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  it.each(DTYPES)('search as well as the plain version, up to f32 sums: %s (seed 20261123)', (dtype) => {
    fc.assert(
      fc.property(block(dtype, 64), fc.constantFrom(...SCHEMES), (bytes, one) => {
        const values = widenToF32(bytes, dtype)
        // One group at a time, so that a group's error is the block's.
        const size = one.groupSize ?? 32
        for (let start = 0; start < 64; start += size) {
          const group = values.subarray(start, start + size)
          const plain = roundToNearest(group, 1, size, one, dtype, MSE).error.error
          const minmax = roundToNearest(group, 1, size, one, dtype, MINMAX).error.error
          const fast = rounder.round(narrowFromF32(group.slice(), dtype), 1, size, one, dtype, MSE).error.error
          // Groups of nothing but very small numbers keep the widest range, which is min-max.
          const tiny = Math.max(...group.map(Math.abs)) < 2 ** -60
          // f32 has 24 bits for code and fraction: at 8 bits a distance is known to 1e-5 of a step.
          expect(fast).toBeLessThanOrEqual((tiny ? minmax : plain) * (1 + 1e-4))
        }
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  it('find the scales of the plain version on weights like those of a model', () => {
    let state = 1
    const noise = Float32Array.from({ length: 64 * 256 }, () => {
      let sum = 0
      for (let i = 0; i < 6; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0
        sum += state / 2 ** 32 - 0.5
      }
      return sum * 0.03
    })
    for (const one of [scheme(4, 128), scheme(4, 32, false), scheme(8, null)]) {
      const bytes = narrowFromF32(noise, 'BF16')
      const plain = roundToNearest(widenToF32(bytes, 'BF16'), 64, 256, one, 'BF16', MSE)
      const fast = rounder.round(bytes, 64, 256, one, 'BF16', MSE)
      const different = plain.scales.filter((scale, i) => scale !== fast.scales[i]).length
      expect(different / plain.scales.length).toBeLessThanOrEqual(0.005)
      expect(fast.error.error / plain.error.error).toBeCloseTo(1, 6)
    }
  })

  it('fall back where a group is no multiple of 4, with the same meaning', () => {
    const values = Float32Array.from({ length: 3 * 43 }, (_, i) => Math.sin(i))
    const plain = roundToNearest(values, 3, 43, scheme(8, null), 'F32', MSE)
    const fast = rounder.round(asBytes(values), 3, 43, scheme(8, null), 'F32', MSE)
    expect([...fast.codes]).toEqual([...plain.codes])
  })

  it('show a NaN or an infinity in the sum of squares', () => {
    for (const [dtype, bits] of [
      ['BF16', 0x7fc0],
      ['BF16', 0xff80],
      ['F16', 0x7c00],
    ] as const) {
      const halves = new Uint16Array(32)
      halves[21] = bits
      for (const observer of [MINMAX, MSE]) {
        expect(Number.isFinite(rounder.round(asBytes(halves), 1, 32, scheme(4, 32), dtype, observer).error.source)).toBe(false)
      }
    }
  })

  it('grow their memory with the block', () => {
    const values = new Float32Array(2_000_000).fill(0.5)
    const q = createBlockRounder().round(narrowFromF32(values, 'BF16'), 2, 1_000_000, scheme(8, null), 'BF16', MINMAX)
    expect([q.codes[0], q.codes.at(-1), q.scales.length]).toEqual([127, 127, 2])
  })
})

describe('LEB128', () => {
  it('encodes the examples of the DWARF specification', () => {
    expect([2, 127, 128, 129, 12857].map(unsigned)).toEqual([[2], [127], [0x80, 1], [0x81, 1], [0xb9, 0x64]])
    expect([2, -2, 127, -127, 128, -128, 129, -129].map(signed)).toEqual([
      [2],
      [0x7e],
      [0xff, 0],
      [0x81, 0x7f],
      [0x80, 1],
      [0x80, 0x7f],
      [0x81, 1],
      [0xff, 0x7e],
    ])
  })
})
