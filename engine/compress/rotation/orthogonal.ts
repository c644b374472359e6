/**
 * Orthogonal matrices for rotations, as functions that apply them: R = D·(H ⊗ B)/√n with D optional random signs, H a Hadamard matrix of
 * Sylvester's, applied by the fast transform, and B whatever is needed where the size is no power of two: a Hadamard matrix of Paley's (12,
 * 20, 28, …: all that today's hidden sizes call for) or, where none is known here, a random orthogonal matrix of the odd part. f64.
 */

export interface Orthogonal {
  readonly size: number
  /** "Hadamard", "Hadamard 12 × 256", or "random 43 × Hadamard 4", for the log. */
  readonly description: string
  /** v ← v·R for `count` row vectors of `size` in `values`, in place. */
  apply(values: Float64Array, count: number): void
}

/** `signs` draws D from `random` (uniform in [0, 1)), which a random B is drawn from too. */
export function orthogonal(size: number, signs: boolean, random: () => number): Orthogonal {
  if (!(Number.isInteger(size) && size > 0)) throw new RangeError(`A rotation has a positive size, got ${size}`)
  const diagonal = signs ? Float64Array.from({ length: size }, () => (random() < 0.5 ? -1 : 1)) : null
  const { base, order, kind } = baseOf(size, random)
  const powers = size / order
  const name = order === 1 ? 'Hadamard' : kind === 'paley' ? `Hadamard ${order} × ${powers}` : `random ${order} × Hadamard ${powers}`
  const scratch = new Float64Array(order)
  const normalize = 1 / Math.sqrt(powers)
  return {
    size,
    description: name,
    apply(values, count) {
      if (values.length < count * size) throw new RangeError(`${values.length} values for ${count} vectors of ${size}`)
      for (let start = 0; start < count * size; start += size) {
        if (diagonal !== null) for (let i = 0; i < size; i++) values[start + i] = (values[start + i] as number) * (diagonal[i] as number)
        walshHadamard(values, start, powers, order)
        if (base === null) for (let i = start; i < start + size; i++) values[i] = (values[i] as number) * normalize
        else for (let block = start; block < start + size; block += order) timesBase(values, block, base, order, normalize, scratch)
      }
    },
  }
}

/** Unnormalized transform over `powers` blocks of `order` values each. */
function walshHadamard(values: Float64Array, start: number, powers: number, order: number): void {
  for (let half = 1; half < powers; half *= 2) {
    const span = half * order
    for (let block = start; block < start + powers * order; block += 2 * span) {
      for (let i = block; i < block + span; i++) {
        const a = values[i] as number
        const b = values[i + span] as number
        values[i] = a + b
        values[i + span] = a - b
      }
    }
  }
}

function timesBase(values: Float64Array, start: number, base: Float64Array, order: number, factor: number, scratch: Float64Array): void {
  scratch.fill(0)
  for (let i = 0; i < order; i++) {
    const value = (values[start + i] as number) * factor
    for (let j = 0; j < order; j++) scratch[j] = (scratch[j] as number) + value * (base[i * order + j] as number)
  }
  values.set(scratch, start)
}

interface Base {
  /** [order, order], orthonormal; null = 1. */
  readonly base: Float64Array | null
  readonly order: number
  readonly kind: 'paley' | 'random'
}

function baseOf(size: number, random: () => number): Base {
  let odd = size
  while (odd % 2 === 0) odd /= 2
  if (odd === 1) return { base: null, order: 1, kind: 'paley' }
  for (let order = odd; size % order === 0; order *= 2) {
    const signs = paley(order)
    if (signs === null) continue
    const normalize = 1 / Math.sqrt(order)
    return { base: Float64Array.from(signs, (sign) => sign * normalize), order, kind: 'paley' }
  }
  return { base: randomOrthogonal(odd, random), order: odd, kind: 'random' }
}

/** A Hadamard matrix [order, order] of ±1 by either of Paley's constructions over a prime field, or null. */
export function paley(order: number): Int8Array | null {
  if (order % 4 !== 0) return null
  if (isPrime(order - 1) && (order - 1) % 4 === 3) return paleyOne(order - 1)
  const q = order / 2 - 1
  return isPrime(q) && q % 4 === 1 ? paleyTwo(q) : null
}

/** Legendre symbols of 0 … q − 1. */
function residues(q: number): Int8Array {
  const symbol = new Int8Array(q).fill(-1)
  symbol[0] = 0
  for (let x = 1; x < q; x++) symbol[(x * x) % q] = 1
  return symbol
}

/** I + S with S skew: [[0, 1ᵀ], [−1, Q]]. */
function paleyOne(q: number): Int8Array {
  const n = q + 1
  const symbol = residues(q)
  return Int8Array.from({ length: n * n }, (_, at) => {
    const [row, col] = [Math.floor(at / n), at % n]
    if (row === col) return 1
    if (row === 0) return 1
    if (col === 0) return -1
    return symbol[(row - col + q) % q] as number
  })
}

/** The symmetric conference matrix C of order q + 1, with 0 replaced by [[1, −1], [−1, −1]] and ±1 by ±[[1, 1], [1, −1]]. */
function paleyTwo(q: number): Int8Array {
  const half = q + 1
  const n = 2 * half
  const symbol = residues(q)
  return Int8Array.from({ length: n * n }, (_, at) => {
    const [row, col] = [Math.floor(at / n), at % n]
    const [i, j] = [Math.floor(row / 2), Math.floor(col / 2)]
    const [r, c] = [row % 2, col % 2]
    if (i === j) return r === 0 && c === 0 ? 1 : -1
    const entry = i === 0 || j === 0 ? 1 : (symbol[(i - j + q) % q] as number)
    return r === 1 && c === 1 ? -entry : entry
  })
}

function isPrime(n: number): boolean {
  if (n < 2) return false
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false
  return true
}

/** Gram–Schmidt, twice for orthogonality to rounding, on a matrix of normal numbers. */
function randomOrthogonal(n: number, random: () => number): Float64Array {
  const matrix = Float64Array.from({ length: n * n }, () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()))
  for (let row = 0; row < n; row++) {
    const own = matrix.subarray(row * n, (row + 1) * n)
    for (let pass = 0; pass < 2; pass++) {
      for (let before = 0; before < row; before++) {
        const other = matrix.subarray(before * n, (before + 1) * n)
        const dot = other.reduce((sum, value, i) => sum + value * (own[i] as number), 0)
        for (let i = 0; i < n; i++) own[i] = (own[i] as number) - dot * (other[i] as number)
      }
    }
    const norm = Math.sqrt(own.reduce((sum, value) => sum + value * value, 0))
    for (let i = 0; i < n; i++) own[i] = (own[i] as number) / norm
  }
  return matrix
}
