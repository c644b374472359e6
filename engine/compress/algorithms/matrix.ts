/**
 * Weight matrices as algorithms hold them, and the one measure that most of them minimize: the error of a layer's output on its calibration
 * inputs, ‖(W − Ŵ)·X‖² per token, from the inputs' Gram matrix alone. Knows no schemes and no files.
 */

/** [rows, cols] row-major: rows are outputs, columns inputs. Values may be changed in place; the array stays. */
export interface Matrix {
  readonly rows: number
  readonly cols: number
  readonly values: Float32Array
}

/**
 * What a scheme makes of a matrix: quantized and dequantized again. Never changes `values`. `factors` [cols] is what its columns were
 * multiplied by for the trial, for scale searches that weigh columns by their inputs (which are divided by as much); null = nothing.
 */
export type RoundTrip = (values: Float32Array, rows: number, cols: number, factors: Float64Array | null) => Float32Array

/** Mean of x·xᵀ over tokens, [cols, cols], symmetric, both triangles filled. Only ratios matter to the algorithms here. */
export type Gram = Float32Array | Float64Array

/**
 * Multiplications above which an output error is taken from a sample of the rows: about a second on one core. The sample is every k-th row,
 * so equal matrices are judged by equal rows and the result is the same everywhere.
 */
const EXACT_MULTIPLICATIONS = 2 ** 30

/** Σ over rows of d·G·dᵀ with d = w − ŵ, in f64; the mean over tokens of ‖(W − Ŵ)x‖². Large matrices are sampled, see above. */
export function outputError(
  original: Float32Array,
  replacement: Float32Array,
  rows: number,
  cols: number,
  gram: Gram,
  maxMultiplications = EXACT_MULTIPLICATIONS,
): number {
  if (original.length !== rows * cols || replacement.length !== rows * cols || gram.length !== cols * cols) {
    throw new RangeError(`${original.length} and ${replacement.length} values and a Gram matrix of ${gram.length} for ${rows} × ${cols}`)
  }
  const stride = Math.max(1, Math.ceil((rows * cols * cols) / 2 / maxMultiplications))
  const difference = new Float64Array(cols)
  let total = 0
  let looked = 0
  for (let row = 0; row < rows; row += stride) {
    const start = row * cols
    for (let c = 0; c < cols; c++) difference[c] = (original[start + c] as number) - (replacement[start + c] as number)
    total += quadraticForm(difference, gram, cols)
    looked++
  }
  return looked === 0 ? 0 : total * (rows / looked)
}

/** d·G·dᵀ for a symmetric G, in f64. Never below 0: a Gram matrix has no negative directions, rounding has. */
export function quadraticForm(d: Float64Array, gram: Gram, cols: number): number {
  let total = 0
  for (let i = 0; i < cols; i++) {
    const own = d[i] as number
    if (own === 0) continue
    const row = i * cols
    let sum = 0
    for (let j = 0; j < i; j++) sum += (gram[row + j] as number) * (d[j] as number)
    total += own * (2 * sum + own * (gram[row + i] as number))
  }
  return Math.max(0, total)
}
