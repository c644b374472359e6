/**
 * Every operation of the seam as its formula in f64, one small function each. Sums run in index order. Matrices are row-major; shapes are
 * those that check-program.ts and check-step.ts have verified. Nothing here is fast on purpose: this is what the kernels are judged by.
 */
import type { KvLayout, Operation, RopeTable, StepInput } from '../program.ts'
import type { ReferenceKvCache } from './kv-cache.ts'

type OperationOf<Name extends Operation['op']> = Extract<Operation, { op: Name }>

/** Row `index` of a matrix of the given width, as a view. */
export function row(matrix: Float64Array, index: number, width: number): Float64Array {
  return matrix.subarray(index * width, (index + 1) * width)
}

/** out[t] = weight[tokenIds[t]] · scale */
export function embed(tokenIds: Uint32Array, weight: Float64Array, scale: number, out: Float64Array, width: number): void {
  for (const [t, id] of tokenIds.entries()) {
    row(out, t, width).set(row(weight, id, width).map((value) => value * scale))
  }
}

/** out = x / √(mean(x²) + ε) · weight, row by row */
export function rmsNorm(x: Float64Array, weight: Float64Array, epsilon: number, out: Float64Array): void {
  const width = weight.length
  for (let r = 0; r < x.length / width; r++) row(out, r, width).set(normalized(row(x, r, width), weight, epsilon))
}

function normalized(x: Float64Array, weight: Float64Array, epsilon: number): Float64Array {
  const inverse = 1 / Math.sqrt(dot(x, x) / x.length + epsilon)
  return x.map((value, i) => value * inverse * (weight[i] ?? NaN))
}

/** out[r, outOffset + n] (+)= Σ_k x[r, k] · weight[n, k] + bias[n] */
export function linear(
  x: Float64Array,
  weight: Float64Array,
  bias: Float64Array | null,
  out: Float64Array,
  shape: {
    readonly rows: number
    readonly cols: number
    readonly outOffset: number
    readonly outWidth: number
    readonly accumulate: boolean
  },
): void {
  const { rows, cols, outOffset, outWidth, accumulate } = shape
  for (let r = 0; r < x.length / cols; r++) {
    const input = row(x, r, cols)
    for (let n = 0; n < rows; n++) {
      const at = r * outWidth + outOffset + n
      const product = dot(input, row(weight, n, cols)) + (bias?.[n] ?? 0)
      out[at] = accumulate ? (out[at] ?? NaN) + product : product
    }
  }
}

/** out = gate / (1 + e^−gate) · up, where a row of gateUp is gate then up */
export function swiglu(gateUp: Float64Array, out: Float64Array, width: number): void {
  for (let r = 0; r < out.length / width; r++) {
    const gate = row(gateUp, 2 * r, width)
    const up = row(gateUp, 2 * r + 1, width)
    row(out, r, width).set(gate.map((value, i) => (value / (1 + Math.exp(-value))) * (up[i] ?? NaN)))
  }
}

/** Norm (where given) and rotation of q and k, q to `q`, k and v to the cache. */
export function ropeAppend(
  operation: OperationOf<'ropeAppend'>,
  input: StepInput,
  norms: { readonly q: Float64Array | null; readonly k: Float64Array | null },
  buffers: { readonly qkv: Float64Array; readonly q: Float64Array; readonly cache: ReferenceKvCache },
): void {
  const { heads, kvHeads, headDim, rope, layer, normEpsilon } = operation
  const position = (vector: Float64Array, norm: Float64Array | null, at: number): Float64Array =>
    rotated(norm === null ? vector : normalized(vector, norm, normEpsilon), rope, at)
  for (const [t, at] of input.positions.entries()) {
    const heads3 = row(buffers.qkv, t, (heads + 2 * kvHeads) * headDim)
    const slot = input.slots[t] ?? 0
    const keys = new Float64Array(kvHeads * headDim)
    for (let h = 0; h < heads; h++) row(buffers.q, t * heads + h, headDim).set(position(row(heads3, h, headDim), norms.q, at))
    for (let h = 0; h < kvHeads; h++) row(keys, h, headDim).set(position(row(heads3, heads + h, headDim), norms.k, at))
    buffers.cache.write(layer, 'k', slot, keys)
    buffers.cache.write(layer, 'v', slot, heads3.subarray((heads + kvHeads) * headDim))
  }
}

/** NeoX pairing: (x_i, x_{i+half}) turn by the angle of (position, i); dimensions from rotaryDim on stay. */
function rotated(vector: Float64Array, rope: RopeTable, position: number): Float64Array {
  const half = rope.rotaryDim / 2
  const out = Float64Array.from(vector)
  for (let i = 0; i < half; i++) {
    const cos = rope.cos[position * half + i] ?? NaN
    const sin = rope.sin[position * half + i] ?? NaN
    const first = vector[i] ?? NaN
    const second = vector[i + half] ?? NaN
    out[i] = first * cos - second * sin
    out[i + half] = second * cos + first * sin
  }
  return out
}

/** out[t, h] = Σ_j softmax_j(scale · q[t, h] · k_j) v_j over cached positions max(0, p − w + 1) … p of the token's own sequence */
export function attention(
  operation: OperationOf<'attention'>,
  input: StepInput,
  buffers: { readonly q: Float64Array; readonly out: Float64Array; readonly cache: ReferenceKvCache },
): void {
  const { heads, kvHeads, headDim, scale, window, layer } = operation
  const { cache } = buffers
  for (const [t, position] of input.positions.entries()) {
    const first = window === null ? 0 : Math.max(0, position - window + 1)
    const slots = Array.from({ length: position - first + 1 }, (_, j) => slotOf(input, cache.layout, t, first + j))
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const keys = slots.map((slot) => cache.head(layer, 'k', slot, kvHead))
      const values = slots.map((slot) => cache.head(layer, 'v', slot, kvHead))
      for (let group = 0; group < heads / kvHeads; group++) {
        const index = t * heads + kvHead * (heads / kvHeads) + group
        const query = row(buffers.q, index, headDim)
        row(buffers.out, index, headDim).set(weightedSum(softmax(keys.map((key) => scale * dot(query, key))), values))
      }
    }
  }
}

function slotOf(input: StepInput, layout: KvLayout, token: number, position: number): number {
  const blocksPerSequence = input.blockTable.length / input.sequenceLength.length
  const table = row64(input.blockTable, input.sequenceOfToken[token] ?? 0, blocksPerSequence)
  return (table[Math.floor(position / layout.blockSize)] ?? 0) * layout.blockSize + (position % layout.blockSize)
}

function row64(table: Uint32Array, index: number, width: number): Uint32Array {
  return table.subarray(index * width, (index + 1) * width)
}

function softmax(scores: readonly number[]): readonly number[] {
  const max = scores.reduce((a, b) => Math.max(a, b), -Infinity)
  const weights = scores.map((score) => Math.exp(score - max))
  const sum = weights.reduce((a, b) => a + b, 0)
  return weights.map((weight) => weight / sum)
}

function weightedSum(weights: readonly number[], vectors: readonly Float64Array[]): Float64Array {
  const sum = new Float64Array(vectors[0]?.length ?? 0)
  for (const [j, vector] of vectors.entries()) {
    const weight = weights[j] ?? NaN
    for (const [d, value] of vector.entries()) sum[d] = (sum[d] ?? NaN) + weight * value
  }
  return sum
}

/** out[r] = x[logitRows[r]] */
export function gatherRows(x: Float64Array, logitRows: Uint32Array, out: Float64Array, width: number): void {
  for (const [r, t] of logitRows.entries()) row(out, r, width).set(row(x, t, width))
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] ?? NaN) * (b[i] ?? NaN)
  return sum
}

/** sums [width, width] += xᵀ·x, both triangles. */
export function gram(x: Float64Array, width: number, sums: Float64Array): void {
  for (let start = 0; start < x.length; start += width) {
    for (let i = 0; i < width; i++) {
      const own = x[start + i] as number
      if (own === 0) continue
      for (let j = 0; j <= i; j++) {
        const term = own * (x[start + j] as number)
        sums[i * width + j] = (sums[i * width + j] as number) + term
        if (j < i) sums[j * width + i] = (sums[j * width + i] as number) + term
      }
    }
  }
}

/** sums [4, width]: Σ|x|, Σx², max(0, x), max(0, −x) of each column. */
export function columnSums(x: Float64Array, width: number, sums: Float64Array): void {
  for (const [i, value] of x.entries()) {
    const column = i % width
    sums[column] = (sums[column] as number) + Math.abs(value)
    sums[width + column] = (sums[width + column] as number) + value * value
    sums[2 * width + column] = Math.max(sums[2 * width + column] as number, value)
    sums[3 * width + column] = Math.max(sums[3 * width + column] as number, -value)
  }
}
