/**
 * How many bytes a matrix takes under each storage scheme, scales and zero points included (specs/benchmark.md §7.1), and what the scheme asks
 * of a device. Data and one formula; exact sizes of files that exist come from their headers.
 */
import type { Device } from './devices.ts'
import type { Matrix, ModelShape } from './model-shape.ts'

export interface StorageSchemeSpec {
  readonly id: string
  readonly title: string
  readonly bits: number
  /** `columns` weights (in each of `rows` rows) share one scale of `bytes`; null columns = a whole row. */
  readonly scale: { readonly rows: number; readonly columns: number | null; readonly bytes: number } | null
  /** One zero point of `bits` beside each scale. */
  readonly asymmetric: boolean
  /** What products of many tokens are computed in on a server's matrix units: 16-bit for weight-only schemes. */
  readonly computes: 'bf16' | 'fp8' | 'int8' | 'fp4'
  /** The nearest of Lathe's own kernels. */
  readonly kernel: 'bf16' | 'int8' | 'int4'
}

function group(columns: number, bytes = 2): StorageSchemeSpec['scale'] {
  return { rows: 1, columns, bytes }
}

const CHANNEL: StorageSchemeSpec['scale'] = { rows: 1, columns: null, bytes: 2 }

export const BF16: StorageSchemeSpec = {
  id: 'bf16',
  title: 'BF16',
  bits: 16,
  scale: null,
  asymmetric: false,
  computes: 'bf16',
  kernel: 'bf16',
}

function weightOnly(
  id: string,
  title: string,
  bits: number,
  scale: StorageSchemeSpec['scale'],
  more: Partial<StorageSchemeSpec> = {},
): StorageSchemeSpec {
  return { id, title, bits, scale, asymmetric: false, computes: 'bf16', kernel: bits > 4 ? 'int8' : 'int4', ...more }
}

/** Most bits first. */
export const STORAGE_SCHEMES: readonly StorageSchemeSpec[] = [
  BF16,
  weightOnly('mxfp8', 'MXFP8', 8, group(32, 1), { computes: 'fp8' }),
  weightOnly('fp8', 'FP8 W8A8 channel', 8, CHANNEL, { computes: 'fp8' }),
  weightOnly('w8a8', 'INT8 W8A8 channel', 8, CHANNEL, { computes: 'int8' }),
  weightOnly('w8a16', 'W8A16 channel', 8, CHANNEL),
  weightOnly('fp8-block', 'FP8 128×128 blocks', 8, { rows: 128, columns: 128, bytes: 4 }, { computes: 'fp8' }),
  weightOnly('w4a16-g32-asym', 'W4A16 g32 asymmetric', 4, group(32), { asymmetric: true }),
  weightOnly('w4a16-g32', 'W4A16 g32', 4, group(32)),
  weightOnly('nvfp4', 'NVFP4', 4, group(16, 1), { computes: 'fp4' }),
  weightOnly('mxfp4', 'MXFP4', 4, group(32, 1), { computes: 'fp4' }),
  weightOnly('w4a16-g64', 'W4A16 g64', 4, group(64)),
  weightOnly('w4a16-g128', 'W4A16 g128', 4, group(128)),
  weightOnly('w3a16-g128', 'W3A16 g128', 3, group(128)),
  weightOnly('w2a16-g64', 'W2A16 g64', 2, group(64)),
]

export function findScheme(id: string): StorageSchemeSpec | null {
  return STORAGE_SCHEMES.find((scheme) => scheme.id === id) ?? null
}

/** Stored bytes of one matrix. */
export function matrixBytes({ rows, columns }: Pick<Matrix, 'rows' | 'columns'>, scheme: StorageSchemeSpec): number {
  const codes = (rows * columns * scheme.bits) / 8
  if (scheme.scale === null) return codes
  const scales = Math.ceil(rows / scheme.scale.rows) * Math.ceil(columns / (scheme.scale.columns ?? columns))
  return codes + scales * scheme.scale.bytes + (scheme.asymmetric ? (scales * scheme.bits) / 8 : 0)
}

/** Bytes per weight of a wide matrix; for tables. */
export function bytesPerWeight(scheme: StorageSchemeSpec, columns: number): number {
  const rows = scheme.scale?.rows ?? 1
  return matrixBytes({ rows, columns }, scheme) / (rows * columns)
}

/** Where the bytes of a model are. */
export interface WeightParts {
  /** Linears that every token reads. */
  readonly dense: number
  /** Linears of experts, of which a batch reads some. */
  readonly routed: number
  readonly embedding: number
  /** 0 when the embedding serves as head. */
  readonly head: number
  readonly other: number
}

const KEPT_BYTES = 2

/** Linears under the scheme; embeddings, head, norms and routers stay at 16 bits, as recipes leave them. */
export function weightPartsOf(shape: ModelShape, scheme: StorageSchemeSpec): WeightParts {
  const bytesOf = (routed: boolean): number =>
    shape.matrices
      .filter((matrix) => matrix.routed === routed)
      .reduce((sum, matrix) => sum + matrix.stored * matrixBytes(matrix, matrix.kept ? BF16 : scheme), 0)
  return {
    dense: bytesOf(false),
    routed: bytesOf(true),
    embedding: shape.embeddingParameters * KEPT_BYTES,
    head: shape.headParameters * KEPT_BYTES,
    other: shape.otherParameters * KEPT_BYTES,
  }
}

export function totalBytes(parts: WeightParts): number {
  return parts.dense + parts.routed + parts.embedding + parts.head + parts.other
}

/** Why vLLM on this device is the wrong place for the scheme; null when it is not (specs/deploy.md §2). */
export function cautionOn(device: Device, scheme: StorageSchemeSpec): string | null {
  const { vendor, tensor, name } = device
  if (scheme.bits > 8) return null
  if (scheme.computes === 'fp8' && tensor.fp8 === null) {
    return vendor === 'nvidia'
      ? `${name} has no FP8 units: vLLM falls back to weight-only kernels, so memory shrinks and arithmetic does not get faster.`
      : `${name} has no FP8 units.`
  }
  if (scheme.computes === 'fp4' && tensor.fp4 === null)
    return `${name} has no 4-bit float units: at best a weight-only fallback, on Blackwell this scheme is at home.`
  if (scheme.computes === 'int8' && vendor !== 'nvidia') return `vLLM's INT8 W8A8 kernels are for NVIDIA; ${name} is not.`
  if (scheme.bits < 4) return `vLLM has no fast kernels for ${scheme.bits}-bit weights.`
  // B300's INT8 rate is a fifteenth of its BF16 rate (specs/benchmark.md §8, warning e)
  if (scheme.computes === 'int8' && tensor.int8 !== null && tensor.bf16 !== null && tensor.int8 < tensor.bf16)
    return `${name} nearly gave up INT8: use FP8 there.`
  if (scheme.computes === 'bf16' && vendor !== 'nvidia')
    return `vLLM runs pack-quantized weights with Marlin kernels, which need an NVIDIA GPU; ${name} is not one.`
  return null
}
