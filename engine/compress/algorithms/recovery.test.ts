/** Recovery against an exact solution of the normal equations, and its promises: never worse, mask exact. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { activations, normals } from '../test/matrices.ts'
import { accumulateHessian, factorHessian } from './hessian-factor.ts'
import { outputError } from './matrix.ts'
import { pruneByScore, sparseGpt } from './pruning.ts'
import { RECOVERY_DEFAULTS, recoverPruned } from './recovery.ts'

const SEED = 20261125

function gramOf(cols: number, seed: number, tokens = 4 * cols): Float64Array {
  const gram = new Float64Array(cols * cols)
  accumulateHessian(gram, 0, activations(tokens, cols, seed), tokens, cols)
  return gram
}

/** ŵ on the kept columns by Gaussian elimination: (G_kk + λ)·x = (G·w)_k + λ·pruned_k. */
function exactRow(target: Float32Array, pruned: Float32Array, mask: Uint8Array, gram: Float64Array, ridge: number): number[] {
  const n = target.length
  const kept = [...mask.keys()].filter((c) => mask[c] === 0)
  const system = kept.map((i) => [
    ...kept.map((j) => gram[i * n + j]! + (i === j ? ridge : 0)),
    target.reduce((sum, w, j) => sum + gram[i * n + j]! * w, 0) + ridge * pruned[i]!,
  ])
  const size = kept.length
  for (let k = 0; k < size; k++) {
    const pivot = system.slice(k).reduce((best, row, i) => (Math.abs(row[k]!) > Math.abs(system[best]![k]!) ? k + i : best), k)
    ;[system[k], system[pivot]] = [system[pivot]!, system[k]!]
    for (let i = k + 1; i < size; i++) {
      const share = system[i]![k]! / system[k]![k]!
      for (let j = k; j <= size; j++) system[i]![j]! -= share * system[k]![j]!
    }
  }
  const x = Array.from({ length: size }, () => 0)
  for (let k = size - 1; k >= 0; k--) {
    x[k] = (system[k]![size]! - x.reduce((sum, value, j) => sum + (j > k ? system[k]![j]! * value : 0), 0)) / system[k]![k]!
  }
  const row = Array.from({ length: n }, () => 0)
  kept.forEach((c, i) => (row[c] = x[i]!))
  return row
}

const maskOf = (pruned: Float32Array): Uint8Array => Uint8Array.from(pruned, (value) => (value === 0 ? 1 : 0))

describe('recovery after pruning', () => {
  it('solves the masked least squares', () => {
    const [rows, cols] = [20, 24]
    const gram = gramOf(cols, 11)
    const dense = Float32Array.from(normals(rows * cols, 12))
    const pruned = pruneByScore(dense, rows, cols, null, { kind: 'n-of-m', prune: 2, of: 4 })
    const mask = maskOf(pruned)
    const dampening = 1e-3
    const mean = Array.from({ length: cols }, (_, i) => gram[i * cols + i]!).reduce((sum, value) => sum + value / cols, 0)
    const { values } = recoverPruned({ rows, cols, values: dense }, pruned, mask, gram, { dampening, iterations: 500, tolerance: 1e-12 })
    for (let row = 0; row < rows; row++) {
      const range = [row * cols, (row + 1) * cols] as const
      const exact = exactRow(dense.subarray(...range), pruned.subarray(...range), mask.subarray(...range), gram, dampening * mean)
      values.subarray(...range).forEach((value, c) => expect(value).toBeCloseTo(exact[c]!, 4))
    }
  })

  it('never raises the error of a layer and leaves every zero a zero', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 0, max: 1e6 }),
        fc.integer({ min: 1, max: 60 }),
        fc.constantFrom(0, 1e-6, 0.01, 1),
        fc.integer({ min: 0, max: 8 }),
        (rows, quads, seed, tokens, dampening, iterations) => {
          const cols = 4 * quads
          // Fewer tokens than columns too: then G has directions of zero.
          const gram = Float32Array.from(gramOf(cols, seed, tokens))
          const dense = Float32Array.from(normals(rows * cols, seed + 1))
          const pruned = pruneByScore(dense, rows, cols, null, { kind: 'n-of-m', prune: 2, of: 4 })
          const mask = maskOf(pruned)
          const { values, before, after } = recoverPruned({ rows, cols, values: dense }, pruned, mask, gram, {
            dampening,
            iterations,
            tolerance: 1e-6,
          })
          expect(after).toBeLessThanOrEqual(before)
          expect(outputError(dense, values, rows, cols, gram)).toBeLessThanOrEqual(
            outputError(dense, pruned, rows, cols, gram) * (1 + 1e-9) + 1e-9,
          )
          expect(values.every((value, i) => Number.isFinite(value) && (mask[i] === 0 || Object.is(value, 0)))).toBe(true)
        },
      ),
      { seed: SEED, numRuns: 200 },
    )
  })

  it('repairs what magnitude, Wanda and SparseGPT leave, and changes nothing where nothing is pruned', () => {
    const [rows, cols] = [32, 64]
    const gram = gramOf(cols, 21)
    const dense = Float32Array.from(normals(rows * cols, 22))
    const norms = Float64Array.from({ length: cols }, (_, i) => Math.sqrt(gram[i * cols + i]!))
    const pattern = { kind: 'n-of-m', prune: 2, of: 4 } as const
    const factor = factorHessian(gram, cols, { dampening: 0.01, orderByImportance: false })!
    const error = (values: Float32Array): number => outputError(dense, values, rows, cols, gram)
    const recovered = (pruned: Float32Array): number =>
      error(recoverPruned({ rows, cols, values: dense }, pruned, maskOf(pruned), gram, { ...RECOVERY_DEFAULTS, dampening: 0.001 }).values)
    const wanda = pruneByScore(dense, rows, cols, norms, pattern)
    const sparse = sparseGpt(dense, rows, cols, factor, pattern)
    expect(recovered(wanda)).toBeLessThan(0.5 * error(wanda))
    // SparseGPT never revisits a column that it has passed; least squares does.
    expect(recovered(sparse)).toBeLessThan(0.97 * error(sparse))
    expect(
      recoverPruned({ rows, cols, values: dense }, dense, new Uint8Array(rows * cols), gram, { ...RECOVERY_DEFAULTS, dampening: 0.001 })
        .values,
    ).toEqual(dense)
  })
})
