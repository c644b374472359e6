/**
 * One-shot pruning of a weight matrix: magnitude, Wanda (Sun et al. 2023) and SparseGPT (Frantar and Alistarh 2023), unstructured or N:M
 * (specs/compression-algorithms.md §5, §6). The result is dense with zeros; storing or multiplying it sparsely is somebody else's business.
 * f64 arithmetic; knows no calibration data beyond column norms or the factor it is given.
 */
import type { HessianFactor } from './hessian-factor.ts'

/** Which entries go: a share of all, or N of every M consecutive columns of a row. */
export type SparsityPattern =
  | { readonly kind: 'unstructured'; readonly sparsity: number }
  | { readonly kind: 'n-of-m'; readonly prune: number; readonly of: number }

/** Columns that SparseGPT decides on together; the paper's and LLM Compressor's block. */
const BLOCK_COLUMNS = 128

function requirePattern(pattern: SparsityPattern, cols: number): void {
  if (pattern.kind === 'unstructured') {
    if (!(pattern.sparsity >= 0 && pattern.sparsity < 1))
      throw new RangeError(`A sparsity is a share from 0 to below 1, got ${pattern.sparsity}`)
    return
  }
  if (!(pattern.prune > 0 && pattern.prune < pattern.of))
    throw new RangeError(`Pruning ${pattern.prune} of ${pattern.of} leaves nothing to choose`)
  if (cols % pattern.of !== 0) throw new RangeError(`${cols} columns are not divisible into groups of ${pattern.of}`)
}

/** Marks the `count` lowest scores among `candidates` in `mask`; the earlier of equals goes first, so that results are the same everywhere. */
function pruneLowest(scores: Float64Array, candidates: number[], count: number, mask: Uint8Array): void {
  candidates.sort((a, b) => (scores[a] as number) - (scores[b] as number) || a - b)
  for (let i = 0; i < count; i++) mask[candidates[i] as number] = 1
}

/**
 * Wanda: the score of a weight is |w|·√(mean of its input's squares), compared within a row, and the lowest go; nothing is updated.
 * With `columnNorms` null it is magnitude pruning. Returns [rows, cols] values with zeros.
 */
export function pruneByScore(
  values: Float32Array,
  rows: number,
  cols: number,
  columnNorms: Float64Array | null,
  pattern: SparsityPattern,
): Float32Array {
  requirePattern(pattern, cols)
  if (values.length !== rows * cols) throw new RangeError(`${values.length} values for ${rows} × ${cols}`)
  const pruned = values.slice()
  const scores = new Float64Array(cols)
  for (let row = 0; row < rows; row++) {
    const start = row * cols
    for (let c = 0; c < cols; c++)
      scores[c] = Math.abs(values[start + c] as number) * (columnNorms === null ? 1 : (columnNorms[c] as number))
    const mask = new Uint8Array(cols)
    if (pattern.kind === 'unstructured') {
      const all = Array.from({ length: cols }, (_, c) => c)
      pruneLowest(scores, all, Math.floor(cols * pattern.sparsity), mask)
    } else {
      for (let c = 0; c < cols; c += pattern.of) {
        const group = Array.from({ length: pattern.of }, (_, i) => c + i)
        pruneLowest(scores, group, pattern.prune, mask)
      }
    }
    for (let c = 0; c < cols; c++) if (mask[c] === 1) pruned[start + c] = 0
  }
  return pruned
}

/**
 * SparseGPT: within blocks of 128 columns the entries with the least w²/U² go, and what each one's removal loses is made up for by the
 * columns that follow. Unstructured sparsity is chosen over a whole block of all rows; N:M per row and group, with weights already
 * corrected. For N:M the factor must be in original column order, since groups are consecutive columns.
 */
export function sparseGpt(values: Float32Array, rows: number, cols: number, factor: HessianFactor, pattern: SparsityPattern): Float32Array {
  requirePattern(pattern, cols)
  if (factor.size !== cols || values.length !== rows * cols)
    throw new RangeError(`Factor of ${factor.size}, ${values.length} values for ${rows} × ${cols}`)
  const { upper, order } = factor
  if (pattern.kind === 'n-of-m' && order.some((column, k) => column !== k))
    throw new RangeError('N:M pruning needs the original column order')
  const dead = new Set(factor.dead)
  // Processing order, all rows: the unstructured choice looks across rows.
  const work = new Float64Array(rows * cols)
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < cols; k++) {
      const column = order[k] as number
      work[row * cols + k] = dead.has(column) ? 0 : (values[row * cols + column] as number)
    }
  }
  const errors = new Float64Array(rows * BLOCK_COLUMNS)
  for (let block = 0; block < cols; block += BLOCK_COLUMNS) {
    const end = Math.min(block + BLOCK_COLUMNS, cols)
    const width = end - block
    const mask = new Uint8Array(rows * width)
    const scores = new Float64Array(rows * width)
    const scoreOf = (row: number, k: number): number => ((work[row * cols + k] as number) / (upper[k * cols + k] as number)) ** 2
    if (pattern.kind === 'unstructured') {
      const candidates: number[] = []
      for (let row = 0; row < rows; row++) {
        for (let k = block; k < end; k++) {
          const at = row * width + (k - block)
          scores[at] = scoreOf(row, k)
          candidates.push(at)
        }
      }
      pruneLowest(scores, candidates, Math.floor(rows * width * pattern.sparsity), mask)
    }
    for (let k = block; k < end; k++) {
      if (pattern.kind === 'n-of-m' && (k - block) % pattern.of === 0) {
        for (let row = 0; row < rows; row++) {
          const group: number[] = []
          for (let i = 0; i < pattern.of; i++) {
            const at = row * width + (k - block) + i
            scores[at] = scoreOf(row, k + i)
            group.push(at)
          }
          pruneLowest(scores, group, pattern.prune, mask)
        }
      }
      const pivot = upper[k * cols + k] as number
      for (let row = 0; row < rows; row++) {
        const at = row * width + (k - block)
        const w = work[row * cols + k] as number
        const error = mask[at] === 1 ? w / pivot : 0
        errors[at] = error
        if (error === 0) continue
        work[row * cols + k] = 0
        for (let j = k + 1; j < end; j++) work[row * cols + j] = (work[row * cols + j] as number) - error * (upper[k * cols + j] as number)
      }
    }
    for (let row = 0; row < rows; row++) {
      for (let k = block; k < end; k++) {
        const error = errors[row * width + (k - block)] as number
        if (error === 0) continue
        for (let j = end; j < cols; j++) work[row * cols + j] = (work[row * cols + j] as number) - error * (upper[k * cols + j] as number)
      }
    }
    // A pruned entry that was exactly zero already contributes no error, and must still end as a zero.
    for (let row = 0; row < rows; row++)
      for (let k = block; k < end; k++) if (mask[row * width + (k - block)] === 1) work[row * cols + k] = 0
  }
  const pruned = new Float32Array(values.length)
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < cols; k++) pruned[row * cols + (order[k] as number)] = work[row * cols + k] as number
  return pruned
}

/**
 * OWL (Yin et al. 2023): sparsity per layer from how many outliers its scores have. `outlierShares[l]` is the share of layer l's scores above
 * m times their mean; layers with more outliers are pruned less, within ±`spread` of the target, and the mean stays the target.
 */
export function owlSparsities(outlierShares: readonly number[], target: number, spread: number): number[] {
  const low = Math.min(...outlierShares)
  const high = Math.max(...outlierShares)
  const scaled = outlierShares.map((share) => (high > low ? ((share - low) / (high - low)) * 2 * spread : spread))
  const mean = scaled.reduce((sum, value) => sum + value, 0) / scaled.length
  return scaled.map((value) => Math.min(0.99, Math.max(0, target + mean - value)))
}
