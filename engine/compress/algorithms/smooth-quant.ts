/**
 * SmoothQuant (Xiao et al. 2023): channel factors that share the difficulty of large activations between inputs and weights, t = max|x|^α /
 * max|w|^(1−α) (specs/compression-algorithms.md §4). LLM Compressor measures max − min of the inputs and twice max|w| of the weights
 * instead, which is the same up to one factor for all channels. Chooses factors only; smoothing.ts applies them.
 */
import type { Matrix } from './matrix.ts'

export interface SmoothQuantOptions {
  /** α in [0, 1]: 0 leaves everything to the activations, 1 to the weights. LLM Compressor's default is 0.5, its Llama examples use 0.8. */
  readonly strength: number
  readonly algorithm: 'smoothquant' | 'log_equalization'
}

/** LLM Compressor's floor. */
const SMALLEST_FACTOR = 1e-5

/** Factor per input channel of `balance`, which all read the same inputs; `maxAbs` [cols] is the largest |x| of each over calibration. */
export function smoothQuantFactors(maxAbs: ArrayLike<number>, balance: readonly Matrix[], options: SmoothQuantOptions): Float64Array {
  const { strength, algorithm } = options
  if (!(strength >= 0 && strength <= 1)) throw new RangeError(`A smoothing strength lies between 0 and 1, got ${strength}`)
  const weights = maxAbsOfColumns(balance, maxAbs.length)
  return Float64Array.from(maxAbs, (activation, c) => {
    // A channel that calibration never saw says nothing about the share it should take.
    if (!(activation > 0)) return 1
    if (algorithm === 'log_equalization') return Math.max(SMALLEST_FACTOR, activation / Math.log2(2 + activation))
    const weight = weights[c] as number
    return Math.max(SMALLEST_FACTOR, weight === 0 ? activation : activation ** strength / weight ** (1 - strength))
  })
}

/** Largest |w| of each column over the rows of all `matrices`. */
export function maxAbsOfColumns(matrices: readonly Matrix[], cols: number): Float64Array {
  const largest = new Float64Array(cols)
  for (const matrix of matrices) {
    if (matrix.cols !== cols) throw new RangeError(`A matrix of ${matrix.cols} columns among those of ${cols}`)
    for (let row = 0, at = 0; row < matrix.rows; row++) {
      for (let c = 0; c < cols; c++, at++) {
        const magnitude = Math.abs(matrix.values[at] as number)
        if (magnitude > (largest[c] as number)) largest[c] = magnitude
      }
    }
  }
  return largest
}
