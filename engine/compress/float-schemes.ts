/**
 * Rounding of weight rows to the floating-point schemes: FP8 per channel or block, NVFP4, MXFP4, MXFP8 (specs/compressed-tensors.md
 * §6.1, §6.3–6.5). As for integers, a scale is rounded to its stored form first and values are rounded against what is stored. Inputs are
 * f32 and finite (the pipeline refuses NaN and infinities before); outputs are the bytes of the file.
 */
import { f32ToF8e4m3, f8e4m3ToF32, roundToDtype, type NarrowDtype } from '../checkpoint/dtypes.ts'
import { FP4_MAX, fp4Code, mxScaleByte, mxScaleValue, packFp4 } from '../checkpoint/fp4.ts'

/** Largest finite E4M3 value. */
const FP8_MAX = 448
/** Scale of a group of zeros whose scales are E4M3 (§6.1 rule 8). */
const ZERO_GROUP_E4M3_SCALE = 0.125
/** Smallest normal f32: the floor under which an absmax would overflow its reciprocal. */
const SMALLEST_NORMAL = 2 ** -126
const NVFP4_GROUP = 16
const MX_GROUP = 32

function absmaxOf(values: Float32Array): number {
  let largest = 0
  for (const value of values) {
    const magnitude = Math.abs(value)
    if (magnitude > largest) largest = magnitude
  }
  return largest
}

function requireWholeGroups(values: Float32Array, group: number, scheme: string): void {
  if (values.length % group !== 0) throw new RangeError(`${scheme} needs columns divisible by ${group}, got ${values.length}`)
}

function fp8Bytes(values: Float32Array, scale: number): Uint8Array {
  return Uint8Array.from(values, (value) => f32ToF8e4m3(Math.max(-FP8_MAX, Math.min(FP8_MAX, Math.fround(value / scale)))))
}

/** One row (or a block's values, row by row) with one scale: absmax / 448 in `scaleDtype`; a zero row gets 1. */
export function fp8WithScale(values: Float32Array, scaleDtype: NarrowDtype): { readonly bytes: Uint8Array; readonly scale: number } {
  const rounded = roundToDtype(Math.fround(absmaxOf(values) / FP8_MAX), scaleDtype)
  const scale = rounded === 0 ? 1 : rounded
  return { bytes: fp8Bytes(values, scale), scale }
}

/**
 * NVFP4's per-tensor factor G = 448·6 / absmax, f32, stored as a divisor. `absmax` is the joint one of all parts of a fused layer (q, k, v;
 * gate, up): loaders keep one G for them.
 */
export function nvfp4GlobalScale(absmax: number): number {
  const scale = Math.fround((FP8_MAX * FP4_MAX) / Math.max(absmax, SMALLEST_NORMAL))
  // A tensor of zeros, or nearly, overflows; its values are zero under any factor.
  return Number.isFinite(scale) ? scale : 1
}

/** One row in NVFP4 under G: packed codes [cols/2] and E4M3 scale bytes [cols/16]. Dequantized: code · scale / G. */
export function nvfp4Row(row: Float32Array, globalScale: number): { readonly packed: Uint8Array; readonly scales: Uint8Array } {
  requireWholeGroups(row, NVFP4_GROUP, 'NVFP4')
  const codes = new Uint8Array(row.length)
  const scales = new Uint8Array(row.length / NVFP4_GROUP)
  for (let group = 0; group < scales.length; group++) {
    const values = row.subarray(group * NVFP4_GROUP, (group + 1) * NVFP4_GROUP)
    const wanted = Math.min(FP8_MAX, Math.fround((globalScale * absmaxOf(values)) / FP4_MAX))
    let byte = f32ToF8e4m3(wanted)
    if (f8e4m3ToF32(byte) === 0) byte = f32ToF8e4m3(ZERO_GROUP_E4M3_SCALE)
    scales[group] = byte
    const effective = f8e4m3ToF32(byte) / globalScale
    for (let i = 0; i < NVFP4_GROUP; i++) codes[group * NVFP4_GROUP + i] = fp4Code((values[i] ?? 0) / effective)
  }
  return { packed: packFp4(codes), scales }
}

/** One row in MXFP4: packed codes [cols/2], E8M0 bytes [cols/32]. Magnitudes above 6 scales saturate. */
export function mxfp4Row(row: Float32Array): { readonly packed: Uint8Array; readonly scales: Uint8Array } {
  requireWholeGroups(row, MX_GROUP, 'MXFP4')
  const codes = new Uint8Array(row.length)
  const scales = new Uint8Array(row.length / MX_GROUP)
  for (let group = 0; group < scales.length; group++) {
    const values = row.subarray(group * MX_GROUP, (group + 1) * MX_GROUP)
    const byte = mxScaleByte(absmaxOf(values), 'fp4')
    scales[group] = byte
    const scale = mxScaleValue(byte)
    for (let i = 0; i < MX_GROUP; i++) codes[group * MX_GROUP + i] = fp4Code((values[i] ?? 0) / scale)
  }
  return { packed: packFp4(codes), scales }
}

/** One row in MXFP8: E4M3 bytes [cols], E8M0 bytes [cols/32]. */
export function mxfp8Row(row: Float32Array): { readonly bytes: Uint8Array; readonly scales: Uint8Array } {
  requireWholeGroups(row, MX_GROUP, 'MXFP8')
  const bytes = new Uint8Array(row.length)
  const scales = new Uint8Array(row.length / MX_GROUP)
  for (let group = 0; group < scales.length; group++) {
    const values = row.subarray(group * MX_GROUP, (group + 1) * MX_GROUP)
    const byte = mxScaleByte(absmaxOf(values), 'fp8')
    scales[group] = byte
    bytes.set(fp8Bytes(values, mxScaleValue(byte)), group * MX_GROUP)
  }
  return { bytes, scales }
}
