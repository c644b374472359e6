/**
 * The heavy arithmetic of a calibrated layer as pure jobs over shared arrays: factor a Hessian, prune a matrix, quantize some rows of one.
 * Threads run them (worker-pool.ts), tests run them here. A job's result depends on its input alone, so rows may be split anywhere.
 */
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import { encodeRows } from '../algorithms/encode.ts'
import type { EncodedPart } from '../algorithms/encode.ts'
import { errorBetween, noError } from '../algorithms/error-sums.ts'
import type { ErrorSums } from '../algorithms/error-sums.ts'
import { gptqOnGrid } from '../algorithms/gptq.ts'
import { factorHessian } from '../algorithms/hessian-factor.ts'
import type { HessianFactor } from '../algorithms/hessian-factor.ts'
import { pruneByScore, sparseGpt } from '../algorithms/pruning.ts'
import type { SparsityPattern } from '../algorithms/pruning.ts'
import { RECOVERY_DEFAULTS, recoverPruned } from '../algorithms/recovery.ts'
import { roundToNearest, roundingScratch } from '../algorithms/round-to-nearest.ts'
import { roundToFloats } from '../algorithms/round-to-floats.ts'
import type { QuantizedRows } from '../algorithms/round-to-nearest.ts'
import type { Observer } from '../recipe.ts'
import { columnsPerScale, rowsPerScale } from '../scheme.ts'
import { weightGrid } from '../weight-grid.ts'
import type { WeightGrid } from '../weight-grid.ts'
import type { Scheme } from '../scheme.ts'

/** Rows of a matrix and what they are to be stored as. */
export interface ScaledRows {
  /** The rows at hand, [rows, cols]; shared. */
  readonly values: Float32Array
  readonly rows: number
  readonly cols: number
  readonly scheme: Scheme
  readonly dtype: DenseDtype
  readonly observer: Observer
  /** Mean square of each input, for the observer that weighs by it. */
  readonly importance: Float32Array | null
  /** max |w| as `schemeNeeds` asks for it. */
  readonly weightMaximum: number | null
}

export type ComputeJob =
  | {
      readonly kind: 'factor'
      /** Mean of x·xᵀ, [size, size]; shared. */
      readonly gram: Float32Array
      readonly size: number
      readonly dampening: number
      readonly orderByImportance: boolean
    }
  | ({
      readonly kind: 'quantize'
      /** null = round to nearest. */
      readonly factor: HessianFactor | null
      readonly blockColumns: number
      readonly mask: Uint8Array | null
    } & ScaledRows)
  | ({
      /** Scales alone, for codes that a device will choose. */
      readonly kind: 'scales'
    } & ScaledRows)
  | ({
      /** Codes that a device chose, to bytes. */
      readonly kind: 'encode'
      readonly codes: Int8Array
      readonly scales: Float32Array
      readonly zeroPoints: Int8Array | null
    } & ScaledRows)
  | {
      readonly kind: 'prune'
      readonly values: Float32Array
      readonly rows: number
      readonly cols: number
      readonly pattern: SparsityPattern
      /** SparseGPT's factor; null = by score. */
      readonly factor: HessianFactor | null
      /** Wanda: √(mean square of each input); null = magnitude. */
      readonly columnNorms: Float64Array | null
    }
  | {
      /** New values for what pruning left of some rows. */
      readonly kind: 'recover'
      /** What the rows should compute, and what is left of them, [rows, cols]. */
      readonly target: Float32Array
      readonly pruned: Float32Array
      readonly mask: Uint8Array
      /** Of the inputs, [cols, cols]; shared. */
      readonly gram: Float32Array
      readonly rows: number
      readonly cols: number
      readonly dampening: number
    }

export interface QuantizedPart {
  readonly kind: 'quantize'
  readonly parts: readonly EncodedPart[]
  /** What a reader makes of them, [rows, cols]. */
  readonly decoded: Float32Array
  readonly error: ErrorSums
  readonly scales: number
  readonly epsilonScales: number
}

export type ComputeResult =
  | { readonly kind: 'scales'; readonly scales: Float32Array; readonly zeroPoints: Int8Array | null }
  | ({ readonly kind: 'encode' } & Omit<QuantizedPart, 'kind'>)
  | { readonly kind: 'factor'; readonly factor: HessianFactor | null }
  | QuantizedPart
  | { readonly kind: 'prune'; readonly values: Float32Array; readonly mask: Uint8Array }
  | { readonly kind: 'recover'; readonly values: Float32Array; readonly before: number; readonly after: number }

export function runComputeJob(job: ComputeJob): ComputeResult {
  switch (job.kind) {
    case 'factor': {
      const { gram, size, dampening, orderByImportance } = job
      const factor = factorHessian(Float64Array.from(gram), size, { dampening, orderByImportance })
      return { kind: 'factor', factor: factor === null ? null : { ...factor, upper: sharedCopy(factor.upper) } }
    }
    case 'quantize':
      return quantize(job)
    case 'scales': {
      const { scales, zeroPoints } = nearestOf(job)
      return { kind: 'scales', scales: scales.slice(), zeroPoints: zeroPoints === null ? null : zeroPoints.slice() }
    }
    case 'encode': {
      const { rows, cols, codes, scales, zeroPoints } = job
      return { ...finish({ rows, cols, codes, scales, zeroPoints, error: noError() }, job, true), kind: 'encode' }
    }
    case 'prune': {
      const { values, rows, cols, pattern, factor, columnNorms } = job
      const pruned =
        factor === null ? pruneByScore(values, rows, cols, columnNorms, pattern) : sparseGpt(values, rows, cols, factor, pattern)
      return { kind: 'prune', values: pruned, mask: Uint8Array.from(pruned, (value) => (value === 0 ? 1 : 0)) }
    }
    case 'recover': {
      const { target, pruned, mask, gram, rows, cols, dampening } = job
      return { kind: 'recover', ...recoverPruned({ rows, cols, values: target }, pruned, mask, gram, { ...RECOVERY_DEFAULTS, dampening }) }
    }
  }
}

function quantize(job: Extract<ComputeJob, { kind: 'quantize' }>): QuantizedPart {
  const { values, rows, cols, scheme, dtype, factor, mask } = job
  const nearest = nearestOf(job)
  if (factor === null) return finish(nearest, job, false)
  const unit = { rows: rowsPerScale(scheme, rows), cols: columnsPerScale(scheme, cols) }
  const grid = weightGrid(scheme, dtype, nearest.globalScale ?? 1)
  return finish(gptqOnGrid(values, nearest, unit, grid, factor, { blockColumns: job.blockColumns, mask }), job, false)
}

function nearestOf({ values, rows, cols, scheme, dtype, observer, ...job }: ScaledRows): QuantizedRows {
  const importance = observer.kind === 'imatrix' && job.importance !== null ? Float64Array.from(job.importance) : null
  return scheme.kind === 'packed-int'
    ? roundToNearest(values, rows, cols, scheme, dtype, observer, roundingScratch(), importance)
    : roundToFloats(values, rows, cols, scheme, dtype, observer, job.weightMaximum, importance)
}

function finish(quantized: QuantizedRows, { values, rows, cols, scheme, dtype }: ScaledRows, measure: boolean): QuantizedPart {
  const unit = { rows: rowsPerScale(scheme, rows), cols: columnsPerScale(scheme, cols) }
  const grid = weightGrid(scheme, dtype, quantized.globalScale ?? 1)
  const decoded = decode(quantized, unit, grid, scheme.kind === 'packed-int')
  return {
    kind: 'quantize',
    parts: encodeRows(quantized, scheme, dtype),
    decoded,
    error: measure ? errorBetween(values, decoded) : quantized.error,
    scales: quantized.scales.length,
    epsilonScales: quantized.scales.reduce((sum, scale) => sum + (scale === grid.emptyScale ? 1 : 0), 0),
  }
}

/** What a reader makes of the codes, [rows, cols]. Codes of floats are bits, kept in signed bytes. */
function decode(
  quantized: QuantizedRows,
  unit: { readonly rows: number; readonly cols: number },
  grid: WeightGrid,
  signed: boolean,
): Float32Array {
  const { rows, cols, codes, scales, zeroPoints } = quantized
  const unitsPerRow = Math.ceil(cols / unit.cols)
  const values = new Float32Array(codes.length)
  for (let row = 0; row < rows; row++) {
    for (let group = 0; group < unitsPerRow; group++) {
      const at = Math.floor(row / unit.rows) * unitsPerRow + group
      const parameters = { scale: scales[at] as number, zeroPoint: zeroPoints === null ? 0 : (zeroPoints[at] as number) }
      const end = row * cols + Math.min(cols, (group + 1) * unit.cols)
      for (let i = row * cols + group * unit.cols; i < end; i++) {
        const code = codes[i] as number
        values[i] = grid.value(signed ? code : code & 0xff, parameters)
      }
    }
  }
  return values
}

function sharedCopy(values: Float64Array): Float64Array {
  const copy = new Float64Array(new SharedArrayBuffer(values.byteLength))
  copy.set(values)
  return copy
}

/** A copy that threads can read without receiving it. */
export function shared(values: Float32Array): Float32Array {
  if (values.buffer instanceof SharedArrayBuffer) return values
  const copy = new Float32Array(new SharedArrayBuffer(values.byteLength))
  copy.set(values)
  return copy
}
