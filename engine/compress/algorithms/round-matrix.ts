/** Round to nearest for every scheme, and what a reader makes of the result: the entry for algorithms that don't care which scheme it is. */
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { Observer } from '../recipe.ts'
import { columnsPerScale, rowsPerScale } from '../scheme.ts'
import type { Scheme } from '../scheme.ts'
import { weightGrid } from '../weight-grid.ts'
import { roundToFloats } from './round-to-floats.ts'
import { roundingScratch, roundToNearest } from './round-to-nearest.ts'
import type { QuantizedRows, RoundingScratch } from './round-to-nearest.ts'

export interface RoundMatrixOptions {
  /** max |w| as `schemeNeeds` asks for it; by default that of `values`. */
  readonly weightMaximum?: number | null
  /** Needed by the observer `imatrix`; see `roundToNearest`. */
  readonly importance?: Float64Array | null
  /** Lent to integer schemes, whose result is then valid until its next use. */
  readonly scratch?: RoundingScratch
}

/** `values` is [rows, cols], finite, and a matrix that the scheme does not refuse (`refusal`). */
export function roundMatrix(
  values: Float32Array,
  rows: number,
  cols: number,
  scheme: Scheme,
  dtype: DenseDtype,
  observer: Observer,
  options: RoundMatrixOptions = {},
): QuantizedRows {
  const { weightMaximum = null, importance = null } = options
  return scheme.kind === 'packed-int'
    ? roundToNearest(values, rows, cols, scheme, dtype, observer, options.scratch ?? roundingScratch(), importance)
    : roundToFloats(values, rows, cols, scheme, dtype, observer, weightMaximum, importance)
}

/** ŵ [rows, cols] of quantized rows of any scheme, rounded to f32 as a reader does. */
export function decodeMatrix(quantized: QuantizedRows, scheme: Scheme, dtype: DenseDtype): Float32Array {
  const { rows, cols, codes, scales, zeroPoints, globalScale } = quantized
  const grid = weightGrid(scheme, dtype, globalScale ?? 1)
  const width = columnsPerScale(scheme, cols)
  const height = rowsPerScale(scheme, rows)
  const groups = Math.ceil(cols / width)
  // A float's code is the element's bits, which Int8Array hands out with a sign.
  const mask = scheme.kind === 'packed-int' ? -1 : 255
  const values = new Float32Array(rows * cols)
  for (let row = 0; row < rows; row++) {
    const firstUnit = Math.floor(row / height) * groups
    for (let group = 0; group < groups; group++) {
      const unit = firstUnit + group
      const parameters = { scale: scales[unit] as number, zeroPoint: zeroPoints === null ? 0 : (zeroPoints[unit] as number) }
      const end = Math.min(cols, (group + 1) * width)
      for (let col = group * width; col < end; col++) {
        const i = row * cols + col
        values[i] = grid.value((codes[i] as number) & mask, parameters)
      }
    }
  }
  return values
}
