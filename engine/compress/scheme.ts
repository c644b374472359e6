/**
 * A scheme is what is stored: the number format of weights, how many of them share one scale, and how a server rounds the activations they
 * meet. It says nothing about how values are chosen (algorithms/) nor how they become bytes (algorithms/encode.ts). Facts from
 * specs/compressed-tensors.md §2.6 (presets), §3 (formats; "trap 1": the format is chosen here, not inferred) and §4 (tensors).
 */
import type { DenseDtype } from '../checkpoint/dtypes.ts'
import { packedWords } from '../checkpoint/packing.ts'
import type { StorageFormat } from '../checkpoint/quantization-config.ts'
import type { InputElement } from '../contract/hardware.ts'
import type { TensorLayout } from '../checkpoint/safetensors-writer.ts'

export type IntegerBits = 2 | 3 | 4 | 5 | 6 | 7 | 8
export const INTEGER_BITS: readonly IntegerBits[] = [2, 3, 4, 5, 6, 7, 8]

/**
 * How inputs of a linear are rounded where it is served. `token` and `group` scales are found as the input comes; a `tensor` scale, and
 * NVFP4's factor G, are calibrated and stored. Symmetric always: an asymmetric input scheme has no stored form that vLLM's weights accept.
 */
export type ActivationScheme =
  | { readonly element: 'int8'; readonly scale: 'token' | 'tensor' }
  | { readonly element: 'fp8'; readonly scale: 'token' | 'tensor' | 'group128' }
  | { readonly element: 'nvfp4' | 'mxfp4' | 'mxfp8'; readonly scale: 'group' }

interface WithActivations {
  /** Null or absent: inputs stay in 16 bits ("A16"). */
  readonly activations?: ActivationScheme | null
}

/** Integers of `bits` bits with a scale in the model's dtype. */
export interface IntegerScheme extends WithActivations {
  readonly kind: 'packed-int'
  readonly bits: IntegerBits
  readonly symmetric: boolean
  readonly strategy: 'channel' | 'group'
  /** Consecutive columns per scale; null for `channel`, where a whole row shares one. */
  readonly groupSize: number | null
}

/** E4M3 with a scale in the model's dtype per tensor, per row, or per block of 128 × 128. */
export interface Fp8Scheme extends WithActivations {
  readonly kind: 'fp8'
  readonly strategy: 'tensor' | 'channel' | 'block'
}

/** NVFP4: E2M1 in groups of 16 with E4M3 scales under one F32 factor. MXFP4, MXFP8: E2M1, E4M3 in groups of 32 with powers of two. */
export interface BlockFloatScheme extends WithActivations {
  readonly kind: 'nvfp4' | 'mxfp4' | 'mxfp8'
}

export type FloatScheme = Fp8Scheme | BlockFloatScheme
export type Scheme = IntegerScheme | FloatScheme

export const FP8_BLOCK = 128
export const NVFP4_GROUP = 16
export const MX_GROUP = 32

function integers(bits: IntegerBits, symmetric: boolean, activations: ActivationScheme | null = null): IntegerScheme {
  return { kind: 'packed-int', bits, symmetric, strategy: 'group', groupSize: 128, ...(activations === null ? {} : { activations }) }
}

const W8A8: IntegerScheme = {
  kind: 'packed-int',
  bits: 8,
  symmetric: true,
  strategy: 'channel',
  groupSize: null,
  activations: { element: 'int8', scale: 'token' },
}

/** Names that recipes use for whole schemes: LLM Compressor's, and W{2,3,5,6,7}A16 in groups of 128 beside its W4A16 and W8A16. */
export const PRESET_SCHEMES: Readonly<Record<string, Scheme>> = {
  W2A16: integers(2, true),
  W3A16: integers(3, true),
  W4A16: integers(4, true),
  W4A16_ASYM: integers(4, false),
  W5A16: integers(5, true),
  W6A16: integers(6, true),
  W7A16: integers(7, true),
  W8A16: integers(8, true),
  W8A8: W8A8,
  INT8: W8A8,
  W4AFP8: integers(4, true, { element: 'fp8', scale: 'token' }),
  FP8: { kind: 'fp8', strategy: 'tensor', activations: { element: 'fp8', scale: 'tensor' } },
  FP8_DYNAMIC: { kind: 'fp8', strategy: 'channel', activations: { element: 'fp8', scale: 'token' } },
  FP8_BLOCK: { kind: 'fp8', strategy: 'block', activations: { element: 'fp8', scale: 'group128' } },
  NVFP4A16: { kind: 'nvfp4' },
  NVFP4: { kind: 'nvfp4', activations: { element: 'nvfp4', scale: 'group' } },
  MXFP4A16: { kind: 'mxfp4' },
  MXFP4: { kind: 'mxfp4', activations: { element: 'mxfp4', scale: 'group' } },
  MXFP8A16: { kind: 'mxfp8' },
  MXFP8: { kind: 'mxfp8', activations: { element: 'mxfp8', scale: 'group' } },
}

/** What each of the tensors that replace a weight is. `packed` and `weight` hold codes; constants are one number or two. */
export type StoredRole = 'packed' | 'weight' | 'scale' | 'zeroPoint' | ConstantRole
/** Tensors whose bytes do not grow with the matrix; written once, at its end. */
export type ConstantRole = 'shape' | 'globalScale' | 'inputScale' | 'inputGlobalScale' | 'cacheScale'

export function isConstant(role: StoredRole): role is ConstantRole {
  return role === 'shape' || role === 'globalScale' || role === 'inputScale' || role === 'inputGlobalScale' || role === 'cacheScale'
}

export interface StoredTensor extends TensorLayout {
  readonly role: StoredRole
}

/** "W4A16 g128", "W4A16 g32 asymmetric", "W8A16 channel", "W8A8", "FP8_DYNAMIC", "NVFP4A16". */
export function schemeName(scheme: Scheme): string {
  const activations = scheme.activations ?? null
  switch (scheme.kind) {
    case 'packed-int': {
      if (activations?.element === 'int8' && scheme.strategy === 'channel' && scheme.symmetric) {
        return `W${scheme.bits}A8${activations.scale === 'tensor' ? ' static' : ''}`
      }
      const unit = scheme.strategy === 'channel' ? 'channel' : `g${scheme.groupSize}`
      return `W${scheme.bits}${activationName(activations)} ${unit}${scheme.symmetric ? '' : ' asymmetric'}`
    }
    case 'fp8':
      if (activations === null) return `FP8A16 ${scheme.strategy}`
      if (scheme.strategy === 'tensor' && activations.scale === 'tensor') return 'FP8'
      if (scheme.strategy === 'channel' && activations.scale === 'token') return 'FP8_DYNAMIC'
      if (scheme.strategy === 'block' && activations.scale === 'group128') return 'FP8_BLOCK'
      return `FP8 ${scheme.strategy} with ${activations.element} inputs per ${activations.scale}`
    case 'nvfp4':
    case 'mxfp4':
    case 'mxfp8':
      return `${scheme.kind.toUpperCase()}${activations === null ? 'A16' : ''}`
  }
}

function activationName(activations: ActivationScheme | null): string {
  if (activations === null) return 'A16'
  const name = activations.element === 'int8' ? 'A8' : `A${activations.element.toUpperCase()}`
  return `${name}${activations.scale === 'tensor' ? ' static' : ''}`
}

/** The `format` of the scheme's config group. W8A8 is the one integer scheme that vLLM reads unpacked. */
export function schemeFormat(scheme: Scheme): StorageFormat {
  switch (scheme.kind) {
    case 'packed-int':
      return isPlainInt8(scheme) ? 'int-quantized' : 'pack-quantized'
    case 'fp8':
      return (scheme.activations ?? null) === null ? 'naive-quantized' : 'float-quantized'
    case 'nvfp4':
      return 'nvfp4-pack-quantized'
    case 'mxfp4':
      return 'mxfp4-pack-quantized'
    case 'mxfp8':
      return 'mxfp8-quantized'
  }
}

/** Stored as plain I8, one byte a weight. */
export function isPlainInt8(scheme: Scheme): boolean {
  return scheme.kind === 'packed-int' && scheme.bits === 8 && scheme.activations?.element === 'int8'
}

/** Consecutive columns that share one scale in a matrix of `cols` columns. A last block of FP8_BLOCK may be narrower. */
export function columnsPerScale(scheme: Scheme, cols: number): number {
  switch (scheme.kind) {
    case 'packed-int':
      return scheme.groupSize ?? cols
    case 'fp8':
      return scheme.strategy === 'block' ? FP8_BLOCK : cols
    case 'nvfp4':
      return NVFP4_GROUP
    case 'mxfp4':
    case 'mxfp8':
      return MX_GROUP
  }
}

/** Consecutive rows that share one scale in a matrix of `rows` rows. */
export function rowsPerScale(scheme: Scheme, rows: number): number {
  if (scheme.kind !== 'fp8' || scheme.strategy === 'channel') return 1
  return scheme.strategy === 'block' ? FP8_BLOCK : rows
}

/** Largest magnitudes that must be known before a matrix's first row can be stored, or its last tensor written. */
export interface SchemeNeeds {
  /** max |w| of the whole matrix: its scale (`tensor`), or the joint one of its fused partners (`fused`), which share G. */
  readonly weightMaximum: 'tensor' | 'fused' | null
  /** max |x| over the inputs of the linear, from calibration. */
  readonly inputMaximum: boolean
}

export function schemeNeeds(scheme: Scheme): SchemeNeeds {
  const activations = scheme.activations ?? null
  return {
    weightMaximum: scheme.kind === 'nvfp4' ? 'fused' : scheme.kind === 'fp8' && scheme.strategy === 'tensor' ? 'tensor' : null,
    inputMaximum: activations !== null && (activations.scale === 'tensor' || activations.element === 'nvfp4'),
  }
}

/** Why this scheme cannot store a [rows, cols] matrix, or null when it can. */
export function refusal(scheme: Scheme, rows: number, cols: number): string | null {
  if (rows === 0 || cols === 0) return `it is empty (${rows} × ${cols})`
  if (scheme.kind === 'packed-int' && scheme.groupSize === null) return null
  if (scheme.kind === 'fp8') return null
  const group = columnsPerScale(scheme, cols)
  if (cols < group) return `its ${cols} columns are fewer than one group of ${group}`
  if (cols % group !== 0) return `its ${cols} columns are not divisible by the group size ${group}`
  return null
}

/**
 * The tensors that replace `<module>.weight` of shape [rows, cols], in a fixed order: codes, scales, zero points (asymmetric only; packed
 * down the rows, spec §5.1), then the constants.
 */
export function storedTensors(scheme: Scheme, module: string, rows: number, cols: number, dtype: DenseDtype): readonly StoredTensor[] {
  const tensor = (role: StoredRole, suffix: string, stored: StoredTensor['dtype'], shape: readonly number[]): StoredTensor => {
    return { role, name: `${module}.${suffix}`, dtype: stored, shape }
  }
  const groups = Math.ceil(cols / columnsPerScale(scheme, cols))
  const static16 = scheme.activations?.scale === 'tensor' ? [tensor('inputScale', 'input_scale', dtype, [1])] : []
  switch (scheme.kind) {
    case 'packed-int': {
      const scale = tensor('scale', 'weight_scale', dtype, [rows, groups])
      if (isPlainInt8(scheme)) return [tensor('weight', 'weight', 'I8', [rows, cols]), scale, ...static16]
      const packed = tensor('packed', 'weight_packed', 'I32', [rows, packedWords(cols, scheme.bits)])
      const shape = tensor('shape', 'weight_shape', 'I64', [2])
      if (scheme.symmetric) return [packed, scale, shape, ...static16]
      const zeroPoint = tensor('zeroPoint', 'weight_zero_point', 'I32', [packedWords(rows, scheme.bits), groups])
      return [packed, scale, zeroPoint, shape, ...static16]
    }
    case 'fp8': {
      const shape = scheme.strategy === 'tensor' ? [1] : [Math.ceil(rows / rowsPerScale(scheme, rows)), groups]
      return [tensor('weight', 'weight', 'F8_E4M3', [rows, cols]), tensor('scale', 'weight_scale', dtype, shape), ...static16]
    }
    case 'nvfp4': {
      const global = tensor('globalScale', 'weight_global_scale', 'F32', [1])
      const input = (scheme.activations ?? null) === null ? [] : [tensor('inputGlobalScale', 'input_global_scale', 'F32', [1])]
      return [
        tensor('packed', 'weight_packed', 'U8', [rows, cols / 2]),
        tensor('scale', 'weight_scale', 'F8_E4M3', [rows, groups]),
        global,
        ...input,
      ]
    }
    case 'mxfp4':
      return [tensor('packed', 'weight_packed', 'U8', [rows, cols / 2]), tensor('scale', 'weight_scale', 'U8', [rows, groups])]
    case 'mxfp8':
      return [tensor('weight', 'weight', 'F8_E4M3', [rows, cols]), tensor('scale', 'weight_scale', 'U8', [rows, groups])]
  }
}

/**
 * The scale of an FP8 cache (specs/compressed-tensors.md §7), stored beside the projection that fills it: `k_scale` with `k_proj`, `v_scale`
 * with `v_proj`. Null for other modules.
 */
export function cacheScaleTensor(module: string, dtype: DenseDtype): StoredTensor | null {
  const found = /^(.*self_attn\.)([kv])_proj$/.exec(module)
  return found === null ? null : { role: 'cacheScale', name: `${found[1] ?? ''}${found[2] ?? ''}_scale`, dtype, shape: [1] }
}

/** What inputs are rounded to before they meet the weights; empty for weight-only schemes. */
export function inputElementsOf(scheme: Scheme): readonly InputElement[] {
  switch (scheme.activations?.element) {
    case undefined:
      return []
    case 'int8':
      return ['int8']
    case 'fp8':
    case 'mxfp8':
      return ['e4m3']
    case 'nvfp4':
    case 'mxfp4':
      return ['e2m1']
  }
}

export function sameScheme(a: Scheme, b: Scheme): boolean {
  return canonical(a) === canonical(b)
}

function canonical(scheme: Scheme): string {
  const { activations, ...weights } = scheme
  return JSON.stringify([Object.entries(weights).sort(([a], [b]) => (a < b ? -1 : 1)), activations ?? null])
}
