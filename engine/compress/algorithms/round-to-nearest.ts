/**
 * Round to nearest: each weight becomes the code nearest to it, given its group's scale (specs/compressed-tensors.md §6.1 step 9).
 * Scales come from the group's own minimum and maximum, or from the MSE search. Rows are independent, so a matrix may be quantized in
 * any blocks of rows with the same result. Works on finite f32 values; the caller answers for that.
 */
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { Observer } from '../recipe.ts'
import { columnsPerScale } from '../scheme.ts'
import type { IntegerScheme } from '../scheme.ts'
import { noError } from './error-sums.ts'
import type { ErrorSums } from './error-sums.ts'
import { integerGrid, limitScale, roundHalfEven, scaleOfRange, zeroPointOfRange } from './integer-grid.ts'
import type { IntegerGrid } from './integer-grid.ts'
import { searchScale, shrinkFactors } from './mse-scale-search.ts'

/**
 * What every weight algorithm hands over: codes and the scales they are relative to. For integers ŵ = (code − zeroPoint)·scale in f32; for
 * floats a code is the element's bits (weight-grid.ts decodes both).
 */
export interface QuantizedRows {
  readonly rows: number
  readonly cols: number
  /** [rows, cols] */
  readonly codes: Int8Array
  /** [⌈rows / rowsPerScale⌉, ⌈cols / columnsPerScale⌉], each exactly representable in the stored dtype. */
  readonly scales: Float32Array
  /** As scales; null for a symmetric scheme. */
  readonly zeroPoints: Int8Array | null
  /** NVFP4's G; absent or null elsewhere. */
  readonly globalScale?: number | null
  readonly error: ErrorSums
}

/** Buffers that calls of one block size share, so that streaming a model allocates nothing per block. */
export interface RoundingScratch {
  codes: Int8Array
  scales: Float32Array
  zeroPoints: Int8Array
}

export function roundingScratch(): RoundingScratch {
  return { codes: new Int8Array(0), scales: new Float32Array(0), zeroPoints: new Int8Array(0) }
}

/**
 * `values` is [rows, cols] row-major, cols a multiple of the group size. The result's arrays are views of `scratch`, valid until its next
 * use. `importance` (mean square of each column's input, [cols], finite) is needed by the observer `imatrix` and ignored by the others.
 */
export function roundToNearest(
  values: Float32Array,
  rows: number,
  cols: number,
  scheme: IntegerScheme,
  dtype: DenseDtype,
  observer: Observer,
  scratch: RoundingScratch = roundingScratch(),
  importance: Float64Array | null = null,
): QuantizedRows {
  const perScale = columnsPerScale(scheme, cols)
  if (values.length !== rows * cols || cols % perScale !== 0) {
    throw new RangeError(`${values.length} values for ${rows} × ${cols} in groups of ${perScale}`)
  }
  const groups = rows * (cols / perScale)
  if (scratch.codes.length < values.length) scratch.codes = new Int8Array(values.length)
  if (scratch.scales.length < groups) scratch.scales = new Float32Array(groups)
  if (!scheme.symmetric && scratch.zeroPoints.length < groups) scratch.zeroPoints = new Int8Array(groups)
  if (observer.kind === 'imatrix' && importance?.length !== cols) {
    throw new RangeError(`The importance of ${cols} columns is needed, got that of ${importance?.length ?? 'none'}`)
  }
  const grid = integerGrid(scheme, dtype)
  const factors = observer.kind === 'minmax' ? null : shrinkFactors(observer)
  const norm = observer.kind === 'minmax' ? 0 : observer.norm
  const weights = observer.kind === 'imatrix' ? importance : null
  const error = noError()
  for (let group = 0, start = 0; group < groups; group++, start += perScale) {
    const end = start + perScale
    let lo = 0
    let hi = 0
    for (let i = start; i < end; i++) {
      const w = values[i] as number
      if (w < lo) lo = w
      else if (w > hi) hi = w
    }
    let scale: number
    let zeroPoint: number
    if (factors === null) {
      const unlimited = scaleOfRange(lo, hi, grid)
      zeroPoint = zeroPointOfRange(lo, unlimited, grid)
      scale = limitScale(unlimited, zeroPoint, grid)
    } else {
      const column = start % cols
      const found = searchScale(values, start, end, lo, hi, grid, factors, norm, weights?.subarray(column, column + perScale) ?? null)
      scale = found.scale
      zeroPoint = found.zeroPoint
    }
    scratch.scales[group] = scale
    if (!grid.symmetric) scratch.zeroPoints[group] = zeroPoint
    quantizeGroup(values, start, end, scale, zeroPoint, grid, scratch.codes, error)
  }
  return {
    rows,
    cols,
    codes: scratch.codes.subarray(0, values.length),
    scales: scratch.scales.subarray(0, groups),
    zeroPoints: scheme.symmetric ? null : scratch.zeroPoints.subarray(0, groups),
    error,
  }
}

/** Codes of values[start, end) with one scale, written to the same places of `codes`; the error of what they decode to is added to `sums`. */
export function quantizeGroup(
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  zeroPoint: number,
  grid: IntegerGrid,
  codes: Int8Array,
  sums: ErrorSums,
): void {
  const { qmin, qmax } = grid
  // A division per weight is the dearest thing here. w·(1/s) in f64 rounds to the same f32 as w/s: it is within 2^-52 of the quotient, and
  // a quotient of two f32 numbers is never nearer than 2^-49 to a midpoint of f32.
  const inverse = 1 / scale
  let source = 0
  let error = 0
  let cross = 0
  let max = sums.max
  for (let i = start; i < end; i++) {
    const w = values[i] as number
    const exact = Math.fround(Math.fround(w * inverse) + zeroPoint)
    const q = roundHalfEven(Math.min(qmax, Math.max(qmin, exact)))
    codes[i] = q
    const e = w - Math.fround((q - zeroPoint) * scale)
    source += w * w
    error += e * e
    cross += w * e
    // Math.abs, not a comparison: the sign of an error is a coin toss, and the mispredicted branches cost more than all the rest.
    const magnitude = Math.abs(e)
    if (magnitude > max) max = magnitude
  }
  sums.source += source
  sums.error += error
  sums.cross += cross
  sums.max = max
}
