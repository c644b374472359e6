/**
 * A scheme is what is stored: bits, signedness, and how many weights share one scale. It says nothing about how values are chosen
 * (algorithms/) nor where bytes go (layout.ts). Facts from specs/compressed-tensors.md §2.3 (args), §3 (formats) and §4 (tensors).
 */
import type { DenseDtype } from '../checkpoint/dtypes.ts'
import { packedWords } from '../checkpoint/packing.ts'
import type { TensorLayout } from '../checkpoint/safetensors-writer.ts'
import type { QuantizationArgs } from '../checkpoint/types.ts'

/** Weight-only integer schemes; further families (FP8, NVFP4, activations) join as members of this union. */
export interface IntegerScheme {
  readonly kind: 'packed-int'
  /** 4 or 8: the widths whose packing is the same before and after the layout change of 2026-05 (spec §5.2). */
  readonly bits: 4 | 8
  readonly symmetric: boolean
  readonly strategy: 'channel' | 'group'
  /** Consecutive columns per scale; null for `channel`, where a whole row shares one. */
  readonly groupSize: number | null
}

export type Scheme = IntegerScheme

/** What each of the tensors that replace a weight is. */
export type StoredRole = 'packed' | 'scale' | 'zeroPoint' | 'shape'

export interface StoredTensor extends TensorLayout {
  readonly role: StoredRole
}

/** "W4A16 g128", "W4A16 g32 asymmetric", "W8A16 channel". */
export function schemeName(scheme: Scheme): string {
  const unit = scheme.strategy === 'channel' ? 'channel' : `g${scheme.groupSize}`
  return `W${scheme.bits}A16 ${unit}${scheme.symmetric ? '' : ' asymmetric'}`
}

export function schemeFormat(scheme: Scheme): 'pack-quantized' {
  switch (scheme.kind) {
    case 'packed-int':
      return 'pack-quantized'
  }
}

export function weightArgs(scheme: Scheme): QuantizationArgs {
  return {
    numBits: scheme.bits,
    type: 'int',
    symmetric: scheme.symmetric,
    strategy: scheme.strategy,
    groupSize: scheme.groupSize,
    blockStructure: null,
    dynamic: false,
    actorder: null,
    scaleDtype: null,
  }
}

/** Columns that share one scale in a matrix of `cols` columns. */
export function columnsPerScale(scheme: Scheme, cols: number): number {
  return scheme.groupSize ?? cols
}

/** Why this scheme cannot store a [rows, cols] matrix, or null when it can. */
export function refusal(scheme: Scheme, rows: number, cols: number): string | null {
  if (rows === 0 || cols === 0) return `it is empty (${rows} × ${cols})`
  const group = scheme.groupSize
  if (group === null) return null
  if (cols < group) return `its ${cols} columns are fewer than one group of ${group}`
  if (cols % group !== 0) return `its ${cols} columns are not divisible by the group size ${group}`
  return null
}

/**
 * The tensors that replace `<module>.weight` of shape [rows, cols], in a fixed order: packed codes, scales, zero points (asymmetric
 * only), shape. Zero points are packed down the rows (spec §5.1).
 */
export function storedTensors(scheme: Scheme, module: string, rows: number, cols: number, dtype: DenseDtype): readonly StoredTensor[] {
  const groups = cols / columnsPerScale(scheme, cols)
  const packed: StoredTensor = {
    role: 'packed',
    name: `${module}.weight_packed`,
    dtype: 'I32',
    shape: [rows, packedWords(cols, scheme.bits)],
  }
  const scale: StoredTensor = { role: 'scale', name: `${module}.weight_scale`, dtype, shape: [rows, groups] }
  const shape: StoredTensor = { role: 'shape', name: `${module}.weight_shape`, dtype: 'I64', shape: [2] }
  if (scheme.symmetric) return [packed, scale, shape]
  const zeroPoint: StoredTensor = {
    role: 'zeroPoint',
    name: `${module}.weight_zero_point`,
    dtype: 'I32',
    shape: [packedWords(rows, scheme.bits), groups],
  }
  return [packed, scale, zeroPoint, shape]
}

export function sameScheme(a: Scheme, b: Scheme): boolean {
  return a.kind === b.kind && a.bits === b.bits && a.symmetric === b.symmetric && a.strategy === b.strategy && a.groupSize === b.groupSize
}
