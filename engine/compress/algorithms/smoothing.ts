/**
 * Moving scale between a layer's inputs and its weights without changing what the model computes: the columns of the linears that read a
 * channel are multiplied by t, what produces the channel is divided by t (specs/compression-algorithms.md §3, §4). How t is chosen is the
 * business of awq.ts and smooth-quant.ts; which modules belong together that of calibration/smoothing-mappings.ts.
 *
 * A norm is stored in the model's dtype, so its divided weight is rounded. The factor that the columns get is the one that this rounding
 * left, w / round(w / t), so that the product is exact to f32 and no channel is off by half a bf16 step.
 */
import { roundToDtype } from '../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { Matrix } from './matrix.ts'

/** No factor leaves this range: beyond it bf16 norms and f32 Gram matrices lose their meaning. */
const FACTOR_LIMIT = 2 ** 20

/** What produces the channels. */
export type SmoothSource =
  /** An RMS norm that multiplies by its weight (not by 1 + weight, as Gemma's do). */
  | { readonly kind: 'norm'; readonly weight: Float32Array }
  /** Rows [firstRow, firstRow + t.length) produce the channels: a fused q|k|v gives only v. */
  | { readonly kind: 'linear'; readonly matrix: Matrix; readonly bias: Float32Array | null; readonly firstRow: number }

/**
 * Divides the source's channels by `factors`, multiplies the columns of `balance`, all in place. `dtype` is what the source's vectors are
 * stored in. Returns the factors that were really applied, which differ from the wished ones by the rounding of a norm.
 */
export function applySmoothing(source: SmoothSource, balance: readonly Matrix[], factors: Float64Array, dtype: DenseDtype): Float64Array {
  const wrong = balance.find((matrix) => matrix.cols !== factors.length)
  if (wrong !== undefined) throw new RangeError(`${factors.length} factors for ${wrong.cols} columns`)
  const applied = source.kind === 'norm' ? divideNorm(source, factors, dtype) : divideRows(source, factors, dtype)
  for (const matrix of balance) multiplyColumns(matrix, applied)
  return applied
}

function divideNorm(source: SmoothSource & { kind: 'norm' }, factors: Float64Array, dtype: DenseDtype): Float64Array {
  const { weight } = source
  if (weight.length !== factors.length) throw new RangeError(`${factors.length} factors for a norm of ${weight.length}`)
  const applied = new Float64Array(factors.length)
  for (let c = 0; c < factors.length; c++) {
    const factor = usable(factors[c] as number)
    const before = weight[c] as number
    const stored = roundToDtype(Math.fround(before / factor), dtype)
    if (before !== 0 && (stored === 0 || !Number.isFinite(stored))) {
      // The dtype cannot hold the divided weight: this channel keeps its own.
      applied[c] = 1
      continue
    }
    // A channel that is switched off can have any factor.
    applied[c] = before === 0 ? factor : before / stored
    weight[c] = stored
  }
  return applied
}

function divideRows(source: SmoothSource & { kind: 'linear' }, factors: Float64Array, dtype: DenseDtype): Float64Array {
  const { matrix, bias, firstRow } = source
  if (firstRow + factors.length > matrix.rows) {
    throw new RangeError(`${factors.length} factors for the rows of ${matrix.rows} from ${firstRow} on`)
  }
  const applied = factors.map(usable)
  for (let i = 0; i < factors.length; i++) {
    const factor = applied[i] as number
    const start = (firstRow + i) * matrix.cols
    for (let c = start; c < start + matrix.cols; c++) matrix.values[c] = (matrix.values[c] as number) / factor
    if (bias !== null) bias[firstRow + i] = roundToDtype(Math.fround((bias[firstRow + i] as number) / factor), dtype)
  }
  return applied
}

function usable(factor: number): number {
  return factor > 1 / FACTOR_LIMIT && factor < FACTOR_LIMIT ? factor : 1
}

export function multiplyColumns(matrix: Matrix, factors: Float64Array): void {
  const { rows, cols, values } = matrix
  for (let row = 0, at = 0; row < rows; row++) {
    for (let c = 0; c < cols; c++, at++) values[at] = (values[at] as number) * (factors[c] as number)
  }
}
