/**
 * GPTQ (Frantar et al. 2022) with static groups (specs/compression-algorithms.md §2): columns are quantized one after another, and what each
 * one's rounding loses is made up for by the columns that follow, weighted by the inputs the layer really sees. Scales are those of the
 * original weights, so the file looks like round-to-nearest's and needs no group index. Codes are emitted directly: nothing is quantized
 * twice. Pure CPU arithmetic in f64; knows no calibration data beyond the factor it is given.
 */
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { Observer } from '../recipe.ts'
import { columnsPerScale } from '../scheme.ts'
import type { IntegerScheme } from '../scheme.ts'
import { noError } from './error-sums.ts'
import type { HessianFactor } from './hessian-factor.ts'
import { integerGrid, roundHalfEven } from './integer-grid.ts'
import { roundToNearest } from './round-to-nearest.ts'
import type { QuantizedRows } from './round-to-nearest.ts'

/** Columns whose corrections are applied at once to everything behind them; a matter of speed, not of the result. */
const BLOCK_COLUMNS = 128

export interface GptqResult extends QuantizedRows {
  /** ½·Σ ((w − ŵ)/Uᵢᵢ)² as the algorithm met it: the layer's loss up to a constant. */
  readonly loss: number
}

/**
 * Quantizes [rows, cols] `values` (finite; left as they were). `factor` belongs to inputs of `cols` columns; q, k and v share one, gate and up
 * share one. `importance` is needed by the observer `imatrix` only: the Hessian's diagonal.
 */
export function gptq(
  values: Float32Array,
  rows: number,
  cols: number,
  scheme: IntegerScheme,
  dtype: DenseDtype,
  observer: Observer,
  factor: HessianFactor,
  importance: Float64Array | null = null,
): GptqResult {
  if (factor.size !== cols) throw new RangeError(`The factor has ${factor.size} columns, the weight ${cols}`)
  const nearest = roundToNearest(values, rows, cols, scheme, dtype, observer, undefined, importance)
  const { scales, zeroPoints } = nearest
  const codes = new Int8Array(values.length)
  const grid = integerGrid(scheme, dtype)
  const perScale = columnsPerScale(scheme, cols)
  const groups = cols / perScale
  const { upper, order } = factor
  const dead = new Set(factor.dead)
  const error = noError()
  let loss = 0

  // One row at a time: rows are independent, and a row with its corrections stays in cache.
  const work = new Float64Array(cols)
  const blockErrors = new Float64Array(BLOCK_COLUMNS)
  for (let row = 0; row < rows; row++) {
    const start = row * cols
    for (let k = 0; k < cols; k++) {
      const column = order[k] as number
      work[k] = dead.has(column) ? 0 : (values[start + column] as number)
    }
    for (let block = 0; block < cols; block += BLOCK_COLUMNS) {
      const end = Math.min(block + BLOCK_COLUMNS, cols)
      for (let k = block; k < end; k++) {
        const column = order[k] as number
        const group = row * groups + Math.floor(column / perScale)
        const scale = scales[group] as number
        const zeroPoint = zeroPoints === null ? 0 : (zeroPoints[group] as number)
        const w = work[k] as number
        // In f32, as round-to-nearest does: an untouched weight gets the very same code, ties at the range's end included.
        const exact = Math.fround(Math.fround(w / scale) + zeroPoint)
        const code = roundHalfEven(Math.min(grid.qmax, Math.max(grid.qmin, exact)))
        codes[start + column] = code
        const decoded = Math.fround((code - zeroPoint) * scale)
        const pivot = upper[k * cols + k] as number
        const scaledError = (w - decoded) / pivot
        blockErrors[k - block] = scaledError
        loss += (scaledError * scaledError) / 2
        for (let j = k + 1; j < end; j++) work[j] = (work[j] as number) - scaledError * (upper[k * cols + j] as number)
        const source = values[start + column] as number
        const difference = source - decoded
        error.source += source * source
        error.error += difference * difference
        error.cross += source * difference
        error.max = Math.max(error.max, Math.abs(difference))
      }
      for (let k = block; k < end; k++) {
        const scaledError = blockErrors[k - block] as number
        const factorRow = k * cols
        for (let j = end; j < cols; j++) work[j] = (work[j] as number) - scaledError * (upper[factorRow + j] as number)
      }
    }
  }
  return { rows, cols, codes, scales, zeroPoints, error, loss }
}

/** The layer's output error ‖(W − Ŵ)·X‖² per token: Σ over rows of d·H·dᵀ, with H the mean of x·xᵀ. What algorithms are judged by. */
export function layerOutputError(values: Float32Array, quantized: QuantizedRows, scheme: IntegerScheme, hessian: Float64Array): number {
  const { rows, cols, codes, scales, zeroPoints } = quantized
  const perScale = columnsPerScale(scheme, cols)
  const groups = cols / perScale
  const difference = new Float64Array(cols)
  let total = 0
  for (let row = 0; row < rows; row++) {
    for (let c = 0; c < cols; c++) {
      const group = row * groups + Math.floor(c / perScale)
      const zeroPoint = zeroPoints === null ? 0 : (zeroPoints[group] as number)
      difference[c] =
        (values[row * cols + c] as number) - Math.fround(((codes[row * cols + c] as number) - zeroPoint) * (scales[group] as number))
    }
    for (let i = 0; i < cols; i++) {
      let dot = 0
      for (let j = 0; j < cols; j++) dot += (hessian[i * cols + j] as number) * (difference[j] as number)
      total += dot * (difference[i] as number)
    }
  }
  return total
}
