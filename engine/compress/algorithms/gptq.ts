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
import { weightGrid } from '../weight-grid.ts'
import type { WeightGrid } from '../weight-grid.ts'
import { noError } from './error-sums.ts'
import type { HessianFactor } from './hessian-factor.ts'
import { roundToNearest, roundingScratch } from './round-to-nearest.ts'
import type { QuantizedRows } from './round-to-nearest.ts'

/** Columns whose corrections are applied at once to everything behind them; a matter of speed, not of the result. */
const BLOCK_COLUMNS = 128

export interface GptqResult extends QuantizedRows {
  /** ½·Σ ((w − ŵ)/Uᵢᵢ)² as the algorithm met it: the layer's loss up to a constant. */
  readonly loss: number
}

export interface GptqOptions {
  /** Columns whose corrections are applied at once to everything behind them. */
  readonly blockColumns?: number
  /** [rows, cols], 1 = pruned: such entries stay exactly zero, and corrections that would have reached them go on to later columns. */
  readonly mask?: Uint8Array | null
  readonly importance?: Float64Array | null
}

/**
 * Quantizes [rows, cols] `values` (finite; left as they were). `factor` belongs to inputs of `cols` columns; q, k and v share one, gate and up
 * share one.
 */
export function gptq(
  values: Float32Array,
  rows: number,
  cols: number,
  scheme: IntegerScheme,
  dtype: DenseDtype,
  observer: Observer,
  factor: HessianFactor,
  options: GptqOptions = {},
): GptqResult {
  const nearest = roundToNearest(values, rows, cols, scheme, dtype, observer, roundingScratch(), options.importance ?? null)
  return gptqOnGrid(values, nearest, { rows: 1, cols: columnsPerScale(scheme, cols) }, weightGrid(scheme, dtype), factor, options)
}

/** GPTQ with the scales of `nearest`, each of which serves a unit of `unit.rows` × `unit.cols` weights. */
export function gptqOnGrid(
  values: Float32Array,
  nearest: QuantizedRows,
  unit: { readonly rows: number; readonly cols: number },
  grid: WeightGrid,
  factor: HessianFactor,
  options: GptqOptions = {},
): GptqResult {
  const { rows, cols, scales, zeroPoints } = nearest
  if (factor.size !== cols) throw new RangeError(`The factor has ${factor.size} columns, the weight ${cols}`)
  const { blockColumns = BLOCK_COLUMNS, mask = null } = options
  const codes = new Int8Array(values.length)
  const unitsPerRow = Math.ceil(cols / unit.cols)
  const { upper, order } = factor
  const isDead = new Uint8Array(cols)
  for (const column of factor.dead) isDead[column] = 1
  const error = noError()
  const parameters = { scale: 1, zeroPoint: 0 }
  let loss = 0

  // One row at a time: rows are independent, and a row with its corrections stays in cache.
  const work = new Float64Array(cols)
  const blockErrors = new Float64Array(blockColumns)
  for (let row = 0; row < rows; row++) {
    const start = row * cols
    for (let k = 0; k < cols; k++) {
      const column = order[k] as number
      work[k] = isDead[column] === 1 ? 0 : (values[start + column] as number)
    }
    const firstUnit = Math.floor(row / unit.rows) * unitsPerRow
    for (let block = 0; block < cols; block += blockColumns) {
      const end = Math.min(block + blockColumns, cols)
      for (let k = block; k < end; k++) {
        const column = order[k] as number
        const group = firstUnit + Math.floor(column / unit.cols)
        parameters.scale = scales[group] as number
        parameters.zeroPoint = zeroPoints === null ? 0 : (zeroPoints[group] as number)
        const w = work[k] as number
        const code = grid.code(mask?.[start + column] === 1 ? 0 : w, parameters)
        codes[start + column] = code
        const decoded = grid.value(code, parameters)
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
        if (scaledError === 0) continue
        const factorRow = k * cols
        for (let j = end; j < cols; j++) work[j] = (work[j] as number) - scaledError * (upper[factorRow + j] as number)
      }
    }
  }
  return { ...nearest, codes, error, loss }
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
