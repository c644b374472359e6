/**
 * The heavy arithmetic of a calibrated layer as pure jobs over shared arrays: factor a Hessian, prune a matrix, quantize some rows of one.
 * Threads run them (worker-pool.ts), tests run them here. A job's result depends on its input alone, so rows may be split anywhere.
 */
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import { clipGroups } from '../algorithms/awq.ts'
import type { ClipOptions } from '../algorithms/awq.ts'
import { encodeRows } from '../algorithms/encode.ts'
import type { EncodedPart } from '../algorithms/encode.ts'
import { errorBetween, noError } from '../algorithms/error-sums.ts'
import type { ErrorSums } from '../algorithms/error-sums.ts'
import { gptqOnGrid } from '../algorithms/gptq.ts'
import { factorHessian } from '../algorithms/hessian-factor.ts'
import type { HessianFactor } from '../algorithms/hessian-factor.ts'
import { quadraticForm } from '../algorithms/matrix.ts'
import { pruneByScore, sparseGpt } from '../algorithms/pruning.ts'
import type { SparsityPattern } from '../algorithms/pruning.ts'
import { RECOVERY_DEFAULTS, recoverPruned } from '../algorithms/recovery.ts'
import { roundToNearest, roundingScratch } from '../algorithms/round-to-nearest.ts'
import { roundToFloats } from '../algorithms/round-to-floats.ts'
import type { QuantizedRows } from '../algorithms/round-to-nearest.ts'
import type { Observer } from '../recipe.ts'
import { roundTripOf } from '../round-trip.ts'
import { columnsPerScale, rowsPerScale, schemeNeeds } from '../scheme.ts'
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
  /** Where what a reader makes of them goes, [rows, cols]; shared. */
  readonly decoded: Float32Array
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
      readonly globalScale: number | null
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
  | ({ readonly kind: 'trial' } & TrialRows)
  | {
      /** Rows clipped group by group (AWQ's second step). */
      readonly kind: 'clip'
      readonly values: Float32Array
      readonly rows: number
      readonly cols: number
      readonly scheme: Scheme
      readonly observer: Observer
      readonly dtype: DenseDtype
      readonly meanSquare: Float32Array
      /** Of the inputs, [cols, cols]; shared. */
      readonly gram: Float32Array
      readonly options: ClipOptions
    }
  | {
      /** Σ over rows of d·G·dᵀ. */
      readonly kind: 'output-error'
      readonly differences: Float32Array
      readonly cols: number
      readonly gram: Float32Array
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

/** What a linear loses for a trial of AWQ's: some of its rows, scaled by column, rounded, scaled back. */
export interface TrialRows {
  /** The whole matrix, [rows, cols]; shared. */
  readonly values: Float32Array
  readonly rows: number
  readonly cols: number
  /** null = stays as it is. */
  readonly storage: { readonly scheme: Scheme; readonly observer: Observer } | null
  readonly dtype: DenseDtype
  /** Mean square of each input, unscaled. */
  readonly meanSquare: Float32Array
  /** Columns are multiplied by these before rounding and divided by them after; null = 1. */
  readonly factors: Float64Array | null
  /** Rows firstRow, firstRow + rowStride, … below lastRow. */
  readonly firstRow: number
  readonly lastRow: number
  readonly rowStride: number
  /** `difference`: the rows minus what rounding leaves of them. */
  readonly want: 'rounded' | 'difference'
}

export interface QuantizedPart {
  readonly kind: 'quantize'
  readonly parts: readonly EncodedPart[]
  readonly error: ErrorSums
  readonly scales: number
  readonly epsilonScales: number
}

export type ComputeResult =
  | {
      readonly kind: 'scales'
      readonly scales: Float32Array
      readonly zeroPoints: Int8Array | null
      /** NVFP4's, by which its scales are divided. */
      readonly globalScale: number | null
    }
  | ({ readonly kind: 'encode' } & Omit<QuantizedPart, 'kind'>)
  | { readonly kind: 'factor'; readonly factor: HessianFactor | null }
  | QuantizedPart
  | { readonly kind: 'prune'; readonly values: Float32Array; readonly mask: Uint8Array }
  | { readonly kind: 'trial'; readonly values: Float32Array }
  | { readonly kind: 'clip'; readonly values: Float32Array }
  | { readonly kind: 'output-error'; readonly error: number }
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
      const { scales, zeroPoints, globalScale = null } = nearestOf(job)
      return { kind: 'scales', scales: scales.slice(), zeroPoints: zeroPoints === null ? null : zeroPoints.slice(), globalScale }
    }
    case 'encode': {
      const { rows, cols, codes, scales, zeroPoints, globalScale } = job
      return { ...finish({ rows, cols, codes, scales, zeroPoints, globalScale, error: noError() }, job, true), kind: 'encode' }
    }
    case 'prune': {
      const { values, rows, cols, pattern, factor, columnNorms } = job
      const pruned =
        factor === null ? pruneByScore(values, rows, cols, columnNorms, pattern) : sparseGpt(values, rows, cols, factor, pattern)
      return { kind: 'prune', values: pruned, mask: Uint8Array.from(pruned, (value) => (value === 0 ? 1 : 0)) }
    }
    case 'trial':
      return { kind: 'trial', values: trialRows(job) }
    case 'clip': {
      const { values, rows, cols, scheme, observer, dtype, meanSquare, gram, options } = job
      const roundTrip = roundTripOf({ scheme, observer }, dtype, meanSquare)
      return { kind: 'clip', values: clipGroups({ rows, cols, values }, columnsPerScale(scheme, cols), gram, roundTrip, options) }
    }
    case 'output-error': {
      const { differences, cols, gram } = job
      let error = 0
      for (let at = 0; at < differences.length; at += cols)
        error += quadraticForm(Float64Array.from(differences.subarray(at, at + cols)), gram, cols)
      return { kind: 'output-error', error }
    }
    case 'recover': {
      const { target, pruned, mask, gram, rows, cols, dampening } = job
      return { kind: 'recover', ...recoverPruned({ rows, cols, values: target }, pruned, mask, gram, { ...RECOVERY_DEFAULTS, dampening }) }
    }
  }
}

/** [rows asked for, cols]. */
export function trialRows(job: TrialRows): Float32Array {
  const { values, cols, storage, dtype, factors, firstRow, lastRow, rowStride, want } = job
  const count = Math.max(0, Math.ceil((lastRow - firstRow) / rowStride))
  const taken = new Float32Array(count * cols)
  for (let i = 0; i < count; i++) {
    const from = (firstRow + i * rowStride) * cols
    taken.set(values.subarray(from, from + cols), i * cols)
  }
  if (storage === null) return want === 'rounded' ? taken : new Float32Array(taken.length)
  const scaled = taken.slice()
  if (factors !== null) for (let i = 0; i < scaled.length; i++) scaled[i] = (scaled[i] as number) * (factors[i % cols] as number)
  // A scale of the whole matrix is that of all its rows, whichever are asked for.
  const weightMaximum = schemeNeeds(storage.scheme).weightMaximum === null ? null : largestScaled(values, cols, factors)
  const roundTrip = roundTripOf(storage, dtype, job.meanSquare, weightMaximum)
  const decoded = roundTrip(scaled, count, cols, factors)
  const result = new Float32Array(taken.length)
  for (let i = 0; i < result.length; i++) {
    const back = factors === null ? (decoded[i] as number) : Math.fround((decoded[i] as number) * (1 / (factors[i % cols] as number)))
    result[i] = want === 'rounded' ? back : (taken[i] as number) - back
  }
  return result
}

function largestScaled(values: Float32Array, cols: number, factors: Float64Array | null): number {
  let largest = 0
  for (let i = 0; i < values.length; i++) {
    const value = Math.abs(factors === null ? (values[i] as number) : Math.fround((values[i] as number) * (factors[i % cols] as number)))
    if (value > largest) largest = value
  }
  return largest
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

function finish(quantized: QuantizedRows, { values, rows, cols, scheme, dtype, decoded }: ScaledRows, measure: boolean): QuantizedPart {
  const unit = { rows: rowsPerScale(scheme, rows), cols: columnsPerScale(scheme, cols) }
  const grid = weightGrid(scheme, dtype, quantized.globalScale ?? 1)
  decodeInto(decoded, quantized, unit, grid, scheme.kind === 'packed-int')
  return {
    kind: 'quantize',
    parts: encodeRows(quantized, scheme, dtype),
    error: measure ? errorBetween(values, decoded) : quantized.error,
    scales: quantized.scales.length,
    epsilonScales: quantized.scales.reduce((sum, scale) => sum + (scale === grid.emptyScale ? 1 : 0), 0),
  }
}

/** What a reader makes of the codes, [rows, cols]. Codes of floats are bits, kept in signed bytes. */
function decodeInto(
  values: Float32Array,
  quantized: QuantizedRows,
  unit: { readonly rows: number; readonly cols: number },
  grid: WeightGrid,
  signed: boolean,
): void {
  const { rows, cols, codes, scales, zeroPoints } = quantized
  const unitsPerRow = Math.ceil(cols / unit.cols)
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
}

function sharedCopy(values: Float64Array): Float64Array {
  const copy = new Float64Array(new SharedArrayBuffer(values.byteLength))
  copy.set(values)
  return copy
}

/** Zeros that threads can read and write without receiving them. */
export function sharedFloats(length: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(length * Float32Array.BYTES_PER_ELEMENT))
}

/** A copy that threads can read without receiving it. */
export function shared(values: Float32Array): Float32Array {
  if (values.buffer instanceof SharedArrayBuffer) return values
  const copy = sharedFloats(values.length)
  copy.set(values)
  return copy
}
