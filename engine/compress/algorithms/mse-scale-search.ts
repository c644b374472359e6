/**
 * MSE scale search (specs/compression-algorithms.md §1): shrinking a group's range makes its steps finer and clips its outliers; this
 * tries the ranges p·[min, max] for p = 1, 1 − 1/grid, …, 1 − (n−1)/grid with n = ⌊maxShrink·grid⌋, and keeps the one whose decoded
 * weights are nearest in Σ|w − ŵ|^norm, ŵ being decoded with the scale as stored. The first of equals wins, which is the widest range.
 *
 * Every candidate is tried (no early stop after some failures, the error has several local minima); one is abandoned as soon as its
 * running sum passes the best so far, which changes no result.
 *
 * With an importance per column (the mean square of its inputs, llama.cpp's "imatrix") the sum is Σ importance·|w − ŵ|^norm: for norm 2 that
 * is the layer's output error as far as inputs are uncorrelated.
 */
import { SCALE_EPSILON, limitScale, roundHalfEven, scaleOfRange, zeroPointOfRange } from './integer-grid.ts'
import type { IntegerGrid } from './integer-grid.ts'

export interface SearchSettings {
  readonly maxShrink: number
  readonly grid: number
  readonly norm: number
}

/** Elements between two looks at whether a candidate is already worse than the best. */
const LOOK_EVERY = 32

/** Candidate factors p, widest first. At least one: p = 1. */
export function shrinkFactors(settings: SearchSettings): readonly number[] {
  // The epsilon keeps 0.29·100 = 28.999999999999996 from losing its last step.
  const count = Math.max(1, Math.floor(settings.maxShrink * settings.grid + 1e-9))
  return Array.from({ length: count }, (_, i) => 1 - i / settings.grid)
}

/**
 * Best stored scale, with its zero point, for values[start, end) whose range is [lo, hi]. `factors` from `shrinkFactors`. `importance`, if
 * any, holds one factor ≥ 0 per value of the range, all finite; where all are 0 they count as equal.
 */
export function searchScale(
  values: Float32Array,
  start: number,
  end: number,
  lo: number,
  hi: number,
  grid: IntegerGrid,
  factors: readonly number[],
  norm: number,
  importance: Float64Array | null = null,
): { readonly scale: number; readonly zeroPoint: number } {
  let best = { scale: SCALE_EPSILON[grid.dtype], zeroPoint: 0 }
  let bestError = Infinity
  let previousScale = 0
  let previousZeroPoint = 0
  const weights = importance !== null && importance.some((weight) => weight > 0) ? importance : null
  for (const factor of factors) {
    const low = Math.fround(lo * factor)
    const unlimited = scaleOfRange(low, Math.fround(hi * factor), grid)
    const zeroPoint = zeroPointOfRange(low, unlimited, grid)
    const scale = limitScale(unlimited, zeroPoint, grid)
    // Neighbouring factors often round to the same stored scale, bf16 having 8 bits.
    if (scale === previousScale && zeroPoint === previousZeroPoint) continue
    previousScale = scale
    previousZeroPoint = zeroPoint
    const error =
      weights === null && norm === 2
        ? squaredError(values, start, end, scale, zeroPoint, grid, bestError)
        : generalError(values, start, end, scale, zeroPoint, grid, norm, bestError, weights)
    if (error < bestError) {
      bestError = error
      best = { scale, zeroPoint }
    }
  }
  return best
}

// All sums count in units of the scale, where the code's distance from w/scale is the error: clip to the codes' range, round, subtract.
// They multiply by 1/scale and round before the zero point is added. Quantizing does neither, and may choose the other code on a tie;
// then both codes are equally far from w.

function squaredError(
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  zeroPoint: number,
  grid: IntegerGrid,
  giveUpAbove: number,
): number {
  const lowest = grid.qmin - zeroPoint
  const highest = grid.qmax - zeroPoint
  const inverse = 1 / scale
  const limit = giveUpAbove / (scale * scale)
  let sum = 0
  for (let from = start; from < end; from += LOOK_EVERY) {
    const to = Math.min(end, from + LOOK_EVERY)
    for (let i = from; i < to; i++) {
      const w = (values[i] as number) * inverse
      const clipped = w < lowest ? lowest : w > highest ? highest : w
      const e = w - roundHalfEven(clipped)
      sum += e * e
    }
    if (sum >= limit) return Infinity
  }
  return sum * (scale * scale)
}

/** Any norm, each column weighted by `weights` where there are any. */
function generalError(
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  zeroPoint: number,
  grid: IntegerGrid,
  norm: number,
  giveUpAbove: number,
  weights: Float64Array | null,
): number {
  const lowest = grid.qmin - zeroPoint
  const highest = grid.qmax - zeroPoint
  const inverse = 1 / scale
  const limit = giveUpAbove / scale ** norm
  let sum = 0
  for (let i = start; i < end; i++) {
    const w = (values[i] as number) * inverse
    const clipped = w < lowest ? lowest : w > highest ? highest : w
    const e = Math.abs(w - roundHalfEven(clipped))
    const powered = norm === 2 ? e * e : e ** norm
    sum += weights === null ? powered : (weights[i - start] as number) * powered
    if (sum >= limit) return Infinity
  }
  return sum * scale ** norm
}
