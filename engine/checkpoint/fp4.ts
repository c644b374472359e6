/**
 * 4-bit floats (E2M1) and the shared power-of-two scales of the microscaling formats (specs/compressed-tensors.md §5.3, §6.1, §6.4).
 * Code = sign << 3 | index into 0, ½, 1, 1½, 2, 3, 4, 6. Two codes a byte, the even column in the low nibble. These are number formats
 * only: which scale a group gets is the quantizer's business.
 */

/** Magnitudes by index. */
export const FP4_MAGNITUDES: readonly number[] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]

/** Largest finite magnitude. */
export const FP4_MAX = 6

/**
 * Nearest code. Ties go to the even index, as in the reference's thresholds: 0.25 → 0, 0.75 → 1, 1.25 → 1, 1.75 → 2, 2.5 → 2, 3.5 → 4,
 * 5 → 4. Larger magnitudes saturate at 6. The sign survives rounding to zero: −0.1 → code 8. NaN is the caller's to refuse.
 */
export function fp4Code(value: number): number {
  const magnitude = Math.abs(value)
  let index: number
  if (magnitude <= 0.25) index = 0
  else if (magnitude < 0.75) index = 1
  else if (magnitude <= 1.25) index = 2
  else if (magnitude < 1.75) index = 3
  else if (magnitude <= 2.5) index = 4
  else if (magnitude < 3.5) index = 5
  else if (magnitude <= 5) index = 6
  else index = 7
  return value < 0 || Object.is(value, -0) ? index | 8 : index
}

export function fp4Value(code: number): number {
  const magnitude = FP4_MAGNITUDES[code & 7] ?? 0
  return (code & 8) === 0 ? magnitude : -magnitude
}

/** [n] codes → [n/2] bytes. Throws RangeError for an odd count: a column would have no partner. */
export function packFp4(codes: Uint8Array): Uint8Array {
  if (codes.length % 2 !== 0) throw new RangeError(`4-bit floats are stored in pairs; ${codes.length} columns is odd`)
  return Uint8Array.from({ length: codes.length / 2 }, (_, k) => (codes[2 * k] ?? 0) | ((codes[2 * k + 1] ?? 0) << 4))
}

/** [n] bytes → [2n] codes. */
export function unpackFp4(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from({ length: bytes.length * 2 }, (_, i) => ((bytes[i >> 1] ?? 0) >> ((i & 1) * 4)) & 15)
}

const scratchF32 = new Float32Array(1)
const scratchU32 = new Uint32Array(scratchF32.buffer)

/** Exponent offsets of §6.4: how far below the group's largest value the scale sits, so that it lands near the element format's top. */
export const MX_EXPONENT_OFFSET = { fp4: 2, fp8: 8 } as const

/**
 * E8M0 byte of a microscaling group from its largest magnitude. The power of two is rounded up only where the significand is at least
 * 1.75: a quarter is added to the mantissa and what carries decides. 0 for a group of zeros; saturates at 0 and 254 (255 is NaN).
 */
export function mxScaleByte(absmax: number, element: keyof typeof MX_EXPONENT_OFFSET): number {
  scratchF32[0] = absmax
  const exponent = ((scratchU32[0] ?? 0) + (1 << 21)) >>> 23
  return Math.min(254, Math.max(0, exponent - MX_EXPONENT_OFFSET[element]))
}

/** 2^(byte − 127). */
export function mxScaleValue(byte: number): number {
  return 2 ** (byte - 127)
}
