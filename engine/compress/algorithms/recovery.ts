/**
 * Recovery after pruning: with the mask fixed, new values for the weights that stay, so that each output row loses less on the calibration
 * inputs, min over ŵ of (w − ŵ)·G·(w − ŵ)ᵀ with ŵ zero where the mask says so (the least squares that SparseGPT approximates column by
 * column). Solved per row by conjugate gradients with a diagonal preconditioner, from the pruned weights on: every iterate is at least as
 * good as its predecessor, so stopping early never makes a layer worse. f64 sums; knows no schemes.
 */
import type { Gram, Matrix } from './matrix.ts'

export interface RecoveryOptions {
  /**
   * Share of the Gram matrix's mean diagonal that holds each weight to its pruned value. Without it, inputs that calibration hardly saw
   * would be free to take any weight.
   */
  readonly dampening: number
  /** Conjugate-gradient steps at most. */
  readonly iterations: number
  /** A row is done when its residual has fallen to this share of the first one. */
  readonly tolerance: number
}

/**
 * On 2:4-pruned matrices of 256 correlated inputs, 16 steps end within 0.1 % of what 300 reach, after Wanda and after SparseGPT alike; 4 leave
 * a tenth of the gain.
 */
export const RECOVERY_DEFAULTS: Omit<RecoveryOptions, 'dampening'> = { iterations: 16, tolerance: 1e-4 }

/** Rows solved together: each row of the Gram matrix is then read once for all of them. */
const ROWS_AT_ONCE = 16

export interface Recovered {
  /** [rows, cols], zero exactly where `mask` is 1. */
  readonly values: Float32Array
  /** Output error before and after, Σ over rows of d·G·dᵀ. */
  readonly before: number
  readonly after: number
}

/**
 * `dense` is what the layer should compute, `pruned` what is left of it, `mask` [rows, cols] 1 = pruned. A row for which rounding to f32 would
 * undo the gain keeps its pruned weights.
 */
export function recoverPruned(dense: Matrix, pruned: Float32Array, mask: Uint8Array, gram: Gram, options: RecoveryOptions): Recovered {
  const { rows, cols, values: target } = dense
  if (pruned.length !== rows * cols || mask.length !== rows * cols || target.length !== rows * cols || gram.length !== cols * cols) {
    throw new RangeError(`${pruned.length} weights, a mask of ${mask.length} and a Gram matrix of ${gram.length} for ${rows} × ${cols}`)
  }
  let mean = 0
  for (let c = 0; c < cols; c++) mean += (gram[c * cols + c] as number) / cols
  const ridge = options.dampening * mean
  const inverseDiagonal = Float64Array.from({ length: cols }, (_, c) => {
    const own = (gram[c * cols + c] as number) + ridge
    return own > 0 ? 1 / own : 0
  })
  const values = Float32Array.from(pruned, (value, i) => (mask[i] === 1 ? 0 : value))
  let before = 0
  let after = 0
  for (let row = 0; row < rows; row += ROWS_AT_ONCE) {
    const count = Math.min(ROWS_AT_ONCE, rows - row)
    const errors = recoverRows(target, values, mask, gram, inverseDiagonal, ridge, options, row, count, cols)
    before += errors.before
    after += errors.after
  }
  return { values, before, after }
}

function recoverRows(
  target: Float32Array,
  values: Float32Array,
  mask: Uint8Array,
  gram: Gram,
  inverseDiagonal: Float64Array,
  ridge: number,
  options: RecoveryOptions,
  firstRow: number,
  count: number,
  cols: number,
): { readonly before: number; readonly after: number } {
  const size = count * cols
  const at = firstRow * cols
  const start = Float64Array.from({ length: size }, (_, i) => values[at + i] as number)
  const difference = start.map((value, i) => (target[at + i] as number) - value)
  const product = new Float64Array(size)
  timesGram(difference, gram, product, count, cols)
  const errorsBefore = rowDots(difference, product, count, cols)
  // Residual of the normal equations on the weights that stay; the ridge pulls towards the start, so it adds nothing there.
  const residual = product.map((value, i) => (mask[at + i] === 1 ? 0 : value))
  const solution = start.slice()
  const direction = new Float64Array(size)
  const rho = new Float64Array(count)
  const firstNorm = new Float64Array(count)
  const active = new Uint8Array(count).fill(1)
  for (let r = 0; r < count; r++) {
    for (let c = 0; c < cols; c++) {
      const i = r * cols + c
      direction[i] = (residual[i] as number) * (inverseDiagonal[c] as number)
      rho[r] = (rho[r] as number) + (residual[i] as number) * (direction[i] as number)
    }
    firstNorm[r] = rho[r] as number
    if (!((rho[r] as number) > 0)) active[r] = 0
  }
  for (let step = 0; step < options.iterations && active.includes(1); step++) {
    timesGram(direction, gram, product, count, cols)
    for (let r = 0; r < count; r++) {
      if (active[r] === 0) continue
      const from = r * cols
      let curvature = 0
      for (let i = from; i < from + cols; i++) {
        if (mask[at + i] === 1) product[i] = 0
        else product[i] = (product[i] as number) + ridge * (direction[i] as number)
        curvature += (direction[i] as number) * (product[i] as number)
      }
      if (!(curvature > 0)) {
        active[r] = 0
        continue
      }
      const length = (rho[r] as number) / curvature
      let next = 0
      for (let i = from; i < from + cols; i++) {
        solution[i] = (solution[i] as number) + length * (direction[i] as number)
        residual[i] = (residual[i] as number) - length * (product[i] as number)
        next += (residual[i] as number) ** 2 * (inverseDiagonal[i - from] as number)
      }
      const share = next / (rho[r] as number)
      rho[r] = next
      // The preconditioned residual's square: hence the tolerance's.
      if (!(next > options.tolerance ** 2 * (firstNorm[r] as number))) active[r] = 0
      for (let i = from; i < from + cols; i++) {
        direction[i] = (residual[i] as number) * (inverseDiagonal[i - from] as number) + share * (direction[i] as number)
      }
    }
  }
  const stored = Float32Array.from(solution)
  const left = Float64Array.from(stored, (value, i) => (target[at + i] as number) - value)
  timesGram(left, gram, product, count, cols)
  const errorsAfter = rowDots(left, product, count, cols)
  let before = 0
  let after = 0
  for (let r = 0; r < count; r++) {
    const better = (errorsAfter[r] as number) <= (errorsBefore[r] as number)
    if (better) values.set(stored.subarray(r * cols, (r + 1) * cols), at + r * cols)
    before += errorsBefore[r] as number
    after += (better ? errorsAfter[r] : errorsBefore[r]) as number
  }
  return { before, after }
}

/** out = x·G for `count` rows of x, G symmetric. */
function timesGram(x: Float64Array, gram: Gram, out: Float64Array, count: number, cols: number): void {
  for (let j = 0; j < cols; j++) {
    const gramRow = j * cols
    for (let r = 0; r < count; r++) {
      const from = r * cols
      let sum = 0
      for (let c = 0; c < cols; c++) sum += (x[from + c] as number) * (gram[gramRow + c] as number)
      out[from + j] = sum
    }
  }
}

function rowDots(a: Float64Array, b: Float64Array, count: number, cols: number): Float64Array {
  const dots = new Float64Array(count)
  for (let r = 0; r < count; r++) {
    for (let i = r * cols; i < (r + 1) * cols; i++) dots[r] = (dots[r] as number) + (a[i] as number) * (b[i] as number)
  }
  return dots
}
