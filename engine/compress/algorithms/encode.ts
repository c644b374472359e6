/**
 * Codes and scales as the bytes of the tensors that replace a weight (specs/compressed-tensors.md §4, §5.1), block of rows by block of
 * rows. Knows no files and no algorithm.
 */
import { asBytes, narrowFromF32 } from '../../checkpoint/dtypes.ts'
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import { packColumns, packRows } from '../../checkpoint/packing.ts'
import type { IntegerScheme, StoredRole } from '../scheme.ts'
import type { QuantizedRows } from './round-to-nearest.ts'

/** Rows of a block must be a multiple of this, so that zero points packed down the rows end on a word (the last block may end anywhere). */
export const BLOCK_ROW_MULTIPLE = 32

export interface EncodedPart {
  readonly role: StoredRole
  readonly bytes: Uint8Array
}

/**
 * Bytes to append to each stored tensor, in the order of `storedTensors` without the shape. The bytes are freshly allocated, except that
 * F32 scales are a view of `quantized.scales`.
 */
export function encodeRows(quantized: QuantizedRows, scheme: IntegerScheme, dtype: DenseDtype): readonly EncodedPart[] {
  const { rows, cols, codes, scales, zeroPoints } = quantized
  const packed: EncodedPart = { role: 'packed', bytes: asBytes(packRows(codes, rows, cols, scheme.bits)) }
  const scale: EncodedPart = { role: 'scale', bytes: narrowFromF32(scales, dtype) }
  if (zeroPoints === null) return [packed, scale]
  return [packed, scale, { role: 'zeroPoint', bytes: asBytes(packColumns(zeroPoints, rows, scales.length / rows, scheme.bits)) }]
}

/** The `weight_shape` tensor: rows and cols as I64. */
export function encodeShape(rows: number, cols: number): Uint8Array {
  return asBytes(BigInt64Array.of(BigInt(rows), BigInt(cols)))
}
