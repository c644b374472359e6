/**
 * Codes and scales as the bytes of the tensors that replace a weight (specs/compressed-tensors.md §4, §5), block of rows by block of rows.
 * Knows no files and no algorithm.
 */
import { asBytes, f32ToF8e4m3, narrowFromF32 } from '../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import { packFp4 } from '../../checkpoint/fp4.ts'
import { packColumns, packRows } from '../../checkpoint/packing.ts'
import { FP8_BLOCK, isPlainInt8 } from '../scheme.ts'
import type { ConstantRole, Scheme, StoredRole } from '../scheme.ts'
import { FP8_MAX, nvfp4GlobalScale } from '../weight-grid.ts'
import type { QuantizedRows } from './round-to-nearest.ts'

/** Zero points of any width, packed down the rows, end on a word after this many. */
const WORD_ROWS = 32

/** Rows of a block must be a multiple of this (the last block may end anywhere), so that what is encoded joins without a seam. */
export function blockRowMultiple(scheme: Scheme): number {
  return scheme.kind === 'fp8' && scheme.strategy === 'block' ? FP8_BLOCK : WORD_ROWS
}

export interface EncodedPart {
  readonly role: StoredRole
  readonly bytes: Uint8Array
}

/**
 * Bytes to append to each stored tensor, in the order of `storedTensors` without the constants. Freshly allocated, except that codes of one
 * byte and F32 scales are views of `quantized`. A per-tensor scale comes with every block; the caller keeps one.
 */
export function encodeRows(quantized: QuantizedRows, scheme: Scheme, dtype: DenseDtype): readonly EncodedPart[] {
  const { rows, cols, codes, scales, zeroPoints } = quantized
  switch (scheme.kind) {
    case 'packed-int': {
      const scale: EncodedPart = { role: 'scale', bytes: narrowFromF32(scales, dtype) }
      if (isPlainInt8(scheme)) return [{ role: 'weight', bytes: asBytes(codes) }, scale]
      const packed: EncodedPart = { role: 'packed', bytes: asBytes(packRows(codes, rows, cols, scheme.bits)) }
      if (zeroPoints === null) return [packed, scale]
      return [packed, scale, { role: 'zeroPoint', bytes: asBytes(packColumns(zeroPoints, rows, scales.length / rows, scheme.bits)) }]
    }
    case 'fp8':
      return [
        { role: 'weight', bytes: asBytes(codes) },
        { role: 'scale', bytes: narrowFromF32(scales, dtype) },
      ]
    case 'nvfp4':
      return [
        { role: 'packed', bytes: packFp4(asBytes(codes)) },
        { role: 'scale', bytes: Uint8Array.from(scales, f32ToF8e4m3) },
      ]
    case 'mxfp4':
      return [
        { role: 'packed', bytes: packFp4(asBytes(codes)) },
        { role: 'scale', bytes: Uint8Array.from(scales, powerByte) },
      ]
    case 'mxfp8':
      return [
        { role: 'weight', bytes: asBytes(codes) },
        { role: 'scale', bytes: Uint8Array.from(scales, powerByte) },
      ]
  }
}

/** The `weight_shape` tensor: rows and cols as I64. */
export function encodeShape(rows: number, cols: number): Uint8Array {
  return asBytes(BigInt64Array.of(BigInt(rows), BigInt(cols)))
}

/** E8M0 byte of a power of two. 2^-127, the scale of zeros, is exact in f32 as a subnormal. */
function powerByte(scale: number): number {
  return Math.round(Math.log2(scale)) + 127
}

/** Maxima that a matrix's constants are made of; see `schemeNeeds`. */
export interface MatrixMaxima {
  /** max |w|, of the matrix or of its fused set; null where the scheme needs none. */
  readonly weight: number | null
  /** max |x| of the linear's inputs over the calibration text; null where the scheme needs none. */
  readonly input: number | null
  /** max |k| after rotation, or max |v|, that the linear put into the cache; null where no cache scale is stored. */
  readonly cache?: number | null
}

/** Bytes of one constant tensor of a [rows, cols] matrix. */
export function encodeConstant(
  role: ConstantRole,
  scheme: Scheme,
  rows: number,
  cols: number,
  dtype: DenseDtype,
  maxima: MatrixMaxima,
): Uint8Array {
  switch (role) {
    case 'shape':
      return encodeShape(rows, cols)
    case 'globalScale':
      return asBytes(Float32Array.of(nvfp4GlobalScale(known(maxima.weight))))
    case 'inputGlobalScale':
      return asBytes(Float32Array.of(nvfp4GlobalScale(known(maxima.input))))
    case 'cacheScale':
      return narrowFromF32(Float32Array.of(known(maxima.cache ?? null) / FP8_MAX || 1), dtype)
    case 'inputScale': {
      // §6.7: absmax/448 or absmax/127.5; an input that was always zero gets 1, under which zeros stay zeros.
      const limit = scheme.activations?.element === 'int8' ? 127.5 : FP8_MAX
      return narrowFromF32(Float32Array.of(known(maxima.input) / limit || 1), dtype)
    }
  }
}

function known(maximum: number | null): number {
  if (maximum === null) throw new Error('a constant was encoded before its maximum was known')
  return maximum
}
