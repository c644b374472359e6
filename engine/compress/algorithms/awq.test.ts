/** AWQ's search against a plain rendering of its formulas, what it promises (never worse than plain rounding), and exact folding. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { activations, normals } from '../test/matrices.ts'
import { roundTripOf } from '../round-trip.ts'
import type { LinearStorage } from '../calibration/layer-context.ts'
import { awqCandidates, candidateFactors, clipGroups, relativeColumnMeans, searchAwqFactors } from './awq.ts'
import type { AwqCandidate, AwqTrial } from './awq.ts'
import { accumulateHessian } from './hessian-factor.ts'
import { outputError } from './matrix.ts'
import type { Matrix } from './matrix.ts'
import { smoothQuantFactors } from './smooth-quant.ts'
import { applySmoothing, multiplyColumns } from './smoothing.ts'

const SEED = 20261126
const GROUP = 16
const STORAGE: LinearStorage = {
  scheme: { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: GROUP },
  observer: { kind: 'minmax' },
}

function problem(
  seed: number,
  rows = 24,
  cols = 64,
  tokens = 300,
): { matrix: Matrix; inputs: Float32Array; gram: Float64Array; mean: Float64Array } {
  const inputs = activations(tokens, cols, seed)
  const gram = new Float64Array(cols * cols)
  accumulateHessian(gram, 0, inputs, tokens, cols)
  const mean = new Float64Array(cols)
  inputs.forEach((x, i) => (mean[i % cols]! += Math.abs(x) / tokens))
  return { matrix: { rows, cols, values: Float32Array.from(normals(rows * cols, seed + 7)) }, inputs, gram, mean }
}

/** Plain rounding's loss and the candidates', one by one, by the definition: round W·t, divide by t, and multiply by every token. */
function lossesOf({ matrix, inputs }: ReturnType<typeof problem>, candidates: readonly AwqCandidate[]): number[] {
  const { rows, cols, values } = matrix
  const roundTrip = roundTripOf(STORAGE, 'BF16', new Float32Array(cols))
  return candidates.map(({ factors }) => {
    const decoded = roundTrip(
      values.map((value, i) => value * factors[i % cols]!),
      rows,
      cols,
      factors,
    )
    const difference = decoded.map((value, i) => values[i]! - value / factors[i % cols]!)
    let sum = 0
    for (let token = 0; token < inputs.length; token += cols) {
      for (let row = 0; row < rows; row++) {
        let output = 0
        for (let c = 0; c < cols; c++) output += difference[row * cols + c]! * inputs[token + c]!
        sum += output ** 2
      }
    }
    return sum
  })
}
function least(losses: readonly number[]): number {
  return losses.indexOf(Math.min(...losses))
}

describe('AWQ', () => {
  it('measures columns and candidates as its formulas say', () => {
    const matrix: Matrix = { rows: 2, cols: 4, values: Float32Array.of(1, -2, 0, 4, 3, 3, -1, 0.5) }
    const means = relativeColumnMeans([matrix], [2])
    const expected = [(1 / 2 + 3 / 3) / 2, (2 / 2 + 3 / 3) / 2, 0.5, (4 / 4 + 0.5 / 1) / 2]
    means.forEach((mean, c) => expect(mean).toBeCloseTo(expected[c]!, 5))
    const duo = candidateFactors([4, 1, 9, 16], means, 0.5, true)
    const raw = [4, 1, 9, 16].map((x, c) => x ** 0.5 / (means[c]! ** 0.5 + 1e-4))
    const centre = Math.sqrt(Math.max(...raw) * Math.min(...raw))
    duo.forEach((factor, c) => expect(factor).toBeCloseTo(raw[c]! / centre, 10))
    expect([...candidateFactors([4, 1, 9, 16], means, 0, false)]).toEqual([1, 1, 1, 1])
  })

  it.each([true, false, 'both'] as const)('finds the candidate with the least loss (duo scaling %s)', async (duoScaling) => {
    const own = problem(31)
    const candidates = awqCandidates([own.matrix], [GROUP], own.mean, { gridPoints: 20, duoScaling })
    expect(candidates.length).toBe(20)
    const losses = lossesOf(own, candidates)
    const found = await searchAwqFactors(candidates, { losses: () => Promise.resolve(losses), judge: null })
    expect(found).toEqual({ ...candidates[least(losses)]!, loss: Math.min(...losses), plainLoss: losses[0] })
    expect(found.loss).toBeLessThan(0.95 * found.plainLoss)
  })

  it('judges only the plain scheme and the finalists of a ranking, and keeps the plain one where nothing is better', async () => {
    const own = problem(34)
    const candidates = awqCandidates([own.matrix], [GROUP], own.mean, { gridPoints: 20, duoScaling: 'both' })
    const losses = lossesOf(own, candidates)
    const judged: number[] = []
    const trial = (ranks: readonly number[], judge: (at: number) => number): AwqTrial => ({
      losses: () => Promise.resolve(ranks),
      judge: {
        finalists: 3,
        loss: (candidate) => {
          judged.push(candidates.indexOf(candidate))
          return Promise.resolve(judge(candidates.indexOf(candidate)))
        },
      },
    })
    const best = candidates[least(losses)]!
    expect(
      await searchAwqFactors(
        candidates,
        trial(losses, (at) => losses[at]!),
      ),
    ).toMatchObject(best)
    const byLoss = losses.map((_, i) => i).slice(1)
    byLoss.sort((a, b) => losses[a]! - losses[b]!)
    expect(judged).toEqual([0, ...byLoss.slice(0, 3)])
    const misled = await searchAwqFactors(
      candidates,
      trial(
        losses.map(() => NaN),
        (at) => losses[at]!,
      ),
    )
    expect(misled.loss).toBeLessThanOrEqual(misled.plainLoss)
    const rising = await searchAwqFactors(
      candidates,
      trial(losses, (at) => (at === 0 ? 1 : 2)),
    )
    expect(rising).toMatchObject({ factors: new Float64Array(64).fill(1), loss: 1 })
    const broken = await searchAwqFactors(
      candidates,
      trial(losses, () => NaN),
    )
    expect(broken.factors.every((factor) => factor === 1)).toBe(true)
  })

  it('clips groups only where their output gains from it', () => {
    const { matrix, gram, mean } = problem(33)
    // One outlier per group, on an input that hardly matters.
    for (let at = 1; at < matrix.values.length; at += GROUP) matrix.values[at] = 9
    const roundTrip = roundTripOf(STORAGE, 'BF16', mean)
    const clipped = clipGroups(matrix, GROUP, gram, roundTrip, { steps: 10, smallest: 0.5 })
    // The promise is per group, each against its own block of the Gram matrix.
    const blocks = Float64Array.from(gram, (value, i) =>
      Math.floor(Math.floor(i / 64) / GROUP) === Math.floor((i % 64) / GROUP) ? value : 0,
    )
    const plain = outputError(matrix.values, roundTrip(matrix.values, 24, 64, null), 24, 64, blocks)
    expect(outputError(matrix.values, roundTrip(clipped, 24, 64, null), 24, 64, blocks)).toBeLessThan(0.9 * plain)
    expect(clipped.every((value, i) => Math.abs(value) <= Math.abs(matrix.values[i]!))).toBe(true)
  })
})

/** y = W·(norm·x) (+ bias), in f64. */
function forward(matrix: Matrix, norm: Float32Array, x: Float32Array): number[] {
  return Array.from({ length: matrix.rows }, (_, row) =>
    Array.from({ length: matrix.cols }, (__, c) => matrix.values[row * matrix.cols + c]! * norm[c]! * x[c]!).reduce(
      (sum, value) => sum + value,
      0,
    ),
  )
}

describe('folding', () => {
  it('leaves what a norm and its readers compute unchanged, whatever the factors and however the norm is stored', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e6 }), fc.constantFrom('BF16', 'F16', 'F32'), (seed, dtype) => {
        const cols = 12
        const norm = Float32Array.from(normals(cols, seed), (value, c) => (c === 3 ? 0 : value))
        const before: Matrix = { rows: 5, cols, values: Float32Array.from(normals(5 * cols, seed + 1)) }
        const x = Float32Array.from(normals(cols, seed + 2))
        const after: Matrix = { ...before, values: before.values.slice() }
        const factors = Float64Array.from(normals(cols, seed + 3), (value) => Math.exp(2 * value))
        const weight = norm.slice()
        applySmoothing({ kind: 'norm', weight }, [after], factors, dtype)
        const found = forward(after, weight, x)
        const expected = forward(before, norm, x)
        const size = Math.max(...expected.map(Math.abs), 1)
        found.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(2e-6 * size))
      }),
      { seed: SEED, numRuns: 200 },
    )
  })

  it('leaves what two linears in a row compute unchanged, with a bias between, and touches only the named rows', () => {
    const cols = 6
    const producer: Matrix = { rows: 8, cols: 3, values: Float32Array.from(normals(24, 41)) }
    const bias = Float32Array.from(normals(8, 42))
    const reader: Matrix = { rows: 4, cols, values: Float32Array.from(normals(24, 43)) }
    const x = [0.3, -1.2, 0.7]
    const compute = (): number[] => {
      const hidden = Array.from(
        { length: 8 },
        (_, r) => bias[r]! + x.reduce((sum, value, c) => sum + value * producer.values[r * 3 + c]!, 0),
      )
      return Array.from({ length: 4 }, (_, r) => hidden.slice(2).reduce((sum, value, c) => sum + value * reader.values[r * cols + c]!, 0))
    }
    const expected = compute()
    const untouched = producer.values.slice(0, 6)
    applySmoothing({ kind: 'linear', matrix: producer, bias, firstRow: 2 }, [reader], Float64Array.of(2, 0.3, 7, 1, 0.01, 11), 'F32')
    compute().forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5))
    expect(producer.values.slice(0, 6)).toEqual(untouched)
  })

  it('refuses factors that don’t fit, and ignores impossible ones', () => {
    const matrix: Matrix = { rows: 2, cols: 2, values: Float32Array.of(1, 2, 3, 4) }
    expect(() => applySmoothing({ kind: 'norm', weight: new Float32Array(2) }, [matrix], new Float64Array(3), 'F32')).toThrow('3 factors')
    const applied = applySmoothing({ kind: 'norm', weight: Float32Array.of(1, 1) }, [matrix], Float64Array.of(NaN, Infinity), 'F32')
    expect([...applied]).toEqual([1, 1])
  })
})

/** int8 per row (channel or token) by absmax / 127.5, and back. */
function int8(values: Float32Array, width: number): Float32Array {
  return values.map((_, i) => {
    const row = values.subarray(Math.floor(i / width) * width, (Math.floor(i / width) + 1) * width)
    const scale = row.reduce((max, value) => Math.max(max, Math.abs(value)), 0) / 127.5
    return Math.max(-128, Math.min(127, Math.round(values[i]! / scale))) * scale
  })
}

describe('SmoothQuant', () => {
  it('shares the range between activations and weights', () => {
    const balance: Matrix[] = [
      { rows: 1, cols: 3, values: Float32Array.of(0.5, 0, 2) },
      { rows: 1, cols: 3, values: Float32Array.of(-1, 0, 1) },
    ]
    const half = smoothQuantFactors([16, 9, 0], balance, { strength: 0.5, algorithm: 'smoothquant' })
    expect([...half]).toEqual([4, 9, 1])
    const strong = smoothQuantFactors([16, 9, 1], balance, { strength: 0.75, algorithm: 'smoothquant' })
    expect(strong[0]).toBeCloseTo(8, 12)
    expect(strong[2]).toBeCloseTo(1 / 2 ** 0.25, 12)
    expect(smoothQuantFactors([6, 2, 0], balance, { strength: 0.5, algorithm: 'log_equalization' })[0]).toBeCloseTo(2, 12)
  })

  it('makes rounding to 8 bits lose less of a layer with outlier inputs', () => {
    const { matrix, inputs, mean } = problem(51)
    const { rows, cols } = matrix
    const maxAbs = Float64Array.from(mean, (_, c) => inputs.reduce((max, x, i) => (i % cols === c ? Math.max(max, Math.abs(x)) : max), 0))
    const error = (factors: Float64Array): number => {
      const weights: Matrix = { rows, cols, values: matrix.values.slice() }
      multiplyColumns(weights, factors)
      const x = inputs.slice(0, 40 * cols).map((value, i) => value / factors[i % cols]!)
      const [wq, xq] = [int8(weights.values, cols), int8(x, cols)]
      let sum = 0
      for (let t = 0; t < 40; t++) {
        for (let r = 0; r < rows; r++) {
          let difference = 0
          for (let c = 0; c < cols; c++)
            difference += weights.values[r * cols + c]! * x[t * cols + c]! - wq[r * cols + c]! * xq[t * cols + c]!
          sum += difference ** 2
        }
      }
      return sum
    }
    const factors = smoothQuantFactors(maxAbs, [matrix], { strength: 0.5, algorithm: 'smoothquant' })
    expect(error(factors)).toBeLessThan(0.8 * error(factors.map(() => 1)))
  })
})
