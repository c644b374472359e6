/** Rounding and encoding of every scheme: the worked examples of specs/compressed-tensors.md §6, and the rules that all codecs keep. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { f8e4m3ToF32, roundToDtype } from '../checkpoint/dtypes.ts'
import { encodeRows } from './algorithms/encode.ts'
import { roundToFloats } from './algorithms/round-to-floats.ts'
import { roundToNearest } from './algorithms/round-to-nearest.ts'
import type { QuantizedRows } from './algorithms/round-to-nearest.ts'
import { columnsPerScale, PRESET_SCHEMES, refusal, rowsPerScale, schemeName, storedTensors } from './scheme.ts'
import type { FloatScheme, Scheme } from './scheme.ts'
import { inputArgs, schemeFromArgs, weightArgs } from './scheme-args.ts'
import { nvfp4GlobalScale, weightGrid } from './weight-grid.ts'

const SEED = 20261123
const MINMAX = { kind: 'minmax' } as const
const hex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
const bf16 = (values: readonly number[]): Float32Array => Float32Array.from(values, (value) => roundToDtype(value, 'BF16'))

/** The 8 bf16 columns of §6.2. */
const EIGHT = Float32Array.of(0.10009765625, -0.349609375, 0.69921875, -1.203125, 0.050048828125, 0.8984375, -0.6015625, 1.5)
/** The 16 columns of §6.3, and the second group of a tenth of them. */
const SIXTEEN = bf16([0, 0.1001, -0.25, 0.5, -0.75, 1, 1.25, -1.5, 2, -2.5, 3, -3.5, 0.05005, -0.02002, 0.30078, 4])
const THIRTY_TWO = Float32Array.from([...SIXTEEN, ...bf16([...SIXTEEN].map((value) => value * 0.1))])

function quantize(scheme: Scheme, values: Float32Array, rows: number): QuantizedRows {
  const cols = values.length / rows
  return scheme.kind === 'packed-int'
    ? roundToNearest(values, rows, cols, scheme, 'BF16', MINMAX)
    : roundToFloats(values, rows, cols, scheme, 'BF16', MINMAX)
}

function stored(scheme: Scheme, values: Float32Array, rows = 1): string[] {
  return encodeRows(quantize(scheme, values, rows), scheme, 'BF16').map((part) => hex(part.bytes))
}

function preset(name: string): Scheme {
  return PRESET_SCHEMES[name]!
}

describe('worked examples', () => {
  test('FP8 channel (§6.2)', () => expect(stored(preset('FP8_DYNAMIC'), EIGHT)).toEqual(['5fed75fb5778f37e', '5b3b']))

  test('INT8 channel (§6.2)', () => {
    // 8, -30, 59, -102, 4, 76, -51, 127 as raw int8; scale 0.01177978515625 is 41 3C.
    expect(stored(preset('W8A8'), EIGHT)).toEqual(['08e23b9a044ccd7f', '413c'])
  })

  test('NVFP4 (§6.3)', () => {
    expect(nvfp4GlobalScale(4)).toBe(672)
    expect(stored(preset('NVFP4A16'), SIXTEEN)).toEqual(['00293ac4e5f68071', '7e'])
    expect(stored(preset('NVFP4A16'), THIRTY_TWO)[1]).toBe('7e63')
  })

  test('MXFP4 (§6.4)', () => expect(stored(preset('MXFP4'), THIRTY_TWO)).toEqual(['00182ab2c4e580610008088080918010', '7f']))

  test('MXFP8 (§6.4)', () => {
    const [codes, scales] = stored(preset('MXFP8'), THIRTY_TWO)
    expect([codes?.slice(0, 32), scales]).toEqual(['004dd860e4686aec70f274f645ba5a78', '79'])
  })
})

const EVERY: readonly (readonly [string, Scheme])[] = [
  ...Object.entries(PRESET_SCHEMES).filter(([name]) => name !== 'INT8'),
  ['W3A16 asymmetric g32', { kind: 'packed-int', bits: 3, symmetric: false, strategy: 'group', groupSize: 32 }],
  ['FP8 weight only', { kind: 'fp8', strategy: 'channel' }],
]

/** Groups of magnitudes from subnormal to near the top of bf16, zeros and repeats among them. */
const row = fc
  .tuple(
    fc.integer({ min: -120, max: 100 }),
    fc.array(fc.oneof(fc.constant(0), fc.constant(1), fc.float({ min: -1, max: 1, noNaN: true, noDefaultInfinity: true })), {
      minLength: 256,
      maxLength: 256,
    }),
  )
  .map(([exponent, values]) => bf16(values.map((value) => value * 2 ** exponent)))

describe.each(EVERY)('%s', (name, each) => {
  test(`every weight gets a nearest value of its group's grid, and no other (seed ${SEED})`, () => {
    fc.assert(
      fc.property(row, (values) => {
        const quantized = quantize(each, values, 2)
        const grid = weightGrid(each, 'BF16', quantized.globalScale ?? 1)
        const width = columnsPerScale(each, 128)
        const height = rowsPerScale(each, 2)
        const groups = Math.ceil(128 / width)
        const all = candidates(each)
        for (let i = 0; i < values.length; i += 7) {
          const unit = Math.floor(Math.floor(i / 128) / height) * groups + Math.floor((i % 128) / width)
          const parameters = { scale: quantized.scales[unit]!, zeroPoint: quantized.zeroPoints?.[unit] ?? 0 }
          const decoded = grid.value(quantized.codes[i]! & mask(each), parameters)
          const signed = each.kind === 'packed-int' ? grid.value(quantized.codes[i]!, parameters) : decoded
          const nearest = Math.min(...all.map((code) => Math.abs(grid.value(code, parameters) - values[i]!)))
          // The quotient is rounded to f32 before it is rounded to a code: near a tie either neighbour is as good to one part in 2^22.
          expect(Math.abs(signed - values[i]!)).toBeLessThanOrEqual(nearest + Math.abs(values[i]!) * 2 ** -22 + 2 ** -149)
        }
      }),
      { seed: SEED, numRuns: 20 },
    )
  })

  test('zeros stay zeros under a scale that is not 0', () => {
    const quantized = quantize(each, new Float32Array(256), 2)
    const grid = weightGrid(each, 'BF16', quantized.globalScale ?? 1)
    expect(new Set(quantized.scales)).toEqual(new Set([Math.fround(grid.emptyScale)]))
    const parameters = { scale: quantized.scales[0]!, zeroPoint: quantized.zeroPoints?.[0] ?? 0 }
    expect(quantized.codes.every((code) => grid.value(code, parameters) === 0)).toBe(true)
  })

  test('its tensors have the planned sizes', () => {
    const [rows, cols] = [160, 384]
    const parts = encodeRows(quantize(each, new Float32Array(rows * cols).fill(0.5), rows), each, 'BF16')
    const sizes = { I32: 4, I64: 8, U8: 1, I8: 1, F8_E4M3: 1, BF16: 2, F32: 4 } as const
    const planned = storedTensors(each, 'm', rows, cols, 'BF16')
    for (const { role, bytes } of parts) {
      const tensor = planned.find((candidate) => candidate.role === role)!
      expect(bytes.byteLength).toBe(tensor.shape.reduce((product, size) => product * size, sizes[tensor.dtype as keyof typeof sizes]))
    }
    expect(refusal(each, rows, cols)).toBeNull()
  })

  test('reads back from the arguments that describe it', () => {
    expect(schemeFromArgs(weightArgs(each), inputArgs(each))).toEqual(each)
  })

  test('has a name', () => expect(schemeName(each).length).toBeGreaterThan(2))
})

/** All codes of a scheme but E4M3's NaNs. */
function candidates(each: Scheme): readonly number[] {
  if (each.kind === 'packed-int') return Array.from({ length: 2 ** each.bits }, (_, i) => i - 2 ** (each.bits - 1))
  const count = mask(each) + 1
  return Array.from({ length: count }, (_, i) => i).filter((code) => count === 16 || (code & 0x7f) !== 0x7f)
}

function mask(each: Scheme): number {
  return each.kind === 'nvfp4' || each.kind === 'mxfp4' ? 15 : 255
}

test('blocks of FP8_BLOCK are 128 × 128, ragged at the edges (§6.5)', () => {
  const values = new Float32Array(200 * 256)
  values[130 * 256 + 5] = 448
  values[3] = 224
  const { scales } = quantize(preset('FP8_BLOCK'), values, 200)
  expect([...scales]).toEqual([0.5, 2 ** -7, 1, 2 ** -7])
})

test('one scale per tensor is that of the maximum it is told', () => {
  const fp8 = preset('FP8') as FloatScheme
  const { scales } = roundToFloats(Float32Array.of(1, 2, 3, 4), 2, 2, fp8, 'F32', MINMAX, 896)
  expect([...scales]).toEqual([2])
})

test('the MSE search never does worse than the full range (seed 5)', () => {
  const observer = { kind: 'mse', maxShrink: 0.25, grid: 20, norm: 2 } as const
  fc.assert(
    fc.property(row, fc.constantFrom('FP8_DYNAMIC', 'FP8_BLOCK', 'NVFP4A16', 'MXFP4A16', 'MXFP8A16'), (values, name) => {
      const each = preset(name) as FloatScheme
      const plain = roundToFloats(values, 2, 128, each, 'BF16', MINMAX).error.error
      expect(roundToFloats(values, 2, 128, each, 'BF16', observer).error.error).toBeLessThanOrEqual(plain)
    }),
    { seed: 5, numRuns: 25 },
  )
})

test('the top of a dtype decodes to finite values', () => {
  const top = roundToDtype(3.3e38, 'BF16')
  for (const name of ['FP8_DYNAMIC', 'NVFP4A16', 'W8A8']) {
    const each = preset(name)
    const quantized = quantize(each, new Float32Array(32).fill(top), 1)
    const grid = weightGrid(each, 'BF16', quantized.globalScale ?? 1)
    expect(Number.isFinite(grid.value(quantized.codes[0]! & mask(each), { scale: quantized.scales[0]!, zeroPoint: 0 }))).toBe(true)
  }
})

test('ties of E4M3 go to even mantissas, subnormals included', () => {
  const grid = weightGrid(preset('FP8_DYNAMIC'), 'F32')
  const code = (value: number): number => f8e4m3ToF32(grid.code(value, { scale: 1, zeroPoint: 0 }))
  // Halfway between 1 and 1.125, 1.125 and 1.25; between 0 and 2^-9, 2^-9 and 2^-8; beyond the largest.
  expect([1.0625, 1.1875, 2 ** -10, 1.5 * 2 ** -9, 500, -500].map(code)).toEqual([1, 1.25, 0, 2 ** -8, 448, -448])
})

test('ragged rows are refused', () => {
  expect(() => roundToFloats(new Float32Array(17), 1, 17, { kind: 'nvfp4' }, 'BF16', MINMAX)).toThrow(/groups of 16/)
  expect(refusal({ kind: 'mxfp4' }, 4, 16)).toMatch(/fewer than one group of 32/)
})
