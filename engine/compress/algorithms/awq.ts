/**
 * AWQ (Lin et al. 2023): searches, per group of linears that share an input, channel factors that make the scheme round the important
 * columns more finely, t = x^r / w^(1−r) with x the mean |input| and w the mean relative |weight| of a column (specs/compression-algorithms.md
 * §3), and optionally the range that each group's weights are clipped to (AutoAWQ's second step). Chooses factors and clipped weights;
 * smoothing.ts applies the former. The scheme is a round trip and the loss a function, so that neither is known here.
 */
import type { Gram, Matrix, RoundTrip } from './matrix.ts'
import { outputError, quadraticForm } from './matrix.ts'
import { multiplyColumns } from './smoothing.ts'

export interface AwqOptions {
  /** Candidates tried; LLM Compressor's default is 20. */
  readonly gridPoints: number
  /** Whether factors take the weights into account: true and false as LLM Compressor's `duo_scaling`; `both` tries half of each. */
  readonly duoScaling: boolean | 'both'
  /**
   * A cheaper loss that ranks all candidates first, so that only the `finalists` best of them are judged by the real one; null = every
   * candidate is.
   */
  readonly ranking?: { readonly loss: AwqLoss; readonly finalists: number } | null
}

export interface AwqChoice {
  /** Factor per input channel; all 1 where nothing beat doing nothing. */
  readonly factors: Float64Array
  readonly loss: number
  /** Loss of the plain scheme, unsmoothed. */
  readonly plainLoss: number
  readonly ratio: number
  readonly duo: boolean
}

/** Loss of the layer's output when the balance linears are replaced by `weights`, in their order. Only comparisons matter. */
export type AwqLoss = (weights: readonly Float32Array[]) => number | Promise<number>

/** A floor under factors, and what keeps quotients of zero columns finite; both LLM Compressor's. */
const SMALLEST_FACTOR = 1e-4
const GROUP_EPSILON = 1e-6

/**
 * The best factors for `balance`, which share inputs of mean magnitude `inputMean` [cols]. `columnsPerGroup[i]` is how many consecutive columns of balance[i] share a
 * scale. Throws RangeError on shapes that don't agree. A candidate whose loss is not finite is never chosen.
 */
export async function searchAwqFactors(
  balance: readonly Matrix[],
  columnsPerGroup: readonly number[],
  inputMean: Float32Array | Float64Array,
  roundTrips: readonly RoundTrip[],
  loss: AwqLoss,
  options: AwqOptions,
): Promise<AwqChoice> {
  const cols = inputMean.length
  if (balance.length === 0 || balance.some((matrix) => matrix.cols !== cols)) {
    throw new RangeError(`AWQ needs linears of ${cols} columns, got ${balance.map((matrix) => matrix.cols).join(', ') || 'none'}`)
  }
  const weightMean = relativeColumnMeans(balance, columnsPerGroup)
  const ones = new Float64Array(cols).fill(1)
  const plainLoss = await loss(roundTripped(balance, roundTrips, ones))
  let best: AwqChoice = { factors: ones, loss: plainLoss, plainLoss, ratio: 0, duo: false }
  const all = candidates(options)
    .map(({ ratio, duo }) => ({ ratio, duo, factors: candidateFactors(inputMean, weightMean, ratio, duo) }))
    .filter(({ factors }) => factors.some((factor) => factor !== 1))
  const ranked: { readonly candidate: (typeof all)[number]; readonly rank: number }[] = []
  for (const candidate of options.ranking ? all : []) {
    ranked.push({ candidate, rank: (await options.ranking?.loss(roundTripped(balance, roundTrips, candidate.factors))) ?? 0 })
  }
  // A stable sort: equals stay in the order of their ratios. NaN counts as the worst.
  ranked.sort((a, b) => (Number.isNaN(a.rank) ? Infinity : a.rank) - (Number.isNaN(b.rank) ? Infinity : b.rank) || 0)
  const tried = options.ranking ? ranked.slice(0, options.ranking.finalists).map(({ candidate }) => candidate) : all
  for (const { ratio, duo, factors } of tried) {
    const candidateLoss = await loss(roundTripped(balance, roundTrips, factors))
    if (candidateLoss < best.loss || (!Number.isFinite(best.loss) && Number.isFinite(candidateLoss))) {
      best = { factors, loss: candidateLoss, plainLoss, ratio, duo }
    }
  }
  return best
}

/** The loss from Gram matrices alone, Σ over linears of ‖(W − W′)X‖²: exact where the linear's own output is what counts (o, down). */
export function gramLoss(originals: readonly Matrix[], gram: Gram, maxMultiplications?: number): AwqLoss {
  return (weights) =>
    originals.reduce((total, { values, rows, cols }, i) => {
      const replaced = weights[i]
      if (replaced === undefined) throw new RangeError(`${weights.length} weights for ${originals.length} linears`)
      return total + outputError(values, replaced, rows, cols, gram, maxMultiplications)
    }, 0)
}

interface Candidate {
  readonly ratio: number
  readonly duo: boolean
}

/** Ratios from 0 to 1. */
function ratios(count: number, duo: boolean): readonly Candidate[] {
  return Array.from({ length: count }, (_, i) => ({ ratio: count === 1 ? 0 : i / (count - 1), duo }))
}

function candidates(options: AwqOptions): readonly Candidate[] {
  const { gridPoints, duoScaling } = options
  if (!(Number.isInteger(gridPoints) && gridPoints >= 2)) throw new RangeError(`A grid has at least 2 points, got ${gridPoints}`)
  if (duoScaling === 'both') {
    const half = Math.max(1, Math.floor(gridPoints / 2))
    return [...ratios(half, false), ...ratios(half, true)]
  }
  // One point is the plain scheme itself, which has been tried: ratio 0 without duo scaling.
  return duoScaling ? ratios(gridPoints - 1, true) : ratios(gridPoints, false)
}

/** Centred so that the largest and the smallest factor are each other's reciprocal. */
export function candidateFactors(inputMean: ArrayLike<number>, weightMean: Float64Array, ratio: number, duo: boolean): Float64Array {
  const raw = Float64Array.from(inputMean, (x, c) => {
    const share = duo ? x ** ratio / ((weightMean[c] as number) ** (1 - ratio) + SMALLEST_FACTOR) : x ** ratio
    return Math.max(SMALLEST_FACTOR, share)
  })
  let low = Infinity
  let high = 0
  for (const factor of raw) {
    if (factor < low) low = factor
    if (factor > high) high = factor
  }
  const centre = Math.sqrt(low * high)
  return raw.map((factor) => {
    const centred = factor / centre
    return Number.isFinite(centred) && centred > 0 ? centred : 1
  })
}

/** Mean over all rows of |w| / (max |w| of its group), per column: LLM Compressor's measure of how evenly a column uses its groups. */
export function relativeColumnMeans(balance: readonly Matrix[], columnsPerGroup: readonly number[]): Float64Array {
  const cols = balance[0]?.cols ?? 0
  const sums = new Float64Array(cols)
  let rows = 0
  balance.forEach((matrix, i) => {
    const group = columnsPerGroup[i] ?? cols
    if (!(group > 0)) throw new RangeError(`Groups of ${group} columns`)
    for (let row = 0; row < matrix.rows; row++) {
      for (let column = 0; column < cols; column += group) {
        const start = row * cols + column
        // The last block of a row may be narrower (FP8_BLOCK).
        const width = Math.min(group, cols - column)
        let largest = 0
        for (let at = start; at < start + width; at++) largest = Math.max(largest, Math.abs(matrix.values[at] as number))
        const inverse = 1 / (largest + GROUP_EPSILON)
        for (let k = 0; k < width; k++) {
          sums[column + k] = (sums[column + k] as number) + Math.abs(matrix.values[start + k] as number) * inverse
        }
      }
    }
    rows += matrix.rows
  })
  return sums.map((sum) => sum / rows)
}

/** Q(W·t)/t for every linear. */
function roundTripped(balance: readonly Matrix[], roundTrips: readonly RoundTrip[], factors: Float64Array): readonly Float32Array[] {
  const inverse = factors.map((factor) => 1 / factor)
  return balance.map(({ rows, cols, values }, i) => {
    const roundTrip = roundTrips[i]
    if (roundTrip === undefined) throw new RangeError(`${roundTrips.length} round trips for ${balance.length} linears`)
    const scaled: Matrix = { rows, cols, values: values.slice() }
    multiplyColumns(scaled, factors)
    const decoded: Matrix = { rows, cols, values: roundTrip(scaled.values, rows, cols, factors).slice() }
    multiplyColumns(decoded, inverse)
    return decoded.values
  })
}

export interface ClipOptions {
  /** Steps from the full range downwards; AutoAWQ tries 10: half of a grid of 20. */
  readonly steps: number
  /** The smallest range tried, as a share of the group's own; AutoAWQ's is 0.5. */
  readonly smallest: number
}

/**
 * Weights clipped, group by group, to the range with which the rounded group loses least of the output it contributes, d·G_gg·dᵀ with G_gg
 * the group's part of the Gram matrix. Returns new values; a group for which nothing is better keeps its own.
 */
export function clipGroups(matrix: Matrix, columnsPerGroup: number, gram: Gram, roundTrip: RoundTrip, options: ClipOptions): Float32Array {
  const { rows, cols, values } = matrix
  const groups = values.length / columnsPerGroup
  if (cols % columnsPerGroup !== 0 || gram.length !== cols * cols) {
    throw new RangeError(`${cols} columns in groups of ${columnsPerGroup} with a Gram matrix of ${gram.length}`)
  }
  const blocks = groupBlocks(gram, cols, columnsPerGroup)
  const ranges = Float64Array.from({ length: groups }, (_, group) => {
    let largest = 0
    for (let k = 0; k < columnsPerGroup; k++) largest = Math.max(largest, Math.abs(values[group * columnsPerGroup + k] as number))
    return largest
  })
  const bestShare = new Float64Array(groups).fill(1)
  const bestLoss = new Float64Array(groups).fill(Infinity)
  const difference = new Float64Array(columnsPerGroup)
  const perRow = cols / columnsPerGroup
  for (let step = 0; step < options.steps; step++) {
    const share = 1 - (step / options.steps) * (1 - options.smallest)
    const decoded = roundTrip(
      clipped(values, ranges, columnsPerGroup, () => share),
      rows,
      cols,
      null,
    )
    for (let group = 0; group < groups; group++) {
      const start = group * columnsPerGroup
      for (let k = 0; k < columnsPerGroup; k++) difference[k] = (values[start + k] as number) - (decoded[start + k] as number)
      const loss = quadraticForm(difference, blocks[group % perRow] as Float64Array, columnsPerGroup)
      if (loss < (bestLoss[group] as number)) {
        bestLoss[group] = loss
        bestShare[group] = share
      }
    }
  }
  return clipped(values, ranges, columnsPerGroup, (group) => bestShare[group] as number)
}

function groupBlocks(gram: Gram, cols: number, size: number): readonly Float64Array[] {
  return Array.from({ length: cols / size }, (_, group) => {
    const block = new Float64Array(size * size)
    for (let i = 0; i < size; i++) {
      const from = (group * size + i) * cols + group * size
      block.set(gram.subarray(from, from + size), i * size)
    }
    return block
  })
}

function clipped(values: Float32Array, ranges: Float64Array, size: number, shareOf: (group: number) => number): Float32Array {
  const result = new Float32Array(values.length)
  for (let group = 0, at = 0; group < ranges.length; group++) {
    const limit = (ranges[group] as number) * shareOf(group)
    for (const end = at + size; at < end; at++) result[at] = Math.max(-limit, Math.min(limit, values[at] as number))
  }
  return result
}
