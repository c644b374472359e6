/**
 * How keys and values are stored, per token and head (specs/runtime.md §10). A quantized head row is one f32 scale and its codes, made from that
 * row alone when it is appended: no calibration, and chunks or neighbours change nothing. Here is the arithmetic in f64, which the reference
 * backend runs and rope-append.wgsl mirrors, and the bytes.
 *
 *   fp8   e4m3 of x / (max|x| / 448), or of x / s where a checkpoint brings s for the whole layer or head (KvLayout.staticScales)
 *   int8  round(x / (max|x| / 127)), half to even
 *   int4  round(x / (m / −8)) in −8 … 7, where m is the element of greatest magnitude, the positive one of two: m itself is exact
 */
import type { KvDtype, KvLayout } from './program.ts'

export const KV_DTYPES = ['f32', 'f16', 'fp8', 'int8', 'int4'] as const satisfies readonly KvDtype[]

/** One type for keys and values, or `keys/values`. */
export type KvSetting = KvDtype | `${KvDtype}/${KvDtype}`

/** null for anything else. */
export function parseKvSetting(text: string): KvSetting | null {
  const parts = text.split('/')
  const known = parts.every((part) => (KV_DTYPES as readonly string[]).includes(part))
  return known && parts.length <= 2 ? (text as KvSetting) : null
}

/** What somebody asks for: a type, or whatever the checkpoint itself names (vLLM's `--kv-cache-dtype auto`). */
export type KvWish = KvSetting | 'auto'

/** Of a cache where neither the wish nor the checkpoint names a type. */
export const DEFAULT_KV_DTYPE = 'f16' satisfies KvSetting

/** null for anything else. */
export function parseKvWish(text: string): KvWish | null {
  return text === 'auto' ? text : parseKvSetting(text)
}

/** An explicit type wins over the checkpoint's own (null = it names none). */
export function resolveKvWish(wish: KvWish, own: KvSetting | null): KvSetting {
  return wish === 'auto' ? (own ?? DEFAULT_KV_DTYPE) : wish
}

export function kvDtypesOf(setting: KvSetting): { readonly key: KvDtype; readonly value: KvDtype } {
  const [key, value] = setting.split('/') as [KvDtype, KvDtype | undefined]
  return { key, value: value ?? key }
}

export function valueDtypeOf(layout: KvLayout): KvDtype {
  return layout.valueDtype ?? layout.dtype
}

export function isQuantized(dtype: KvDtype): boolean {
  return dtype !== 'f32' && dtype !== 'f16'
}

/** Codes of a row fill whole words of eight int4. */
const ROW_UNIT = 8
const SCALE_BYTES = 4
const CODE_BITS: Readonly<Record<KvDtype, number>> = { f32: 32, f16: 16, fp8: 8, int8: 8, int4: 4 }

/** Bytes of one head of one token, its scale included. */
export function kvRowBytes(dtype: KvDtype, headDim: number): number {
  if (!isQuantized(dtype)) return (headDim * CODE_BITS[dtype]) / 8
  return SCALE_BYTES + (Math.ceil(headDim / ROW_UNIT) * ROW_UNIT * CODE_BITS[dtype]) / 8
}

/** Keys and values of all layers and heads for one token. */
export function kvTokenBytes(layout: Pick<KvLayout, 'layers' | 'kvHeads' | 'headDim' | 'dtype' | 'valueDtype'>): number {
  const { layers, kvHeads, headDim, dtype, valueDtype = dtype } = layout
  return layers * kvHeads * (kvRowBytes(dtype, headDim) + kvRowBytes(valueDtype, headDim))
}

const FP8_MOST = 448
const INT8_MOST = 127
/** Least normal f32: what a device cannot divide by counts as a row of zeros. */
const LEAST_SCALE = 2 ** -126
const INT4_LEAST = -8
const INT4_MOST = 7

/** The scale that a side of a layer's head has beforehand; null = each row finds its own. */
export function staticScaleOf(layout: KvLayout, which: 'k' | 'v', layer: number, head: number): number | null {
  const { staticScales = null } = layout
  const dtype = which === 'k' ? layout.dtype : valueDtypeOf(layout)
  if (staticScales === null || dtype !== 'fp8') return null
  const scales = (which === 'k' ? staticScales.keys : staticScales.values)[layer]
  const scale = scales?.[scales.length === 1 ? 0 : head]
  if (scale === undefined) throw new RangeError(`There is no ${which} scale for head ${head} of layer ${layer}`)
  return scale
}

/** What a cache of this type gives back for a head row; `staticScale` is for fp8 only. Rows that are not finite come back as NaN. */
export function quantizeKvRow(row: Float64Array, dtype: 'fp8' | 'int8' | 'int4', staticScale: number | null = null): Float64Array {
  if (!row.every(Number.isFinite)) return row.map(() => Number.NaN)
  if (staticScale !== null) return row.map((value) => staticScale * roundToE4m3(value / staticScale))
  const high = row.reduce((most, value) => Math.max(most, value), 0)
  const low = row.reduce((least, value) => Math.min(least, value), 0)
  const most = Math.max(high, -low)
  const scale = Math.fround(
    dtype === 'fp8' ? most / FP8_MOST : dtype === 'int8' ? most / INT8_MOST : (high >= -low ? high : low) / INT4_LEAST,
  )
  if (Math.abs(scale) < LEAST_SCALE) return row.map(() => 0)
  if (dtype === 'fp8') return row.map((value) => scale * roundToE4m3(value / scale))
  const [least, greatest] = dtype === 'int8' ? [-INT8_MOST, INT8_MOST] : [INT4_LEAST, INT4_MOST]
  return row.map((value) => scale * Math.max(least, Math.min(roundHalfEven(value / scale), greatest)))
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor
}

/** Least exponent of a normal e4m3 number, and bits of its mantissa. */
const E4M3_LEAST_EXPONENT = -6
const E4M3_MANTISSA_BITS = 3

/** Nearest e4m3 number, ties to even, saturating. */
export function roundToE4m3(value: number): number {
  const magnitude = Math.min(Math.abs(value), FP8_MOST)
  if (magnitude === 0) return 0
  const exponent = Math.max(E4M3_LEAST_EXPONENT, Math.floor(Math.log2(magnitude)))
  const unit = 2 ** (exponent - E4M3_MANTISSA_BITS)
  return Math.sign(value) * Math.min(FP8_MOST, roundHalfEven(magnitude / unit) * unit)
}
