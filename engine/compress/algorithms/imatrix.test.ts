/** The importance-weighted scale search: what it minimizes, against trying every range by hand, and what it must leave alone. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { activations, normals } from '../test/matrices.ts'
import type { Observer } from '../recipe.ts'
import type { IntegerScheme } from '../scheme.ts'
import { layerOutputError } from './gptq.ts'
import { accumulateHessian } from './hessian-factor.ts'
import { integerGrid, roundHalfEven, scaleOfRange, zeroPointOfRange } from './integer-grid.ts'
import { roundToNearest } from './round-to-nearest.ts'

const SEED = 20261124
const IMATRIX: Observer = { kind: 'imatrix', maxShrink: 0.8, grid: 40, norm: 2 }
const MSE: Observer = { ...IMATRIX, kind: 'mse' }

function scheme(symmetric: boolean, groupSize: number | null): IntegerScheme {
  return { kind: 'packed-int', bits: 4, symmetric, strategy: groupSize === null ? 'channel' : 'group', groupSize }
}

function weighted(
  values: Float32Array,
  codes: Int8Array,
  zeroPoint: number,
  scale: number,
  importance: Float64Array,
  norm: number,
): number {
  return values.reduce((sum, w, i) => sum + importance[i]! * Math.abs(w - (codes[i]! - zeroPoint) * scale) ** norm, 0)
}

describe('importance-weighted scale search', () => {
  it.each([
    [true, 2],
    [true, 3],
    [false, 2],
    [false, 3],
  ])('finds the best of all tried ranges (symmetric %s, norm %s)', (symmetric, norm) => {
    const one = scheme(symmetric, 16)
    const grid = integerGrid(one, 'F32')
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.double({ min: -4, max: 4, noNaN: true }), fc.double({ min: 0, max: 9, noNaN: true })), {
          minLength: 16,
          maxLength: 16,
        }),
        (pairs) => {
          const values = Float32Array.from(pairs, ([w]) => w)
          const importance = Float64Array.from(pairs, ([, weight]) => weight + 1e-3)
          const found = roundToNearest(values, 1, 16, one, 'F32', { ...IMATRIX, norm }, undefined, importance)
          const error = weighted(values, found.codes, found.zeroPoints?.[0] ?? 0, found.scales[0]!, importance, norm)
          const lo = Math.min(0, ...values)
          const hi = Math.max(0, ...values)
          for (let i = 0; i < 32; i++) {
            const low = Math.fround(lo * (1 - i / 40))
            const scale = scaleOfRange(low, Math.fround(hi * (1 - i / 40)), grid)
            const zeroPoint = zeroPointOfRange(low, scale, grid)
            const codes = Int8Array.from(values, (w) =>
              roundHalfEven(Math.min(grid.qmax, Math.max(grid.qmin, Math.fround(w / scale) + zeroPoint))),
            )
            expect(error).toBeLessThanOrEqual(weighted(values, codes, zeroPoint, scale, importance, norm) * (1 + 1e-5) + 1e-12)
          }
        },
      ),
      { seed: SEED, numRuns: 200 },
    )
  })

  it.each([8, 32, null])('equals the plain search where all columns matter alike (group %s)', (groupSize) => {
    const values = Float32Array.from(normals(8 * 32, 3))
    const one = scheme(true, groupSize)
    const plain = roundToNearest(values, 8, 32, one, 'BF16', MSE)
    expect(roundToNearest(values, 8, 32, one, 'BF16', IMATRIX, undefined, new Float64Array(32).fill(7))).toEqual(plain)
    // No input at all, as for an expert that no token reached: nothing to weigh by.
    expect(roundToNearest(values, 8, 32, one, 'BF16', IMATRIX, undefined, new Float64Array(32))).toEqual(plain)
  })

  it('loses less of a layer with outlier inputs than the plain search, and refuses to guess weights', () => {
    const [rows, cols, tokens] = [24, 64, 512]
    const values = Float32Array.from(normals(rows * cols, 5))
    const inputs = activations(tokens, cols, 6)
    const hessian = new Float64Array(cols * cols)
    accumulateHessian(hessian, 0, inputs, tokens, cols)
    const importance = Float64Array.from({ length: cols }, (_, i) => hessian[i * cols + i]!)
    const one = scheme(true, 32)
    const plain = layerOutputError(values, roundToNearest(values, rows, cols, one, 'BF16', MSE), one, hessian)
    const better = layerOutputError(values, roundToNearest(values, rows, cols, one, 'BF16', IMATRIX, undefined, importance), one, hessian)
    expect(better).toBeLessThan(0.95 * plain)
    expect(() => roundToNearest(values, rows, cols, one, 'BF16', IMATRIX)).toThrow('The importance of 64 columns is needed')
  })
})
