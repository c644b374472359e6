/**
 * AWQ (Lin et al. 2023): searches, per group of linears that share an input, channel factors that make the scheme round the important
 * columns more finely, t = x^r / w^(1−r) with x the mean |input| and w the mean relative |weight| of a column (specs/compression-algorithms.md
 * §3), and optionally the range that each group's weights are clipped to (AutoAWQ's second step). Chooses factors and clipped weights;
 * smoothing.ts applies the former. What a candidate costs is somebody else's to say, so that neither scheme nor device is known here.
 */
import type { Gram, Matrix, RoundTrip } from './matrix.ts'
import { quadraticForm } from './matrix.ts'

export interface AwqOptions {
  /** Candidates tried; LLM Compressor's default is 20. */
  readonly gridPoints: number
  /** Whether factors take the weights into account: true and false as LLM Compressor's `duo_scaling`; `both` tries half of each. */
  readonly duoScaling: boolean | 'both'
}

export interface AwqCandidate {
  /** Factor per input channel; all 1 for the plain scheme. */
  readonly factors: Float64Array
  readonly ratio: number
  readonly duo: boolean
}

/** How candidates are judged. Only comparisons matter; a loss that is not finite is worse than any other. */
export interface AwqTrial {
  /** Losses of all candidates, in their order: from the Gram matrix, many at a time. */
  losses(candidates: readonly AwqCandidate[]): Promise<readonly number[]>
  /** A truer and dearer loss for the plain scheme and the `finalists` best of the others; null = `losses` decides. */
  readonly judge: { readonly finalists: number; readonly loss: (candidate: AwqCandidate) => Promise<number> } | null
}

export interface AwqChoice extends AwqCandidate {
  readonly loss: number
  /** Loss of the plain scheme, unsmoothed. */
  readonly plainLoss: number
}

/** A floor under factors, and what keeps quotients of zero columns finite; both LLM Compressor's. */
const SMALLEST_FACTOR = 1e-4
const GROUP_EPSILON = 1e-6

/**
 * What to try for `balance`, which share inputs of mean magnitude `inputMean` [cols]: the plain scheme first, then the grid. `columnsPerGroup[i]` is
 * how many consecutive columns of balance[i] share a scale. Throws RangeError on shapes that don't agree.
 */
export function awqCandidates(
  balance: readonly Matrix[],
  columnsPerGroup: readonly number[],
  inputMean: Float32Array | Float64Array,
  options: AwqOptions,
): readonly AwqCandidate[] {
  const cols = inputMean.length
  if (balance.length === 0 || balance.some((matrix) => matrix.cols !== cols)) {
    throw new RangeError(`AWQ needs linears of ${cols} columns, got ${balance.map((matrix) => matrix.cols).join(', ') || 'none'}`)
  }
  const weightMean = relativeColumnMeans(balance, columnsPerGroup)
  const plain: AwqCandidate = { factors: new Float64Array(cols).fill(1), ratio: 0, duo: false }
  const grid = gridOf(options)
    .map(({ ratio, duo }) => ({ ratio, duo, factors: candidateFactors(inputMean, weightMean, ratio, duo) }))
    .filter(({ factors }) => factors.some((factor) => factor !== 1))
  return [plain, ...grid]
}

/** The best of `candidates`, the first of which is the plain scheme; nothing that is not better than it is chosen. */
export async function searchAwqFactors(candidates: readonly AwqCandidate[], { losses, judge }: AwqTrial): Promise<AwqChoice> {
  const [plain, ...others] = candidates
  if (plain === undefined) throw new RangeError('AWQ has no candidates')
  const ranks = await losses(candidates)
  const ranked = others.map((candidate, i) => ({ candidate, rank: finite(ranks[i + 1]) }))
  // A stable sort: equals stay in the order of their ratios.
  ranked.sort((a, b) => (a.rank === b.rank ? 0 : a.rank - b.rank))
  const plainLoss = judge === null ? (ranks[0] ?? Number.NaN) : await judge.loss(plain)
  let best: AwqChoice = { ...plain, loss: plainLoss, plainLoss }
  for (const { candidate, rank } of ranked.slice(0, judge?.finalists ?? 1)) {
    const loss = judge === null ? rank : await judge.loss(candidate)
    if (finite(loss) < finite(best.loss)) best = { ...candidate, loss, plainLoss }
  }
  return best
}

function finite(loss: number | undefined): number {
  return loss === undefined || Number.isNaN(loss) ? Infinity : loss
}

type Candidate = Pick<AwqCandidate, 'ratio' | 'duo'>

/** Ratios from 0 to 1. */
function ratios(count: number, duo: boolean): readonly Candidate[] {
  return Array.from({ length: count }, (_, i) => ({ ratio: count === 1 ? 0 : i / (count - 1), duo }))
}

function gridOf(options: AwqOptions): readonly Candidate[] {
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
