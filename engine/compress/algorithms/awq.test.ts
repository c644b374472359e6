/** AWQ's search against a plain rendering of its formulas, what it promises (never worse than plain rounding), and exact folding. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { activations, normals } from '../test/matrices.ts'
import { roundTripOf } from '../round-trip.ts'
import type { LinearStorage } from '../calibration/layer-context.ts'
import { candidateFactors, clipGroups, gramLoss, relativeColumnMeans, searchAwqFactors } from './awq.ts'
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
    const { matrix, gram, mean } = problem(31)
    const roundTrip = roundTripOf(STORAGE, 'BF16', mean)
    const gridPoints = 20
    const losses: number[] = []
    const loss = gramLoss([matrix], gram)
    const counted = async (weights: readonly Float32Array[]): Promise<number> => {
      const value = await loss(weights)
      losses.push(value)
      return value
    }
    const found = await searchAwqFactors([matrix], [GROUP], mean, [roundTrip], counted, { gridPoints, duoScaling })
    expect(found.loss).toBe(Math.min(...losses))
    expect(found.plainLoss).toBe(losses[0])
    expect(losses.length).toBe(gridPoints)
    // Plain rounding of the same matrix, by the definition.
    expect(found.plainLoss).toBeCloseTo(outputError(matrix.values, roundTrip(matrix.values, 24, 64, null), 24, 64, gram), 9)
    expect(found.loss).toBeLessThan(0.95 * found.plainLoss)
  })

  it('judges only the finalists of a ranking', async () => {
    const { matrix, gram, mean } = problem(34)
    const roundTrip = roundTripOf(STORAGE, 'BF16', mean)
    const loss = gramLoss([matrix], gram)
    let judged = 0
    const judge = (weights: readonly Float32Array[]): ReturnType<typeof loss> => {
      judged++
      return loss(weights)
    }
    const all = { gridPoints: 20, duoScaling: 'both' } as const
    const best = await searchAwqFactors([matrix], [GROUP], mean, [roundTrip], loss, all)
    const found = await searchAwqFactors([matrix], [GROUP], mean, [roundTrip], judge, { ...all, ranking: { loss, finalists: 3 } })
    expect(judged).toBe(4)
    expect(found).toEqual(best)
    const misled = await searchAwqFactors([matrix], [GROUP], mean, [roundTrip], loss, {
      ...all,
      ranking: { loss: () => NaN, finalists: 2 },
    })
    expect(misled.loss).toBeLessThanOrEqual(misled.plainLoss)
  })

  it('keeps factors of 1 where every candidate is worse or not finite', async () => {
    const { matrix, mean } = problem(32)
    const roundTrip = roundTripOf(STORAGE, 'BF16', mean)
    const options = { gridPoints: 5, duoScaling: true } as const
    let calls = 0
    const rising = await searchAwqFactors([matrix], [GROUP], mean, [roundTrip], () => ++calls, options)
    expect(rising.factors.every((factor) => factor === 1)).toBe(true)
    const broken = await searchAwqFactors([matrix], [GROUP], mean, [roundTrip], () => NaN, options)
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
