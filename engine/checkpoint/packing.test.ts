import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { packColumns, packRows, packedWords, unpackColumns, unpackRows } from './packing.ts'

const SEED = 20_261_123

/** Worked vectors of specs/compressed-tensors.md §5.1, made there with the compressed-tensors library. */
const VECTORS = [
  { bits: 4, codes: [-8, -7, -1, 0, 1, 2, 6, 7, 3, -3], words: [-22444272, 91] },
  { bits: 8, codes: [-128, -1, 0, 127, 1], words: [-8356096, 129] },
  { bits: 2, codes: [-2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1], words: [-454761244, 228] },
  { bits: 3, codes: [-4, -3, -2, -1, 0, 1, 2, 3, -4, 3, -4, 3], words: [955958920, 14] },
  { bits: 5, codes: [-16, -15, -1, 0, 1, 15, 7, -8], words: [-15188960, 69] },
  { bits: 6, codes: [-32, -1, 0, 31, 5, -6], words: [-1510078528, 6] },
]

/** A row as one big integer, straight from the definition: element i at bits [i·b, i·b + b). */
function packByDefinition(codes: readonly number[], bits: number): number[] {
  let row = 0n
  for (const [i, code] of codes.entries()) row |= BigInt(code + 2 ** (bits - 1)) << BigInt(i * bits)
  return Array.from({ length: Math.ceil((codes.length * bits) / 32) }, (_, word) => Number(BigInt.asIntN(32, row >> BigInt(32 * word))))
}

const matrix = fc
  .record({ bits: fc.integer({ min: 1, max: 8 }), rows: fc.integer({ min: 0, max: 5 }), cols: fc.integer({ min: 0, max: 70 }) })
  .chain(({ bits, rows, cols }) =>
    fc
      .array(fc.integer({ min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 }), { minLength: rows * cols, maxLength: rows * cols })
      .map((codes) => ({ bits, rows, cols, codes })),
  )

describe('rows', () => {
  it.each(VECTORS)('packs and unpacks the worked $bits-bit vector', ({ bits, codes, words }) => {
    expect([...packRows(Int8Array.from(codes), 1, codes.length, bits)]).toEqual(words)
    expect([...unpackRows(Int32Array.from(words), 1, codes.length, bits)]).toEqual(codes)
  })

  it('packs the 8-column examples of §6.2', () => {
    expect(packRows(Int8Array.of(0, -2, 4, -6, 0, 4, -3, 7), 1, 8, 4)[0]! >>> 0).toBe(0xf5c82c68)
    expect(packRows(Int8Array.of(0, -3, 3, -8, -1, 4, -4, 7), 1, 8, 4)[0]! >>> 0).toBe(0xf4c70b58)
  })

  it('equals the definition for every width and shape, aligned or not', () => {
    fc.assert(
      fc.property(matrix, fc.integer({ min: 0, max: 3 }), ({ bits, rows, cols, codes }, shift) => {
        const source = new Int8Array(shift + codes.length).subarray(shift)
        source.set(codes)
        const words = packRows(source, rows, cols, bits)
        const expected = Array.from({ length: rows }, (_, row) => packByDefinition(codes.slice(row * cols, (row + 1) * cols), bits)).flat()
        expect([...words]).toEqual(expected)
        const out = new Int8Array(shift + codes.length).subarray(shift)
        expect([...unpackRows(words, rows, cols, bits, out)]).toEqual(codes)
      }),
      { seed: SEED, numRuns: 500 },
    )
  })

  it('covers the fast paths of 4 and 8 bits with whole rows', () => {
    for (const bits of [4, 8]) {
      const low = -(2 ** (bits - 1))
      const codes = Int8Array.from({ length: 4 * 64 }, (_, i) => low + ((i * 37) % 2 ** bits))
      const words = packRows(codes, 4, 64, bits)
      expect([...words]).toEqual(
        Array.from({ length: 4 }, (_, row) => packByDefinition(Array.from(codes.subarray(row * 64, row * 64 + 64)), bits)).flat(),
      )
      expect(unpackRows(words, 4, 64, bits)).toEqual(codes)
    }
  })

  it('refuses lengths and widths that do not fit', () => {
    expect(() => packRows(new Int8Array(3), 2, 2, 4)).toThrow(RangeError)
    expect(() => unpackRows(new Int32Array(1), 1, 9, 4)).toThrow(RangeError)
    expect(() => packRows(new Int8Array(4), 1, 4, 9)).toThrow(RangeError)
    expect(() => packRows(new Int8Array(4), 1, 4, 0)).toThrow(RangeError)
    expect(() => packRows(new Int8Array(4), 1, 4, 4, new Int32Array(2))).toThrow(RangeError)
  })
})

describe('columns', () => {
  it('packs and unpacks the worked zero points', () => {
    const zeroPoints = Int8Array.of(-8, -7, 0, 7, 1, -1, 2, 3, 5)
    expect([...packColumns(zeroPoints, 9, 1, 4)]).toEqual([-1166411760, 13])
    expect([...unpackColumns(Int32Array.of(-1166411760, 13), 9, 1, 4)]).toEqual([...zeroPoints])
    // §6.2: zero point -1 of a single row.
    expect([...packColumns(Int8Array.of(-1), 1, 1, 4)]).toEqual([7])
  })

  it('equals packing the transpose by rows', () => {
    fc.assert(
      fc.property(matrix, ({ bits, rows, cols, codes }) => {
        const words = packColumns(Int8Array.from(codes), rows, cols, bits)
        const perColumn = packedWords(rows, bits)
        for (let col = 0; col < cols; col++) {
          const column = Array.from({ length: rows }, (_, row) => codes[row * cols + col]!)
          expect(Array.from({ length: perColumn }, (_, word) => words[word * cols + col])).toEqual(packByDefinition(column, bits))
        }
        expect([...unpackColumns(words, rows, cols, bits)]).toEqual(codes)
      }),
      { seed: SEED, numRuns: 300 },
    )
  })
})
