/**
 * The device's factorization and rounding against f64 on the processor. Every code is checked on the device's own path: given the errors of the
 * columns before it, where does f64 put the weight, and is the code the nearest one?
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend } from '../../gpu/program.ts'
import { type GridElement, hasSecondOrder, type SecondOrderBackend } from '../../gpu/second-order.ts'
import { testBackends } from '../../gpu/test/adapters.ts'
import { gpuTuning } from '../../gpu/webgpu/tuning.ts'
import { columnsPerScale, rowsPerScale } from '../scheme.ts'
import type { IntegerScheme, Scheme } from '../scheme.ts'
import { activations, normals } from '../test/matrices.ts'
import { accumulateHessian, factorHessian } from './hessian-factor.ts'
import { outputError } from './matrix.ts'
import { pruneByScore, sparseGpt } from './pruning.ts'
import { RECOVERY_DEFAULTS, recoverPruned } from './recovery.ts'
import { roundMatrix } from './round-matrix.ts'

/** Steps of the grid: nearer to a rounding boundary than this, f32 and f64 may choose differently. */
const BOUNDARY = 1e-3
const DAMPENING = 0.01

interface Case {
  readonly title: string
  readonly rows: number
  readonly cols: number
  readonly scheme: Scheme
  readonly byImportance: boolean
  readonly masked: boolean
}

const W4: IntegerScheme = { kind: 'packed-int', bits: 4, symmetric: true, strategy: 'group', groupSize: 32 }
const CASES: readonly Case[] = [
  { title: 'one block, groups', rows: 5, cols: 64, scheme: W4, byImportance: false, masked: false },
  {
    title: 'ragged columns, importance order, asymmetric',
    rows: 70,
    cols: 172,
    scheme: { ...W4, symmetric: false, strategy: 'channel', groupSize: null },
    byImportance: true,
    masked: false,
  },
  { title: 'two panels, pruned', rows: 3, cols: 608, scheme: W4, byImportance: true, masked: true },
  { title: 'NVFP4', rows: 9, cols: 96, scheme: { kind: 'nvfp4' }, byImportance: true, masked: false },
  { title: 'MXFP4, pruned', rows: 9, cols: 96, scheme: { kind: 'mxfp4' }, byImportance: false, masked: true },
  { title: 'MXFP8', rows: 5, cols: 64, scheme: { kind: 'mxfp8' }, byImportance: true, masked: false },
  { title: 'FP8 per row', rows: 5, cols: 70, scheme: { kind: 'fp8', strategy: 'channel' }, byImportance: true, masked: false },
  { title: 'FP8 in blocks', rows: 130, cols: 132, scheme: { kind: 'fp8', strategy: 'block' }, byImportance: false, masked: false },
]

/** Values that a code may stand for, before scaling, in rising order, by their codes: from the formats' definitions. */
function codeValues(scheme: Scheme): ReadonlyMap<number, number> {
  if (scheme.kind === 'packed-int') {
    const least = -(2 ** (scheme.bits - 1))
    return new Map(Array.from({ length: -2 * least }, (_, i) => [least + i, least + i]))
  }
  const fp4 = scheme.kind === 'nvfp4' || scheme.kind === 'mxfp4'
  const [exponentBits, mantissaBits, bias, last] = fp4 ? [2, 1, 1, 7] : [4, 3, 7, 126]
  const sign = 1 << (exponentBits + mantissaBits)
  const positive = Array.from({ length: last + 1 }, (_, code): readonly [number, number] => {
    const exponent = code >> mantissaBits
    const mantissa = (code & ((1 << mantissaBits) - 1)) / (1 << mantissaBits)
    return [code, exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias)]
  })
  return new Map([...positive.map(([code, value]) => [code | sign, -value] as const).toReversed(), ...positive])
}

/** R with H = R·Rᵀ in processing order, from U = R⁻¹ by back substitution: [n, n], upper triangular. */
function inverseUpper(upper: Float64Array, n: number): Float64Array {
  const out = new Float64Array(n * n)
  for (let k = 0; k < n; k++) {
    out[k * n + k] = 1 / upper[k * n + k]!
    for (let i = k - 1; i >= 0; i--) {
      let sum = 0
      for (let j = i + 1; j <= k; j++) sum += upper[i * n + j]! * out[j * n + k]!
      out[i * n + k] = -sum / upper[i * n + i]!
    }
  }
  return out
}

/** How much nearer another value would have been, in steps of the grid where the number lies; 0 for the nearest. */
function beyondNearest(x: number, chosen: number, values: ReadonlyMap<number, number>): number {
  let nearest = Infinity
  let step = Infinity
  for (const value of values.values()) {
    nearest = Math.min(nearest, Math.abs(value - x))
    if (value !== chosen) step = Math.min(step, Math.abs(value - chosen))
  }
  return (Math.abs(chosen - x) - nearest) / 2 / step
}

async function worstDecision(backend: SecondOrderBackend, test: Case): Promise<{ distance: number; loss: number; expectedLoss: number }> {
  const { rows, cols, scheme } = test
  const hessian = new Float64Array(cols * cols)
  accumulateHessian(hessian, 0, activations(2 * cols, cols, cols), 2 * cols, cols)
  // A column that no input reaches.
  for (let i = 0; i < cols; i++) hessian[i * cols + 3] = hessian[3 * cols + i] = 0
  const weight = Float32Array.from(normals(rows * cols, 7), (value) => value * 0.05)
  const mask = test.masked ? Uint8Array.from(normals(rows * cols, 9), (value) => Number(value > 0.3)) : null
  if (mask !== null) for (const [i, pruned] of mask.entries()) if (pruned === 1) weight[i] = 0
  const nearest = roundMatrix(weight, rows, cols, scheme, 'F32', { kind: 'minmax' })
  const perScale = columnsPerScale(scheme, cols)
  const groups = Math.ceil(cols / perScale)
  // One per row, as the device wants them, divided by NVFP4's common factor.
  const scaleRow = (row: number): number => Math.floor(row / rowsPerScale(scheme, rows)) * groups
  const perRow = (of: ArrayLike<number>, divisor: number): Float32Array =>
    Float32Array.from({ length: rows * groups }, (_, i) => of[scaleRow(Math.floor(i / groups)) + (i % groups)]! / divisor)
  const scales = perRow(nearest.scales, nearest.globalScale ?? 1)
  const zeros = nearest.zeroPoints === null ? null : perRow(nearest.zeroPoints, 1)
  const values = codeValues(scheme)
  const extent = 2 ** (scheme.kind === 'packed-int' ? scheme.bits - 1 : 0)
  const element: GridElement =
    scheme.kind === 'packed-int'
      ? { kind: 'integer', minimum: -extent, maximum: extent - 1 }
      : { kind: scheme.kind === 'nvfp4' || scheme.kind === 'mxfp4' ? 'e2m1' : 'e4m3' }
  using solver = await backend.factorHessian({
    columns: cols,
    source: { kind: 'host', gram: Float32Array.from(hessian) },
    dampening: DAMPENING,
    order: test.byImportance ? 'importance' : null,
  })
  if (solver === null) throw new Error('not factored')
  const factor = factorHessian(hessian, cols, { dampening: DAMPENING, orderByImportance: test.byImportance })!
  expect([...solver.order]).toEqual([...factor.order])
  expect(solver.dead).toEqual([3])
  expect(solver.dampeningUsed).toBe(DAMPENING)
  const { codes, loss } = await solver.round({ rows, weight, element, columnsPerScale: perScale, scales, zeroPoints: zeros, mask })

  const r = inverseUpper(factor.upper, cols)
  let distance = 0
  let expectedLoss = 0
  for (let row = 0; row < rows; row++) {
    const differences = new Float64Array(cols)
    for (let k = 0; k < cols; k++) {
      const column: number = solver.order[k]!
      const at = row * cols + column
      const group = row * groups + Math.floor(column / perScale)
      const own = column === 3 ? 0 : weight[at]!
      let place = own
      for (let i = 0; i < k; i++) place += (differences[i]! * r[i * cols + k]!) / r[k * cols + k]!
      const zero = zeros?.[group] ?? 0
      const code = scheme.kind === 'packed-int' ? codes[at]! : codes[at]! & 255
      const value = values.get(code)!
      const stored = (value - zero) * scales[group]!
      // A pruned weight must be stored as 0; as a distance, so that one bound holds for both kinds.
      distance = Math.max(distance, mask?.[at] === 1 ? Math.abs(stored) * 1e6 : beyondNearest(place / scales[group]! + zero, value, values))
      differences[k] = own - stored
      expectedLoss += ((place - stored) * r[k * cols + k]!) ** 2 / 2
    }
  }
  return { distance, loss, expectedLoss }
}

describe.each(await testBackends())('$name', ({ open }) => {
  let backend: Backend & SecondOrderBackend
  beforeAll(async () => {
    // Small shards, so that the matrices of these tests are cut as those of 14336 columns are.
    const opened = await open({ tuning: { ...gpuTuning(), weightShardBytes: 64 * 4 * 640 } })
    if (!hasSecondOrder(opened)) throw new Error('no second-order backend')
    backend = opened
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  it.each(CASES)('$title: every code is the nearest to where f64 moves its weight', async (test) => {
    const { distance, loss, expectedLoss } = await worstDecision(backend, test)
    expect(distance).toBeLessThanOrEqual(BOUNDARY)
    expect(Math.abs(loss / expectedLoss - 1)).toBeLessThanOrEqual(1e-3)
    expect([...backend.usage().keys()]).toEqual([])
  })

  it.each([
    [2, 4, 70, 172],
    [4, 8, 5, 600],
  ])('prunes %i of %i as f64 does where the choice is clear', async (prune, of, rows, cols) => {
    const hessian = new Float64Array(cols * cols)
    accumulateHessian(hessian, 0, activations(2 * cols, cols, 3), 2 * cols, cols)
    for (let i = 0; i < cols; i++) hessian[i * cols + 5] = hessian[5 * cols + i] = 0
    const weight = Float32Array.from(normals(rows * cols, 4), (value) => 0.05 * value)
    const source = { kind: 'host', gram: Float32Array.from(hessian) } as const
    using solver = await backend.factorHessian({ columns: cols, source, dampening: DAMPENING, order: null })
    const found = await solver!.prune({ rows, weight, prune, of })
    const factor = factorHessian(hessian, cols, { dampening: DAMPENING, orderByImportance: false })!
    const expected = sparseGpt(weight, rows, cols, factor, { kind: 'n-of-m', prune, of })
    let same = 0
    for (let row = 0; row < rows; row++) {
      const own = found.subarray(row * cols, (row + 1) * cols)
      const reference = expected.subarray(row * cols, (row + 1) * cols)
      for (let c = 0; c < cols; c += of) {
        expect(own.subarray(c, c + of).filter((value) => value === 0).length).toBeGreaterThanOrEqual(prune)
      }
      // A choice on the border that falls the other way moves all that follows in its row; few rows have one.
      if (own.some((value, c) => (value === 0) !== (reference[c] === 0))) continue
      same++
      own.forEach((value, c) => expect(Math.abs(value - reference[c]!)).toBeLessThan(2e-5))
    }
    expect(same).toBeGreaterThanOrEqual(0.9 * rows)
    const loss = (values: Float32Array): number => outputError(weight, values, rows, cols, hessian)
    expect(Math.abs(loss(found) / loss(expected) - 1)).toBeLessThan(1e-3)
  })

  it('repairs pruned rows as well as f64 does, with the mask exact', async () => {
    const [rows, cols] = [70, 172]
    const hessian = new Float64Array(cols * cols)
    accumulateHessian(hessian, 0, activations(3 * cols, cols, 6), 3 * cols, cols)
    const target = Float32Array.from(normals(rows * cols, 7), (value) => 0.05 * value)
    const pruned = pruneByScore(target, rows, cols, null, { kind: 'n-of-m', prune: 2, of: 4 })
    const mask = Uint8Array.from(pruned, (value) => Number(value === 0))
    const options = { ...RECOVERY_DEFAULTS, dampening: 1e-3 }
    const expected = recoverPruned({ rows, cols, values: target }, pruned, mask, hessian, options)
    {
      using solver = await backend.recovery(cols, Float32Array.from(hessian))
      const found = await solver.recover({ rows, target, pruned, mask, ...options })
      expect(found.values.every((value, i) => mask[i] === 0 || value === 0)).toBe(true)
      const loss = outputError(target, found.values, rows, cols, hessian)
      expect(Math.abs(loss / expected.after - 1)).toBeLessThan(1e-3)
      expect(Math.abs(found.after / loss - 1)).toBeLessThan(1e-3)
      expect(Math.abs(found.before / expected.before - 1)).toBeLessThan(1e-4)
    }
    expect([...backend.usage().keys()]).toEqual([])
  })

  it('raises the damping until a singular Hessian factors, and gives up on one that is not finite or empty', async () => {
    const columns = 70
    // Rank one: without damping every pivot after the first is rounding.
    const x = normals(columns, 5)
    const gram = Float32Array.from({ length: columns * columns }, (_, i) => x[Math.floor(i / columns)]! * x[i % columns]!)
    using solver = await backend.factorHessian({ columns, source: { kind: 'host', gram }, dampening: 1e-9, order: null })
    expect(solver?.dampeningUsed).toBeGreaterThan(1e-9)
    for (const value of [0, NaN]) {
      const bad = new Float32Array(columns * columns).fill(value)
      expect(await backend.factorHessian({ columns, source: { kind: 'host', gram: bad }, dampening: 0.01, order: null })).toBeNull()
    }
  })

  it('stops when cancelled and keeps nothing', async () => {
    const gram = Float32Array.from({ length: 64 * 64 }, (_, i) => Number(i % 65 === 0))
    const signal = AbortSignal.abort(new Error('cancelled'))
    await expect(
      backend.factorHessian({ columns: 64, source: { kind: 'host', gram }, dampening: 0.01, order: null, signal }),
    ).rejects.toThrow('cancelled')
    expect([...backend.usage().keys()]).toEqual([])
  })
})
