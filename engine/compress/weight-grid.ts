/**
 * The values that a scheme can store, for algorithms that must not care which scheme it is: from a group's range to its stored scale and
 * zero point, from a weight to its code, from a code to what a reader will make of it (specs/compressed-tensors.md §6). All in f32; a scale
 * is rounded to its stored form before anything is measured against it. Knows no matrices and no bytes (algorithms/encode.ts).
 */
import { f32ToF8e4m3, f8e4m3ToF32, roundToDtype } from '../checkpoint/dtypes.ts'
import type { DenseDtype } from '../checkpoint/dtypes.ts'
import { FP4_MAX, fp4Code, fp4Value, mxScaleByte, mxScaleValue } from '../checkpoint/fp4.ts'
import { SCALE_EPSILON, integerGrid, limitScale, roundHalfEven, scaleOfRange, zeroPointOfRange } from './algorithms/integer-grid.ts'
import type { FloatScheme, Scheme } from './scheme.ts'

/** Frozen parameters of one group. */
export interface GroupParameters {
  /** As stored: in the model's dtype, E4M3 or a power of two. Never 0. */
  readonly scale: number
  /** 0 where the scheme has none. */
  readonly zeroPoint: number
}

export interface WeightGrid {
  /** Parameters for weights within [lo, hi], lo ≤ 0 ≤ hi, finite. */
  fit(lo: number, hi: number): GroupParameters
  /**
   * Nearest code of a finite weight, ties to even, saturating: −2^(b−1) … 2^(b−1) − 1 for integers; for floats the element's bits, 0 … 255
   * (E4M3) or 0 … 15 (E2M1).
   */
  code(weight: number, parameters: GroupParameters): number
  /** What a reader makes of a code, rounded to f32. */
  value(code: number, parameters: GroupParameters): number
  /** What `fit` gives for a group of zeros. */
  readonly emptyScale: number
}

/** Largest finite E4M3 value. */
export const FP8_MAX = 448
/** Scale of a group of zeros whose scales are E4M3 (§6.1 rule 8). */
const EMPTY_E4M3_SCALE = 0.125
/** Smallest normal f32: the floor under which an absmax would overflow its reciprocal. */
const SMALLEST_NORMAL = 2 ** -126
const F32_MAX = 2 ** 127 * (2 - 2 ** -23)

/**
 * NVFP4's per-tensor factor G = 448·6 / absmax, f32, stored as a divisor. `absmax` is the joint one of all parts of a fused layer (q, k, v;
 * gate, up): loaders keep one G for them. Also the factor of a calibrated input.
 */
export function nvfp4GlobalScale(absmax: number): number {
  const scale = Math.fround((FP8_MAX * FP4_MAX) / Math.max(absmax, SMALLEST_NORMAL))
  // A tensor of zeros, or nearly, overflows; its values are zero under any factor.
  return Number.isFinite(scale) ? scale : 1
}

/** `globalScale`: NVFP4's G of the matrix; no other scheme looks at it. */
export function weightGrid(scheme: Scheme, dtype: DenseDtype, globalScale = 1): WeightGrid {
  return scheme.kind === 'packed-int' ? integersOf(scheme, dtype) : floatsOf(scheme, dtype, globalScale)
}

function integersOf(scheme: Extract<Scheme, { kind: 'packed-int' }>, dtype: DenseDtype): WeightGrid {
  const grid = integerGrid(scheme, dtype)
  return {
    fit(lo, hi) {
      const unlimited = scaleOfRange(lo, hi, grid)
      const zeroPoint = zeroPointOfRange(lo, unlimited, grid)
      return { scale: limitScale(unlimited, zeroPoint, grid), zeroPoint }
    },
    code(weight, { scale, zeroPoint }) {
      const exact = Math.fround(Math.fround(weight / scale) + zeroPoint)
      return roundHalfEven(Math.min(grid.qmax, Math.max(grid.qmin, exact)))
    },
    value: (code, { scale, zeroPoint }) => Math.fround((code - zeroPoint) * scale),
    emptyScale: SCALE_EPSILON[dtype],
  }
}

function floatsOf(scheme: FloatScheme, dtype: DenseDtype, globalScale: number): WeightGrid {
  switch (scheme.kind) {
    case 'fp8':
      return symmetricGrid(E4M3, (absmax) => fp8Scale(absmax, dtype), SCALE_EPSILON[dtype])
    case 'nvfp4':
      return symmetricGrid(E2M1, (absmax) => nvfp4Scale(absmax, globalScale), EMPTY_E4M3_SCALE, globalScale)
    case 'mxfp4':
      return symmetricGrid(E2M1, (absmax) => mxScaleValue(mxScaleByte(absmax, 'fp4')), mxScaleValue(0))
    case 'mxfp8':
      return symmetricGrid(E4M3, (absmax) => mxScaleValue(mxScaleByte(absmax, 'fp8')), mxScaleValue(0))
  }
}

/** An element format: nearest code of a number already divided by its scale, and back. */
interface Element {
  readonly code: (x: number) => number
  readonly value: (code: number) => number
}

const E4M3: Element = { code: (x) => f32ToF8e4m3(Math.max(-FP8_MAX, Math.min(FP8_MAX, x))), value: f8e4m3ToF32 }
const E2M1: Element = { code: fp4Code, value: fp4Value }

function symmetricGrid(element: Element, scaleOf: (absmax: number) => number, emptyScale: number, globalScale = 1): WeightGrid {
  return {
    fit: (lo, hi) => ({ scale: scaleOf(Math.max(-lo, hi)), zeroPoint: 0 }),
    code: (weight, { scale }) => element.code(Math.fround(weight / (scale / globalScale))),
    value: (code, { scale }) => Math.fround(element.value(code) * (scale / globalScale)),
    emptyScale,
  }
}

function fp8Scale(absmax: number, dtype: DenseDtype): number {
  let scale = roundToDtype(Math.fround(absmax / FP8_MAX), dtype)
  // Rounded up, the scale of values at the very top of f32 would decode to infinity; 2^-7 is at least one unit in the last place.
  while (scale * FP8_MAX > F32_MAX) scale = roundToDtype(scale * (1 - 2 ** -7), dtype)
  return scale === 0 ? SCALE_EPSILON[dtype] : scale
}

function nvfp4Scale(absmax: number, globalScale: number): number {
  const scale = roundToDtype(Math.min(FP8_MAX, Math.fround((globalScale * absmax) / FP4_MAX)), 'F8_E4M3')
  return scale === 0 ? EMPTY_E4M3_SCALE : scale
}
