import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Observer } from '../recipe.ts'
import { columnsPerScale, rowsPerScale } from '../scheme.ts'
import type { IntegerScheme, Scheme } from '../scheme.ts'
import { weightGrid } from '../weight-grid.ts'
import { gptq, gptqOnGrid, layerOutputError } from './gptq.ts'
import { accumulateHessian, factorHessian } from './hessian-factor.ts'
import { outputError } from './matrix.ts'
import { decodeMatrix, roundMatrix } from './round-matrix.ts'
import { roundToNearest } from './round-to-nearest.ts'
import type { QuantizedRows } from './round-to-nearest.ts'
import { activations, inverse, normals } from '../test/matrices.ts'

const SEED = 1911
const MINMAX: Observer = { kind: 'minmax' }
const W4_G8: IntegerScheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 8 }
const W4_G8_ASYMMETRIC: IntegerScheme = { ...W4_G8, symmetric: false }
const W4_CHANNEL: IntegerScheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'channel', groupSize: null }

function hessianOf(tokens: number, cols: number, seed: number): Float64Array {
  const hessian = new Float64Array(cols * cols)
  accumulateHessian(hessian, 0, activations(tokens, cols, seed), tokens, cols)
  return hessian
}

/**
 * The same result by the older formula (Optimal Brain Quantization, Frantar and Alistarh 2022): after each column, correct the rest by the
 * inverse Hessian and eliminate the column from that inverse. No Cholesky factor, no blocks. Also says how near to a rounding boundary each
 * decision was.
 */
function obq(
  values: Float32Array,
  rows: number,
  cols: number,
  scheme: IntegerScheme,
  hessian: Float64Array,
  order: Uint32Array,
  dampening: number,
) {
  const { scales, zeroPoints } = roundToNearest(values, rows, cols, scheme, 'F32', MINMAX)
  const diagonal = Array.from({ length: cols }, (_, i) => hessian[i * cols + i]!)
  const mean = diagonal.reduce((sum, value) => sum + value, 0) / cols
  const damped = Float64Array.from({ length: cols * cols }, (_, i) => {
    const [r, c] = [order[Math.floor(i / cols)]!, order[i % cols]!]
    return hessian[r * cols + c]! + (r === c ? dampening * mean : 0)
  })
  const perScale = scheme.groupSize ?? cols
  const inverseHessian = inverse(damped, cols)
  const codes = new Int8Array(values.length)
  const margins = new Float64Array(values.length)
  for (let row = 0; row < rows; row++) {
    const w = Float64Array.from({ length: cols }, (_, k) => values[row * cols + order[k]!]!)
    const left = inverseHessian.slice()
    for (let k = 0; k < cols; k++) {
      const column = order[k]!
      const group = row * (cols / perScale) + Math.floor(column / perScale)
      const [scale, zeroPoint] = [scales[group]!, zeroPoints === null ? 0 : zeroPoints[group]!]
      const exact = Math.min(7, Math.max(-8, w[k]! / scale + zeroPoint))
      const code = Math.round(exact)
      codes[row * cols + column] = code
      margins[row * cols + column] = Math.abs(Math.abs(exact - Math.trunc(exact)) - 0.5)
      const pivot = left[k * cols + k]!
      const miss = (w[k]! - (code - zeroPoint) * scale) / pivot
      for (let j = k; j < cols; j++) w[j] = w[j]! - miss * left[k * cols + j]!
      const eliminated = left.slice(k * cols, (k + 1) * cols)
      for (let i = 0; i < cols; i++)
        for (let j = 0; j < cols; j++) left[i * cols + j] = left[i * cols + j]! - (eliminated[i]! * eliminated[j]!) / pivot
    }
  }
  return { codes, margins }
}

describe('GPTQ', () => {
  test.each([
    ['group of 8', W4_G8, false],
    ['group of 8, columns by importance', W4_G8, true],
    ['asymmetric, columns by importance', W4_G8_ASYMMETRIC, true],
    ['channel', W4_CHANNEL, false],
  ] as const)(`takes the same decisions as the elimination formula: %s (seed ${SEED})`, (_, scheme, orderByImportance) => {
    const [rows, cols] = [6, 40]
    const values = Float32Array.from(normals(rows * cols, SEED))
    const hessian = hessianOf(200, cols, SEED + 7)
    const factor = factorHessian(hessian, cols, { dampening: 0.01, orderByImportance })!
    expect([factor.dampeningUsed, factor.dead]).toEqual([0.01, []])
    const result = gptq(values, rows, cols, scheme, 'F32', MINMAX, factor)
    const expected = obq(values, rows, cols, scheme, hessian, factor.order, 0.01)
    // A decision within 1e-4 of a boundary may fall either way, and everything after it in its row follows.
    const rowsDecided = Array.from({ length: rows }, (__, row) => row).filter((row) =>
      expected.margins.subarray(row * cols, (row + 1) * cols).every((margin) => margin > 1e-4),
    )
    expect(rowsDecided.length).toBeGreaterThan(rows / 2)
    for (const row of rowsDecided) {
      expect([...result.codes.subarray(row * cols, (row + 1) * cols)]).toEqual([...expected.codes.subarray(row * cols, (row + 1) * cols)])
    }
  })

  test('blocks change nothing: 300 columns cross two block borders', () => {
    const [rows, cols] = [2, 296]
    const values = Float32Array.from(normals(rows * cols, SEED))
    const hessian = hessianOf(400, cols, SEED)
    const factor = factorHessian(hessian, cols, { dampening: 0.01, orderByImportance: true })!
    const result = gptq(values, rows, cols, W4_G8, 'F32', MINMAX, factor)
    const expected = obq(values, rows, cols, W4_G8, hessian, factor.order, 0.01)
    const differing = result.codes.filter((code, i) => code !== expected.codes[i]).length
    const undecided = expected.margins.filter((margin) => margin <= 1e-4).length
    expect(differing === 0 || undecided > 0).toBe(true)
  })

  test.each([3, 4, 5])('loses less at the output than round to nearest, at least a tenth (seed %i)', (seed) => {
    const [rows, cols] = [16, 64]
    const values = Float32Array.from(normals(rows * cols, seed))
    const hessian = hessianOf(300, cols, seed)
    const nearest = layerOutputError(values, roundToNearest(values, rows, cols, W4_G8, 'BF16', MINMAX), W4_G8, hessian)
    const errors = [false, true].map((orderByImportance) => {
      const factor = factorHessian(hessian, cols, { dampening: 0.01, orderByImportance })!
      return layerOutputError(values, gptq(values, rows, cols, W4_G8, 'BF16', MINMAX, factor), W4_G8, hessian)
    })
    for (const error of errors) expect(error).toBeLessThan(0.9 * nearest)
  })

  test.each([
    ['NVFP4', { kind: 'nvfp4' }],
    ['MXFP4', { kind: 'mxfp4' }],
    ['MXFP8', { kind: 'mxfp8' }],
    ['FP8 per row', { kind: 'fp8', strategy: 'channel' }],
    ['FP8 in blocks', { kind: 'fp8', strategy: 'block' }],
    ['3 bits per row', { kind: 'packed-int', bits: 3, symmetric: true, strategy: 'channel', groupSize: null }],
  ] satisfies readonly (readonly [string, Scheme])[])('%s: never loses more at the output than round to nearest', (_, scheme) => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e6 }), fc.constantFrom(0.001, 0.01, 0.1), (seed, dampening) => {
        const [rows, cols] = [4, 64]
        const values = Float32Array.from(normals(rows * cols, seed))
        const hessian = hessianOf(150, cols, seed)
        const nearest = roundMatrix(values, rows, cols, scheme, 'BF16', MINMAX)
        const factor = factorHessian(hessian, cols, { dampening, orderByImportance: true })!
        const unit = { rows: rowsPerScale(scheme, rows), cols: columnsPerScale(scheme, cols) }
        const grid = weightGrid(scheme, 'BF16', nearest.globalScale ?? 1)
        const found = gptqOnGrid(values, nearest, unit, grid, factor)
        const loss = (quantized: QuantizedRows): number => outputError(values, decodeMatrix(quantized, scheme, 'BF16'), rows, cols, hessian)
        expect(loss(found)).toBeLessThanOrEqual(loss(nearest) * (1 + 1e-6))
      }),
      { seed: SEED, numRuns: 15 },
    )
  })

  test('inputs that are uncorrelated and equal give round to nearest, code for code', () => {
    const cols = 32
    const values = Float32Array.from(normals(8 * cols, SEED))
    const identity = Float64Array.from({ length: cols * cols }, (_, i) => Number(Math.floor(i / cols) === i % cols))
    const factor = factorHessian(identity, cols, { dampening: 0.01, orderByImportance: true })!
    const result = gptq(values, 8, cols, W4_G8, 'F32', MINMAX, factor)
    expect(result.codes).toEqual(roundToNearest(values, 8, cols, W4_G8, 'F32', MINMAX).codes)
  })

  test('columns that no input excites become 0 and are reported', () => {
    const cols = 16
    const inputs = activations(100, cols, SEED).map((value, i) => (i % cols === 3 || i % cols === 9 ? 0 : value))
    const hessian = new Float64Array(cols * cols)
    accumulateHessian(hessian, 0, inputs, 100, cols)
    const factor = factorHessian(hessian, cols, { dampening: 0.01, orderByImportance: true })!
    expect(factor.dead).toEqual([3, 9])
    const { codes } = gptq(Float32Array.from(normals(4 * cols, SEED)), 4, cols, W4_G8, 'F32', MINMAX, factor)
    expect(Array.from({ length: 4 }, (_, row) => [codes[row * cols + 3], codes[row * cols + 9]])).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
      [0, 0],
    ])
  })
})

describe('Hessian factor', () => {
  test('UᵀU is the inverse of the damped, ordered Hessian', () => {
    const n = 24
    const hessian = hessianOf(100, n, SEED)
    const { upper, order, dampeningUsed } = factorHessian(hessian, n, { dampening: 0.05, orderByImportance: true })!
    const mean = Array.from({ length: n }, (_, i) => hessian[i * n + i]!).reduce((sum, value) => sum + value, 0) / n
    let worst = 0
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        let product = 0
        for (let k = 0; k < n; k++) {
          let inverseEntry = 0
          for (let m = 0; m <= Math.min(k, j); m++) inverseEntry += upper[m * n + k]! * upper[m * n + j]!
          product += (hessian[order[i]! * n + order[k]!]! + (i === k ? dampeningUsed * mean : 0)) * inverseEntry
        }
        worst = Math.max(worst, Math.abs(product - Number(i === j)))
      }
    }
    expect(worst).toBeLessThan(1e-9)
  })

  test('fewer tokens than columns still factor; damping rises only when it must', () => {
    const n = 32
    expect(factorHessian(hessianOf(4, n, SEED), n, { dampening: 0.01, orderByImportance: false })?.dampeningUsed).toBe(0.01)
    expect(factorHessian(hessianOf(4, n, SEED), n, { dampening: 1e-15, orderByImportance: false })?.dampeningUsed).toBeGreaterThan(1e-15)
  })

  test('no tokens, or values that are not numbers, give null', () => {
    expect(factorHessian(new Float64Array(16), 4, { dampening: 0.01, orderByImportance: true })).toBeNull()
    expect(factorHessian(new Float64Array(16).fill(Number.NaN), 4, { dampening: 0.01, orderByImportance: true })).toBeNull()
  })

  test('accumulates a running mean, whatever the batches', () => {
    const n = 8
    const inputs = activations(30, n, SEED)
    const [whole, parts] = [new Float64Array(n * n), new Float64Array(n * n)]
    accumulateHessian(whole, 0, inputs, 30, n)
    accumulateHessian(parts, 0, inputs.subarray(0, 7 * n), 7, n)
    accumulateHessian(parts, 7, inputs.subarray(7 * n), 23, n)
    const direct = Float64Array.from({ length: n * n }, (_, i) => {
      let sum = 0
      for (let t = 0; t < 30; t++) sum += inputs[t * n + Math.floor(i / n)]! * inputs[t * n + (i % n)]!
      return sum / 30
    })
    for (const hessian of [whole, parts]) expect(Math.max(...hessian.map((value, i) => Math.abs(value - direct[i]!)))).toBeLessThan(1e-9)
  })
})
