import { describe, expect, test } from 'vitest'
import { activations, normals } from '../test/matrices.ts'
import { accumulateHessian, factorHessian } from './hessian-factor.ts'
import { owlSparsities, pruneByScore, sparseGpt } from './pruning.ts'
import type { SparsityPattern } from './pruning.ts'

const SEED = 424
const TWO_OF_FOUR: SparsityPattern = { kind: 'n-of-m', prune: 2, of: 4 }
const HALF: SparsityPattern = { kind: 'unstructured', sparsity: 0.5 }
const [ROWS, COLS, TOKENS] = [12, 160, 400]

function calibration(seed: number) {
  const inputs = activations(TOKENS, COLS, seed)
  const hessian = new Float64Array(COLS * COLS)
  accumulateHessian(hessian, 0, inputs, TOKENS, COLS)
  const norms = Float64Array.from({ length: COLS }, (_, c) => Math.sqrt(hessian[c * COLS + c]!))
  return { hessian, norms, factor: factorHessian(hessian, COLS, { dampening: 0.01, orderByImportance: false })! }
}

function outputError(values: Float32Array, pruned: Float32Array, hessian: Float64Array): number {
  let total = 0
  for (let row = 0; row < ROWS; row++) {
    const d = Float64Array.from({ length: COLS }, (_, c) => values[row * COLS + c]! - pruned[row * COLS + c]!)
    for (let i = 0; i < COLS; i++) for (let j = 0; j < COLS; j++) total += d[i]! * hessian[i * COLS + j]! * d[j]!
  }
  return total
}

const zerosPerGroup = (values: Float32Array, of: number): number[] =>
  Array.from({ length: values.length / of }, (_, g) => values.subarray(g * of, (g + 1) * of).filter((value) => value === 0).length)

describe('pruning', () => {
  test('magnitude and Wanda take the lowest scores of each row, by hand', () => {
    const row = Float32Array.of(4, -1, 3, 2)
    expect([...pruneByScore(row, 1, 4, null, HALF)]).toEqual([4, 0, 3, 0])
    // |w|·norm = 4, 5, 3, 8
    expect([...pruneByScore(row, 1, 4, Float64Array.of(1, 5, 1, 4), HALF)]).toEqual([0, -1, 0, 2])
    expect([...pruneByScore(Float32Array.of(1, 2, 3, 4, 8, 7, 6, 5), 1, 8, null, TWO_OF_FOUR)]).toEqual([0, 0, 3, 4, 8, 7, 0, 0])
    // Equal scores: the earlier go.
    expect([...pruneByScore(Float32Array.of(1, 1, 1, 1), 1, 4, null, HALF)]).toEqual([0, 0, 1, 1])
  })

  test.each([1, 2, 3])('2:4 leaves exactly two of four, and SparseGPT loses less than Wanda less than magnitude (seed %i)', (seed) => {
    const values = Float32Array.from(normals(ROWS * COLS, seed))
    const { hessian, norms, factor } = calibration(seed)
    const results = [
      sparseGpt(values, ROWS, COLS, factor, TWO_OF_FOUR),
      pruneByScore(values, ROWS, COLS, norms, TWO_OF_FOUR),
      pruneByScore(values, ROWS, COLS, null, TWO_OF_FOUR),
    ]
    for (const pruned of results) expect(zerosPerGroup(pruned, 4).every((count) => count === 2)).toBe(true)
    const [sparse, wanda, magnitude] = results.map((pruned) => outputError(values, pruned, hessian))
    expect(sparse!).toBeLessThan(wanda!)
    expect(wanda!).toBeLessThan(magnitude!)
  })

  test('unstructured SparseGPT reaches its share in every block of columns', () => {
    const values = Float32Array.from(normals(ROWS * COLS, SEED))
    const { factor } = calibration(SEED)
    const pruned = sparseGpt(values, ROWS, COLS, factor, HALF)
    const zeros = (from: number, to: number): number => pruned.filter((value, i) => value === 0 && i % COLS >= from && i % COLS < to).length
    expect([zeros(0, 128), zeros(128, 160)]).toEqual([(ROWS * 128) / 2, (ROWS * 32) / 2])
  })

  test('the kept weights of SparseGPT are near the least-squares repair of its own mask', () => {
    // One pruned column: the best repair has a closed form, w − w_p/[H⁻¹]_pp · H⁻¹[:, p]; the last column of a row can't be repaired by later
    // ones, so the first is pruned here.
    const cols = 4
    const inputs = activations(60, cols, SEED)
    const hessian = new Float64Array(cols * cols)
    accumulateHessian(hessian, 0, inputs, 60, cols)
    const factor = factorHessian(hessian, cols, { dampening: 1e-9, orderByImportance: false })!
    const values = Float32Array.of(1e-3, 1, 1, 1)
    const pruned = sparseGpt(values, 1, cols, factor, { kind: 'n-of-m', prune: 1, of: 4 })
    expect(pruned[0]).toBe(0)
    const inverseAt = (i: number, j: number): number => {
      let sum = 0
      for (let k = 0; k <= Math.min(i, j); k++) sum += factor.upper[k * cols + i]! * factor.upper[k * cols + j]!
      return sum
    }
    for (let j = 1; j < cols; j++) expect(pruned[j]).toBeCloseTo(values[j]! - (values[0]! / inverseAt(0, 0)) * inverseAt(0, j), 6)
  })

  test('what cannot be is refused', () => {
    const values = new Float32Array(10)
    expect(() => pruneByScore(values, 1, 10, null, TWO_OF_FOUR)).toThrow(/not divisible/)
    expect(() => pruneByScore(values, 1, 10, null, { kind: 'unstructured', sparsity: 1 })).toThrow(/share/)
    expect(() => pruneByScore(values, 1, 10, null, { kind: 'n-of-m', prune: 4, of: 4 })).toThrow(/nothing to choose/)
    const ordered = factorHessian(Float64Array.of(1, 0, 0, 2), 2, { dampening: 0.01, orderByImportance: true })!
    expect(() => sparseGpt(Float32Array.of(1, 2), 1, 2, ordered, { kind: 'n-of-m', prune: 1, of: 2 })).toThrow(/original column order/)
  })

  test('OWL keeps the mean and prunes layers with outliers less', () => {
    const sparsities = owlSparsities([0.01, 0.05, 0.03], 0.5, 0.08)
    expect(sparsities.reduce((sum, value) => sum + value, 0) / 3).toBeCloseTo(0.5, 12)
    expect(sparsities[0]! > sparsities[2]! && sparsities[2]! > sparsities[1]!).toBe(true)
    expect(owlSparsities([0.1, 0.1], 0.6, 0.08)).toEqual([0.6, 0.6])
  })
})
