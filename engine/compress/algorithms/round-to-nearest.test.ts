/** Worked examples of specs/compressed-tensors.md §5.1, §6.1 and §6.2 byte for byte, and the rules of §6.1 as properties. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { narrowFromF32, roundToDtype, widenToF32 } from '../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { Observer } from '../recipe.ts'
import type { IntegerScheme } from '../scheme.ts'
import { encodeRows, encodeShape } from './encode.ts'
import { errorFigures } from './error-sums.ts'
import { SCALE_EPSILON, integerGrid, roundHalfEven, scaleOfRange, zeroPointOfRange } from './integer-grid.ts'
import { roundToNearest } from './round-to-nearest.ts'
import type { QuantizedRows } from './round-to-nearest.ts'

const SEED = 20261123
const MINMAX: Observer = { kind: 'minmax' }
const MSE: Observer = { kind: 'mse', maxShrink: 0.25, grid: 40, norm: 2 }
const DTYPES: readonly DenseDtype[] = ['BF16', 'F16', 'F32']
const EXAMPLE = Float32Array.of(0.10009765625, -0.349609375, 0.69921875, -1.203125, 0.050048828125, 0.8984375, -0.6015625, 1.5)

function group(bits: 4 | 8, groupSize: number, symmetric = true): IntegerScheme {
  return { kind: 'packed-int', bits, symmetric, strategy: 'group', groupSize }
}
const CHANNEL_8: IntegerScheme = { kind: 'packed-int', bits: 8, symmetric: true, strategy: 'channel', groupSize: null }

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex').toUpperCase()
}

/** The bytes of every stored tensor but the shape, by role. */
function stored(values: Float32Array, rows: number, scheme: IntegerScheme, dtype: DenseDtype): Record<string, string> {
  const parts = encodeRows(roundToNearest(values, rows, values.length / rows, scheme, dtype, MINMAX), scheme, dtype)
  return Object.fromEntries(parts.map((part) => [part.role, hex(part.bytes)]))
}

/** ŵ as a reader computes it, in f64 and rounded once: (q − z)·s. */
function decode(quantized: QuantizedRows): Float64Array {
  const perScale = quantized.codes.length / quantized.scales.length
  return Float64Array.from(quantized.codes, (code, i) => {
    const at = Math.floor(i / perScale)
    return Math.fround((code - (quantized.zeroPoints?.[at] ?? 0)) * quantized.scales[at]!)
  })
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((sum, x, i) => sum + x * b[i]!, 0)
}

/** Either way of dividing gives one f32. A quotient below f32's normal range rounds to code 0 whatever it is. */
function sameQuotient(w: number, s: number): boolean {
  return Math.abs(w / s) < 2 ** -126 || Math.fround(w * (1 / s)) === Math.fround(w / s)
}

function quantize(values: Float32Array, scheme: IntegerScheme, dtype: DenseDtype, observer = MINMAX): QuantizedRows {
  return roundToNearest(values, 1, values.length, scheme, dtype, observer)
}

describe('worked examples', () => {
  it('quantizes §6.2 in f32 arithmetic', () => {
    const int4 = quantize(EXAMPLE, group(4, 8), 'F32')
    expect([...int4.codes]).toEqual([1, -2, 3, -6, 0, 4, -3, 7])
    expect([...int4.scales]).toEqual([Math.fround(0.2)])
    expect(int4.zeroPoints).toBeNull()
  })

  it('quantizes §6.2 against the scale as bf16 stores it', () => {
    // The library's own codes are 0,-2,4,…: it divides in bf16, where 3.4927 becomes 3.5 and then 4. Ours divide in f32.
    expect(stored(EXAMPLE, 1, group(4, 8), 'BF16')).toEqual({ packed: '682BC8F5', scale: '4D3E' })
    expect([...quantize(EXAMPLE, group(4, 8), 'BF16').codes]).toEqual([0, -2, 3, -6, 0, 4, -3, 7])
    // Here both arithmetics agree, so these are the library's bytes: word F4C70B58, scale 0.1806640625, zero point −1 as word 00000007.
    expect(stored(EXAMPLE, 1, group(4, 8, false), 'BF16')).toEqual({ packed: '580BC7F4', scale: '393E', zeroPoint: '07000000' })
    // Offset-binary bytes of 8,-30,59,-102,4,76,-51,127.
    expect(stored(EXAMPLE, 1, CHANNEL_8, 'BF16')).toEqual({ packed: '8862BB1A84CC4DFF', scale: '413C' })
    expect([...quantize(EXAMPLE, CHANNEL_8, 'BF16').codes]).toEqual([8, -30, 59, -102, 4, 76, -51, 127])
  })

  it('finds the signed zero points of §6.2', () => {
    const grid = integerGrid(group(4, 8, false), 'F32')
    const found = [
      [0, 1.0],
      [-1, 0],
      [-1, 1],
      [-0.3, 1.2],
    ].map(([lo, hi]) => {
      const scale = scaleOfRange(Math.fround(lo!), Math.fround(hi!), grid)
      return [scale, zeroPointOfRange(Math.fround(lo!), scale, grid)]
    })
    expect(found).toEqual([
      [Math.fround(0.06666667), -8],
      [Math.fround(0.06666667), 7],
      [Math.fround(0.13333334), -1],
      [Math.fround(0.1), -5],
    ])
  })

  it('packs zero points down the rows: §5.1, last vector', () => {
    // Nine rows of two columns whose ranges give exactly the wanted zero points: w ∈ {lo, hi} with s = 1.
    const wanted = [-8, -7, 0, 7, 1, -1, 2, 3, 5]
    const values = Float32Array.from(wanted.flatMap((z) => [-8 - z, 7 - z]))
    expect(stored(values, 9, group(4, 2, false), 'F32')['zeroPoint']).toBe('10F879BA0D000000')
  })

  it('writes the shape as two I64', () => {
    expect(hex(encodeShape(8, 256))).toBe('08000000000000000001000000000000')
  })
})

describe('rounding rules', () => {
  it('rounds ties to even, away from nothing', () => {
    expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999999999999996].map((x) => roundHalfEven(x) + 0)).toEqual([-2, -2, 0, 0, 2, 2, 2])
    // s = 1 in each case, so weights are ties themselves; 7.5 clamps to 7, −7.5 goes to −8.
    const ties = Float32Array.of(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 7.5, -7.5)
    expect([...quantize(ties, group(4, 8), 'F32').codes]).toEqual([0, 2, 2, 0, -2, -2, 7, -8])
  })

  it('multiplies by the reciprocal where it must divide, with the same result (seed 20261123)', () => {
    const nonZero = fc.float({ noNaN: true, noDefaultInfinity: true }).filter((x) => x !== 0)
    expect(fc.check(fc.property(nonZero, nonZero, sameQuotient), { seed: SEED, numRuns: 20_000 })).toMatchObject({ failed: false })
  })

  it('adds the zero point before rounding', () => {
    // lo −7, hi 8, s = 1, z = −1: 0.5 − 1 = −0.5 → 0, which decodes to 1; rounding first would give 0 − 1 = −1, which decodes to 0.
    const q = quantize(Float32Array.of(0.5, -7, 8, 1.5), group(4, 4, false), 'F32')
    expect([q.zeroPoints![0], ...q.codes]).toEqual([-1, 0, -8, 7, 0])
  })

  it.each(DTYPES)('replaces the scale of a zero group by epsilon of %s', (dtype) => {
    const zeros = new Float32Array(8)
    const symmetric = quantize(zeros, group(4, 8), dtype)
    expect({ scale: symmetric.scales[0], codes: [...symmetric.codes], figures: errorFigures(symmetric.error) }).toEqual({
      scale: SCALE_EPSILON[dtype],
      codes: [0, 0, 0, 0, 0, 0, 0, 0],
      figures: { sqnrDb: null, relativeError: 0, maxError: 0, cosine: 1 },
    })
    const asymmetric = quantize(zeros, group(4, 8, false), dtype, MSE)
    expect([...decode(asymmetric)]).toEqual([...zeros])
  })

  it('stores an all-equal asymmetric group exactly', () => {
    // lo = 0, s = 3/15, z = −8, every code 7.
    const q = quantize(new Float32Array(4).fill(3), group(4, 4, false), 'F32')
    expect([...decode(q)].map((x) => Math.fround(x))).toEqual([3, 3, 3, 3])
  })

  it('keeps every decoded value finite in the stored dtype at ±max', () => {
    for (const dtype of DTYPES) {
      const max = dtype === 'F16' ? 65504 : roundToDtype(dtype === 'BF16' ? 3.3895313892515355e38 : 3.4028234663852886e38, dtype)
      for (const scheme of [group(4, 4), group(4, 4, false), CHANNEL_8]) {
        for (const observer of [MINMAX, MSE]) {
          const decoded = decode(quantize(Float32Array.of(-max, max, 0, max / 2), scheme, dtype, observer))
          expect(Math.max(...decoded.map(Math.abs))).toBeLessThanOrEqual(max)
          expect(decoded[0]! / -max).toBeGreaterThan(0.85)
          expect(decoded[1]! / max).toBeGreaterThan(0.85)
        }
      }
    }
  })

  it('survives subnormals', () => {
    for (const dtype of DTYPES) {
      const tiny = dtype === 'F16' ? 2 ** -24 : dtype === 'BF16' ? 2 ** -133 : 2 ** -149
      const q = quantize(Float32Array.of(tiny, -tiny, 3 * tiny, 0), group(4, 4), dtype)
      expect(q.scales[0]).toBeGreaterThan(0)
      expect([...decode(q)].every(Number.isFinite)).toBe(true)
    }
  })
})

// Any finite f32 bit pattern as the dtype stores it: subnormals, both zeros, neighbours of max.
function weights(dtype: DenseDtype, length: number): fc.Arbitrary<Float32Array> {
  const anything = fc.float({ noNaN: true, noDefaultInfinity: true })
  const ordinary = fc.float({ noNaN: true, min: -2, max: 2 })
  return fc
    .array(fc.oneof({ weight: 4, arbitrary: ordinary }, { weight: 1, arbitrary: anything }, fc.constantFrom(0, -0)), {
      minLength: length,
      maxLength: length,
    })
    .map((list) => widenToF32(narrowFromF32(Float32Array.from(list), dtype), dtype).map((x) => (Number.isFinite(x) ? x : 0)))
}

describe('properties', () => {
  const schemes = [group(4, 8), group(4, 8, false), group(8, 8), group(8, 8, false), CHANNEL_8]
  it.each(DTYPES)('holds for any finite %s weights (seed 20261123)', (dtype) => {
    fc.assert(
      fc.property(weights(dtype, 16), fc.constantFrom(...schemes), fc.constantFrom(MINMAX, MSE), (values, scheme, observer) => {
        const q = quantize(values, scheme, dtype, observer)
        const { qmin, qmax } = integerGrid(scheme, dtype)
        const decoded = decode(q)
        const perScale = values.length / q.scales.length
        for (let i = 0; i < values.length; i++) {
          const at = Math.floor(i / perScale)
          const scale = q.scales[at]!
          const zeroPoint = q.zeroPoints?.[at] ?? 0
          expect(q.codes[i]).toBeGreaterThanOrEqual(qmin)
          expect(q.codes[i]).toBeLessThanOrEqual(qmax)
          expect(Number.isFinite(decoded[i])).toBe(true)
          expect(scale).toBe(roundToDtype(scale, dtype))
          expect(scale).toBeGreaterThan(0)
          // No other code is nearer (an exact f64 check of "nearest"), up to the f32 rounding of the quotient.
          const exact = values[i]! / scale + zeroPoint
          const nearest = Math.min(Math.max(exact, qmin), qmax)
          expect(Math.abs(q.codes[i]! - nearest)).toBeLessThanOrEqual(0.5 + 2 ** -15)
          // Zero stays zero, whatever the zero point.
          expect(values[i] !== 0 || decoded[i] === 0).toBe(true)
        }
      }),
      { seed: SEED, numRuns: 400 },
    )
  })

  it('never finds a worse scale than min-max does (seed 20261123)', () => {
    fc.assert(
      fc.property(weights('BF16', 32), fc.boolean(), fc.constantFrom(2, 2.4), (values, symmetric, norm) => {
        const scheme = group(4, 32, symmetric)
        const distance = (q: QuantizedRows): number => decode(q).reduce((sum, x, i) => sum + Math.abs(values[i]! - x) ** norm, 0)
        const plain = distance(quantize(values, scheme, 'BF16'))
        const searched = distance(quantize(values, scheme, 'BF16', { ...MSE, norm } as Observer))
        expect(searched).toBeLessThanOrEqual(plain * (1 + 1e-6))
      }),
      { seed: SEED, numRuns: 200 },
    )
  })

  it('finds the best of the grid: exhaustive search in f64', () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => Math.fround(Math.sin(i * 12.9898) * Math.exp(Math.cos(i * 78.233))))
    const scheme = group(4, 64)
    const q = quantize(values, scheme, 'BF16', MSE)
    const absmax = Math.max(...values.map(Math.abs))
    const candidates = Array.from({ length: 10 }, (_, i) => roundToDtype(Math.fround(absmax * (1 - i / 40)) / 7.5, 'BF16'))
    const errors = candidates.map((scale) =>
      values.reduce((sum, w) => sum + (w - Math.min(7, Math.max(-8, Math.round(w / scale))) * scale) ** 2, 0),
    )
    expect(q.scales[0]).toBe(candidates[errors.indexOf(Math.min(...errors))])
    expect(q.error.error).toBeCloseTo(Math.min(...errors), 8)
  })

  it('gives the same bytes whatever the blocks of rows', () => {
    const rows = 96
    const cols = 32
    const values = Float32Array.from({ length: rows * cols }, (_, i) => Math.fround(Math.sin(i * 1.37) * (1 + (i % 7))))
    const scheme = group(4, 16, false)
    const whole = encodeRows(roundToNearest(values, rows, cols, scheme, 'BF16', MSE), scheme, 'BF16').map((part) => hex(part.bytes))
    const pieces = [0, 32, 64].map((row) =>
      encodeRows(roundToNearest(values.subarray(row * cols, (row + 32) * cols), 32, cols, scheme, 'BF16', MSE), scheme, 'BF16').map(
        (part) => hex(part.bytes),
      ),
    )
    expect(pieces[0]!.map((first, i) => first + pieces[1]![i]! + pieces[2]![i]!)).toEqual(whole)
  })

  it('reports the figures that a direct computation gives', () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => Math.fround(Math.sin(i * 7.7)))
    const q = quantize(values, group(4, 32), 'BF16')
    const decoded = decode(q)
    const difference = Array.from(values, (w, i) => w - decoded[i]!)
    const figures = errorFigures(q.error)
    expect(figures.sqnrDb).toBeCloseTo(10 * Math.log10(dot(values, values) / dot(difference, difference)), 9)
    expect(figures.relativeError).toBeCloseTo(Math.sqrt(dot(difference, difference) / dot(values, values)), 12)
    expect(figures.maxError).toBe(Math.max(...difference.map(Math.abs)))
    expect(figures.cosine).toBeCloseTo(dot(values, decoded) / Math.sqrt(dot(values, values) * dot(decoded, decoded)), 12)
  })
})
