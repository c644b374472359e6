import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  asBytes,
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  f32ToF8e4m3,
  f8e4m3ToF32,
  f8e5m2ToF32,
  f8e8m0ToF32,
  findNonFinite,
  narrowFromF32,
  roundToDtype,
  widenToF32,
} from './dtypes.ts'
import { fromHex, hex } from './test/fixtures.ts'

const SEED = 20_261_123

/** Nearest of all finite values by exhaustive comparison; a tie goes to the even pattern. Independent of any bit trick. */
function nearest(value: number, decode: (bits: number) => number, patterns: readonly number[]): number {
  let best = -1
  let bestDistance = Infinity
  for (const bits of patterns) {
    const distance = Math.abs(decode(bits) - value)
    if (distance < bestDistance || (distance === bestDistance && bits % 2 === 0)) {
      best = bits
      bestDistance = distance
    }
  }
  return best
}

describe('bf16', () => {
  it('widens every pattern to the f32 with the same upper half', () => {
    const view = new DataView(new ArrayBuffer(4))
    const wrong = Array.from({ length: 65536 }, (_, bits) => bits).filter((bits) => {
      view.setUint16(0, bits)
      return !Object.is(bf16ToF32(bits), view.getFloat32(0))
    })
    expect(wrong).toEqual([])
  })

  it('narrows what it widened to the same pattern, NaN payloads aside', () => {
    const wrong = Array.from({ length: 65536 }, (_, bits) => bits).filter((bits) => {
      const back = f32ToBf16(bf16ToF32(bits))
      return Number.isNaN(bf16ToF32(bits)) ? !Number.isNaN(bf16ToF32(back)) : back !== bits
    })
    expect(wrong).toEqual([])
  })

  // By the definition: 8 significant bits, ties to even, overflow half-way beyond the largest finite value.
  it.each([
    [1.00390625, 0x3f80], // half-way, even below
    [1.01171875, 0x3f82], // half-way, even above
    [1.003906369, 0x3f81], // just above half-way
    [3.3895313892515355e38, 0x7f7f], // largest finite
    [3.4e38, 0x7f80], // rounds to infinity
    [-3.4e38, 0xff80],
    [1e-40, 0x0001], // subnormal
    [-0, 0x8000],
  ])('rounds %f to %i', (value, bits) => {
    expect(f32ToBf16(value)).toBe(bits)
  })

  it('keeps a NaN whose payload lies in the dropped half', () => {
    const bytes = Uint8Array.of(1, 0, 0x80, 0x7f)
    const values = new Float32Array(bytes.buffer)
    expect(widenToF32(narrowFromF32(values, 'BF16'), 'BF16')[0]).toBeNaN()
  })
})

describe('f16', () => {
  it('agrees with the built-in Float16Array on every pattern', () => {
    const patterns = Uint16Array.from({ length: 65536 }, (_, bits) => bits)
    const oracle = new (globalThis as unknown as { Float16Array: new (buffer: ArrayBuffer) => ArrayLike<number> }).Float16Array(
      patterns.buffer,
    )
    expect([...patterns].filter((bits) => !Object.is(f16ToF32(bits), oracle[bits]))).toEqual([])
  })

  it('agrees with Math.f16round on random f32 of every magnitude', () => {
    const f16round = (Math as unknown as { f16round: (value: number) => number }).f16round
    const any = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map((bits) => new Float32Array(Int32Array.of(bits).buffer)[0]!)
    // Around the subnormals, where a second rounding would show.
    const small = fc.float({ min: -(2 ** -13), max: 2 ** -13, noNaN: true })
    fc.assert(
      fc.property(fc.oneof(any, small), (value) => {
        expect(Object.is(f16ToF32(f32ToF16(value)), f16round(value))).toBe(true)
      }),
      { seed: SEED, numRuns: 20_000 },
    )
  })

  it.each([
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [2 ** -25 * 1.0000001, 0x0001],
    [-(2 ** -14), 0x8400],
  ])('rounds %f to %i', (value, bits) => {
    expect(f32ToF16(value)).toBe(bits)
  })
})

describe('fp8', () => {
  it('decodes the E4M3FN landmarks of the OCP specification', () => {
    const landmarks = [0x00, 0x01, 0x07, 0x08, 0x38, 0x7e, 0x80, 0xfe].map(f8e4m3ToF32)
    expect(landmarks).toEqual([0, 2 ** -9, 7 * 2 ** -9, 2 ** -6, 1, 448, -0, -448])
    expect([f8e4m3ToF32(0x7f), f8e4m3ToF32(0xff)]).toEqual([NaN, NaN])
  })

  it('narrows every finite pattern to itself', () => {
    const finite = Array.from({ length: 256 }, (_, bits) => bits).filter((bits) => (bits & 0x7f) !== 0x7f)
    expect(finite.map((bits) => f32ToF8e4m3(f8e4m3ToF32(bits)))).toEqual(finite)
  })

  it('rounds random values to the nearest, ties to even, saturating', () => {
    const patterns = Array.from({ length: 127 }, (_, bits) => bits)
    fc.assert(
      fc.property(fc.oneof(fc.float({ min: 0, max: 500, noNaN: true }), fc.float({ min: 0, max: 2 ** -5, noNaN: true })), (value) => {
        expect(f32ToF8e4m3(value)).toBe(nearest(Math.min(value, 448), f8e4m3ToF32, patterns))
      }),
      { seed: SEED, numRuns: 5000 },
    )
    expect([Infinity, -Infinity, NaN, 1e30].map(f32ToF8e4m3)).toEqual([0x7e, 0xfe, 0x7f, 0x7e])
  })

  it('decodes E5M2 and E8M0', () => {
    expect([0x01, 0x3c, 0x7b, 0x7c, 0xfc].map(f8e5m2ToF32)).toEqual([2 ** -16, 1, 57344, Infinity, -Infinity])
    expect([0, 127, 128, 254, 255].map(f8e8m0ToF32)).toEqual([2 ** -127, 1, 2, 2 ** 127, NaN])
  })
})

describe('bulk conversion', () => {
  // specs/compressed-tensors.md §6.2
  const W = [0.10009765625, -0.349609375, 0.69921875, -1.203125, 0.050048828125, 0.8984375, -0.6015625, 1.5]
  const W_BF16 = 'CD3DB3BE333F9ABF4D3D663F1ABFC03F'

  it('reads and writes the worked example byte for byte', () => {
    expect([...widenToF32(fromHex(W_BF16), 'BF16')]).toEqual(W)
    expect(hex(narrowFromF32(Float32Array.from(W), 'BF16'))).toBe(W_BF16)
  })

  it('writes the worked scales', () => {
    const scales = Float32Array.of(0.2001953125, 0.1806640625, 0.01177978515625, 0.0033416748046875)
    expect(hex(narrowFromF32(scales, 'BF16'))).toBe('4D3E393E413C5B3B')
    expect(roundToDtype(1.5 / 127.5, 'BF16')).toBe(0.01177978515625)
    expect(roundToDtype(1.5 / 7.5, 'BF16')).toBe(0.2001953125)
    expect(roundToDtype(1.5 / 448, 'BF16')).toBe(0.0033416748046875)
  })

  it('writes the worked fp8 codes', () => {
    expect(hex(narrowFromF32(Float32Array.of(30, -104, 208, -352, 15, 256, -176, 448), 'F8_E4M3'))).toBe('5FED75FB5778F37E')
  })

  it('equals the scalar functions at any alignment, into new or given memory', () => {
    const values = fc.array(fc.float(), { maxLength: 40 }).map((list) => Float32Array.from(list))
    fc.assert(
      fc.property(values, fc.integer({ min: 0, max: 7 }), (list, shift) => {
        for (const [dtype, size, narrow, widen] of [
          ['BF16', 2, f32ToBf16, bf16ToF32],
          ['F16', 2, f32ToF16, f16ToF32],
          ['F8_E4M3', 1, f32ToF8e4m3, f8e4m3ToF32],
        ] as const) {
          const out = new Uint8Array(shift + list.length * size).subarray(shift)
          const bytes = narrowFromF32(list, dtype, out)
          expect(bytes).toBe(out)
          expect([...narrowFromF32(list, dtype)]).toEqual([...bytes])
          const patterns = Array.from(list, narrow)
          expect([...widenToF32(bytes, dtype)]).toEqual(patterns.map(widen))
        }
      }),
      { seed: SEED },
    )
  })

  it('widens integers, and shares aligned f32 memory', () => {
    expect([...widenToF32(Uint8Array.of(0, 127, 128, 255), 'I8')]).toEqual([0, 127, -128, -1])
    expect([...widenToF32(asBytes(BigInt64Array.of(-2n, 1n << 40n)), 'I64')]).toEqual([-2, 2 ** 40])
    expect([...widenToF32(asBytes(Uint32Array.of(4294967295)), 'U32')]).toEqual([4294967296])
    expect([...widenToF32(asBytes(Int16Array.of(-5, 7)), 'I16')]).toEqual([-5, 7])
    expect([...widenToF32(asBytes(Float64Array.of(0.1)), 'F64')]).toEqual([Math.fround(0.1)])
    const values = Float32Array.of(1, 2)
    expect(widenToF32(asBytes(values), 'F32').buffer).toBe(values.buffer)
    expect(() => widenToF32(new Uint8Array(3), 'BF16')).toThrow(RangeError)
    expect(() => widenToF32(new Uint8Array(4), 'BF16', new Float32Array(3))).toThrow(RangeError)
  })
})

describe('findNonFinite', () => {
  const dtypes = ['F32', 'BF16', 'F16', 'F8_E4M3'] as const

  it.each(dtypes)('is null for finite %s', (dtype) => {
    expect(findNonFinite(narrowFromF32(Float32Array.of(0, -1, 448, 2 ** -20), dtype), dtype)).toBeNull()
  })

  it('finds the first and counts all, at odd places and unaligned', () => {
    const list = Array.from({ length: 37 }, (_, i) => i)
    fc.assert(
      fc.property(fc.subarray(list, { minLength: 1 }), fc.constantFrom(...dtypes), fc.constantFrom(0, 2, 4), (bad, dtype, shift) => {
        const values = new Float32Array(37).fill(1)
        for (const at of bad) values[at] = NaN
        const narrow = narrowFromF32(values, dtype)
        const bytes = new Uint8Array(shift + narrow.byteLength).subarray(shift)
        bytes.set(narrow)
        expect(findNonFinite(bytes, dtype)).toEqual({ count: bad.length, firstIndex: Math.min(...bad), firstValue: NaN })
      }),
      { seed: SEED },
    )
  })

  it('tells infinity, and never complains about integers', () => {
    expect(findNonFinite(narrowFromF32(Float32Array.of(1, -Infinity), 'BF16'), 'BF16')).toEqual({
      count: 1,
      firstIndex: 1,
      firstValue: -Infinity,
    })
    expect(findNonFinite(asBytes(Float64Array.of(1, Infinity)), 'F64')).toEqual({ count: 1, firstIndex: 1, firstValue: Infinity })
    expect(findNonFinite(new Uint8Array(64).fill(0xff), 'I32')).toBeNull()
  })
})
