/**
 * From the Hessian of a layer's inputs to the factor that GPTQ and SparseGPT work with: the upper triangular U with H⁻¹ = UᵀU
 * (specs/compression-algorithms.md §2). Instead of inverting and factoring twice, the Hessian with rows and columns reversed is factored
 * once: P·H·P = L·Lᵀ gives U = P·L⁻¹·P (specs/webgpu-kernels.md §g). f64 throughout. Knows no weights and no scheme.
 */

export interface FactorOptions {
  /** Damping as a share of the mean of the diagonal; GPTQ's own default is 0.01. */
  readonly dampening: number
  /** Process columns by descending diagonal (`actorder: weight`). */
  readonly orderByImportance: boolean
}

export interface HessianFactor {
  readonly size: number
  /** U, [size, size] row-major, zero below the diagonal; in processing order. */
  readonly upper: Float64Array
  /** order[k] = original column processed k-th. */
  readonly order: Uint32Array
  /** Original columns that no input ever excited: their weights can't matter and are set to 0. */
  readonly dead: readonly number[]
  /** What was needed for the factorization to succeed, ≥ the one asked for. */
  readonly dampeningUsed: number
}

/** A pivot this small against its diagonal is rounding, not information. */
const PIVOT_FLOOR = 1e-12
/** Each failure multiplies the damping; beyond a whole mean diagonal the result is round-to-nearest in all but name. */
const DAMPENING_STEP = 10
const DAMPENING_LIMIT = 1

/** L with A = L·Lᵀ, in place in the lower triangle of [n, n] `a`; false if a pivot is not clearly positive. */
function choleskyInPlace(a: Float64Array, n: number): boolean {
  for (let j = 0; j < n; j++) {
    const rowJ = j * n
    const original = a[rowJ + j] as number
    let pivot = original
    for (let k = 0; k < j; k++) pivot -= (a[rowJ + k] as number) ** 2
    if (!(pivot > PIVOT_FLOOR * original)) return false
    const root = Math.sqrt(pivot)
    a[rowJ + j] = root
    for (let i = j + 1; i < n; i++) {
      const rowI = i * n
      let sum = a[rowI + j] as number
      for (let k = 0; k < j; k++) sum -= (a[rowI + k] as number) * (a[rowJ + k] as number)
      a[rowI + j] = sum / root
    }
  }
  return true
}

/** L⁻¹ of a lower triangular [n, n] `l`, in place; the strict upper triangle is ignored and left as it was. */
function invertLowerInPlace(l: Float64Array, n: number): void {
  const own = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    const rowI = i * n
    const inverse = 1 / (l[rowI + i] as number)
    own.set(l.subarray(rowI, rowI + i))
    l.fill(0, rowI, rowI + i)
    // Row by row of what is inverted already, so that memory is read in order.
    for (let k = 0; k < i; k++) {
      const factor = own[k] as number
      const rowK = k * n
      for (let j = 0; j <= k; j++) l[rowI + j] = (l[rowI + j] as number) + factor * (l[rowK + j] as number)
    }
    for (let j = 0; j < i; j++) l[rowI + j] = -(l[rowI + j] as number) * inverse
    l[rowI + i] = inverse
  }
}

/**
 * Factors H (symmetric, [n, n] row-major, sums or means of x·xᵀ: only ratios matter). null when H is zero, not finite, or can't be factored
 * even at full damping: the caller then rounds to nearest and says so.
 */
export function factorHessian(hessian: Float64Array, n: number, options: FactorOptions): HessianFactor | null {
  if (hessian.length !== n * n) throw new RangeError(`A Hessian of ${n} columns has ${n * n} entries, got ${hessian.length}`)
  const diagonal = Float64Array.from({ length: n }, (_, i) => hessian[i * n + i] as number)
  let mean = 0
  for (const value of diagonal) {
    if (!(value >= 0 && value < Infinity)) return null
    mean += value / n
  }
  if (mean === 0) return null
  const columns = Array.from({ length: n }, (_, i) => i)
  // Stable, so that equal columns keep their order and the bytes are the same everywhere.
  if (options.orderByImportance) columns.sort((a, b) => (diagonal[b] as number) - (diagonal[a] as number) || a - b)
  const order = Uint32Array.from(columns)
  const dead = columns.filter((column) => diagonal[column] === 0).toSorted((a, b) => a - b)

  for (let dampening = options.dampening; dampening <= DAMPENING_LIMIT; dampening *= DAMPENING_STEP) {
    const reversed = new Float64Array(n * n)
    for (let i = 0; i < n; i++) {
      const from = (order[n - 1 - i] as number) * n
      for (let j = 0; j <= i; j++) reversed[i * n + j] = hessian[from + (order[n - 1 - j] as number)] as number
      const own = diagonal[order[n - 1 - i] as number] as number
      reversed[i * n + i] = (own === 0 ? 1 : own) + dampening * mean
    }
    if (!choleskyInPlace(reversed, n)) continue
    invertLowerInPlace(reversed, n)
    const upper = new Float64Array(n * n)
    for (let i = 0; i < n; i++) for (let j = i; j < n; j++) upper[i * n + j] = reversed[(n - 1 - i) * n + (n - 1 - j)] as number
    return { size: n, upper, order, dead, dampeningUsed: dampening }
  }
  return null
}

/** Running mean of x·xᵀ over tokens: adds `tokens` rows of `inputs` [tokens, n] to `hessian` that holds the mean of `seen` rows so far. */
export function accumulateHessian(hessian: Float64Array, seen: number, inputs: Float32Array, tokens: number, n: number): void {
  if (inputs.length !== tokens * n) throw new RangeError(`${tokens} inputs of ${n} columns need ${tokens * n} values, got ${inputs.length}`)
  const total = seen + tokens
  const keep = seen / total
  for (let i = 0; i < hessian.length; i++) hessian[i] = (hessian[i] as number) * keep
  for (let token = 0; token < tokens; token++) {
    const x = inputs.subarray(token * n, (token + 1) * n)
    for (let i = 0; i < n; i++) {
      const scaled = (x[i] as number) / total
      if (scaled === 0) continue
      const row = i * n
      for (let j = 0; j <= i; j++) hessian[row + j] = (hessian[row + j] as number) + scaled * (x[j] as number)
    }
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) hessian[j * n + i] = hessian[i * n + j] as number
}
