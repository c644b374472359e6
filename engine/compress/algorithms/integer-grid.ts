/**
 * From a range of weights to the scale and zero point that are stored: specs/compressed-tensors.md §6.1 in f32 arithmetic. The scale is
 * rounded to its stored dtype before anything else uses it, so what is measured and quantized against is what a reader will find.
 * Chooses no ranges (round-to-nearest.ts, mse-scale-search.ts) and knows no layout.
 */
import { roundToDtype } from '../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { IntegerScheme } from '../scheme.ts'

/** The codes and scales that a scheme can express, for weights and scales of one dtype. */
export interface IntegerGrid {
  readonly qmin: number
  readonly qmax: number
  readonly symmetric: boolean
  readonly dtype: DenseDtype
}

export function integerGrid(scheme: IntegerScheme, dtype: DenseDtype): IntegerGrid {
  const half = 2 ** (scheme.bits - 1)
  return { qmin: -half, qmax: half - 1, symmetric: scheme.symmetric, dtype }
}

/** What a scale of 0 is replaced by (§6.1 step 8): the machine epsilon of its dtype. Then every code of the group decodes to 0. */
export const SCALE_EPSILON: Readonly<Record<DenseDtype, number>> = { BF16: 2 ** -7, F16: 2 ** -10, F32: 2 ** -23 }

const MAX_FINITE: Readonly<Record<DenseDtype, number>> = { BF16: 2 ** 127 * (2 - 2 ** -7), F16: 65504, F32: 2 ** 127 * (2 - 2 ** -23) }

/** Adding and subtracting 1.5·2^52 leaves a double rounded to an integer, ties to even, for |x| < 2^51: no branch, no call. */
const ROUNDER = 1.5 * 2 ** 52

export function roundHalfEven(x: number): number {
  return x + ROUNDER - ROUNDER
}

/** Stored scale for weights in [lo, hi], lo ≤ 0 ≤ hi, finite. Never 0. */
export function scaleOfRange(lo: number, hi: number, grid: IntegerGrid): number {
  const steps = grid.qmax - grid.qmin
  let exact: number
  if (grid.symmetric) {
    exact = Math.fround(Math.max(-lo, hi) / (steps / 2))
  } else {
    const width = Math.fround(hi - lo)
    // A group that spans nearly all of f32 has a width beyond it; its scale is not.
    exact = Math.fround((Number.isFinite(width) ? width : hi - lo) / steps)
  }
  const stored = roundToDtype(exact, grid.dtype)
  return stored === 0 ? SCALE_EPSILON[grid.dtype] : stored
}

/** Integer in [qmin, qmax] that decodes to 0; always 0 for a symmetric grid. */
export function zeroPointOfRange(lo: number, scale: number, grid: IntegerGrid): number {
  if (grid.symmetric) return 0
  const exact = Math.fround(grid.qmin - Math.fround(lo / scale))
  return roundHalfEven(Math.min(Math.max(exact, grid.qmin), grid.qmax))
}

/**
 * `scale`, or the largest smaller one with which no code decodes beyond the dtype. Only groups that touch the dtype's own maximum are
 * affected (−max / 7.5 rounds to code −8, and 8 scales exceed max): a reader must never meet an infinity that the source did not have.
 */
export function limitScale(scale: number, zeroPoint: number, grid: IntegerGrid): number {
  const reach = Math.max(zeroPoint - grid.qmin, grid.qmax - zeroPoint)
  const limit = MAX_FINITE[grid.dtype]
  if (scale * reach <= limit) return scale
  let limited = roundToDtype(limit / reach, grid.dtype)
  // 2^-7 is at least one unit in the last place of every dtype here.
  while (limited * reach > limit) limited = roundToDtype(limited * (1 - 2 ** -7), grid.dtype)
  return limited
}
