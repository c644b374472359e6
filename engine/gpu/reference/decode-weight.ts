/**
 * Stored weights as f64 matrices: the oracle's own reading of dense dtypes, of pack-quantized integers (specs/compressed-tensors.md §5.1) and
 * of 8- and 4-bit floats (§5.3, §6.3–6.5), written independently of engine/checkpoint so that an error there cannot hide here. Decodes whole
 * matrices; slow and plain.
 */
import type { WeightBytes, WeightFormat, WeightPart, WeightSpec } from '../program.ts'
import { decodeBf16, decodeF16 } from './float16.ts'

type PackedFormat = Extract<WeightFormat, { kind: 'packed-int' }>
type FloatFormat = Extract<WeightFormat, { kind: 'packed-float' }>
type DenseDtype = Extract<WeightFormat, { kind: 'dense' }>['dtype']

/** [rows, cols] of the weight, its parts one after another. */
export async function decodeWeight(weight: WeightSpec): Promise<Float64Array> {
  const matrix = new Float64Array(weight.rows * weight.cols)
  let offset = 0
  for (const part of weight.parts) {
    matrix.set(await decodePart(part), offset)
    offset += part.rows * part.cols
  }
  return matrix
}

async function decodePart(part: WeightPart): Promise<Float64Array> {
  const { format, rows, cols } = part
  const values = await readAll(part.values)
  if (format.kind === 'dense') return decodeDense(values, format.dtype)
  if (format.kind === 'packed-float') {
    const globalScale = format.hasGlobalScale ? (decodeDense(await readAll(part.globalScale ?? null), 'f32')[0] ?? NaN) : 1
    return decodeFloats({ rows, cols, format, values, scale: decodeScales(await readAll(part.scale), format.scaleDtype), globalScale })
  }
  const scale = decodeDense(await readAll(part.scale), format.scaleDtype)
  const zeroPoint = format.hasZeroPoint ? words(await readAll(part.zeroPoint)) : null
  const groupOf = part.groupIndex ? words(await readAll(part.groupIndex)) : null
  return decodePacked({ rows, cols, format, packed: words(values), scale, zeroPoint, groupOf })
}

/** w[r, c] = (code[r, c] − zero[r, g]) · scale[r, g] with g = c / groupSize, or as listed; without zero points, zero = 2^(bits−1). */
function decodePacked(stored: {
  rows: number
  cols: number
  format: PackedFormat
  packed: Uint32Array
  scale: Float64Array
  zeroPoint: Uint32Array | null
  groupOf: Uint32Array | null
}): Float64Array {
  const { rows, cols, packed, scale, zeroPoint, groupOf } = stored
  const { bits, groupSize } = stored.format
  const groups = cols / groupSize
  const wordsPerRow = Math.ceil((cols * bits) / 32)
  const matrix = new Float64Array(rows * cols)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const g = groupOf === null ? Math.floor(c / groupSize) : (groupOf[c] ?? NaN)
      const code = bitsAt(packed, r * wordsPerRow, 1, c * bits, bits)
      const zero = zeroPoint === null ? 2 ** (bits - 1) : bitsAt(zeroPoint, g, groups, r * bits, bits)
      matrix[r * cols + c] = (code - zero) * (scale[r * groups + g] ?? NaN)
    }
  }
  return matrix
}

/** The number in bits [bit, bit + count) of the words start, start + stride, …; it may straddle two of them. */
function bitsAt(from: Uint32Array, start: number, stride: number, bit: number, count: number): number {
  let value = 0
  for (let i = 0; i < count; i++) {
    const word = from[start + Math.floor((bit + i) / 32) * stride] ?? NaN
    value += ((word >>> ((bit + i) % 32)) & 1) * 2 ** i
  }
  return value
}

/** w[r, c] = element[r, c] · scale[r, ⌊c / groupSize⌋] / G */
function decodeFloats(stored: {
  rows: number
  cols: number
  format: FloatFormat
  values: Uint8Array
  scale: Float64Array
  globalScale: number
}): Float64Array {
  const { rows, cols, format, values, scale, globalScale } = stored
  const groups = Math.ceil(cols / format.groupSize)
  const matrix = new Float64Array(rows * cols)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const index = r * cols + c
      const element =
        format.element === 'e4m3'
          ? smallFloat(values[index] ?? NaN, 4, 3)
          : smallFloat(((values[index >> 1] ?? NaN) >> (4 * (index % 2))) & 15, 2, 1)
      matrix[index] = (element * (scale[r * groups + Math.floor(c / format.groupSize)] ?? NaN)) / globalScale
    }
  }
  return matrix
}

/** Sign, exponent biased by 2^(e−1) − 1, mantissa; exponent 0 is subnormal. No infinities; E4M3's one NaN is all ones. */
function smallFloat(code: number, exponentBits: number, mantissaBits: number): number {
  const sign = (code >> (exponentBits + mantissaBits)) & 1 ? -1 : 1
  const exponent = (code >> mantissaBits) & (2 ** exponentBits - 1)
  const mantissa = (code & (2 ** mantissaBits - 1)) / 2 ** mantissaBits
  const bias = 2 ** (exponentBits - 1) - 1
  if (mantissaBits === 3 && (code & 0x7f) === 0x7f) return NaN
  return sign * (exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias))
}

function decodeScales(bytes: Uint8Array, dtype: FloatFormat['scaleDtype']): Float64Array {
  if (dtype === 'e8m0') return Float64Array.from(bytes, (byte) => (byte === 255 ? NaN : 2 ** (byte - 127)))
  if (dtype === 'e4m3') return Float64Array.from(bytes, (byte) => smallFloat(byte, 4, 3))
  return decodeDense(bytes, dtype)
}

/** One number, as static input scales are stored. */
export async function readNumber(source: WeightBytes, dtype: DenseDtype): Promise<number> {
  return decodeDense(await readAll(source), dtype)[0] ?? NaN
}

function decodeDense(bytes: Uint8Array, dtype: DenseDtype): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (dtype === 'f32') return Float64Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(i * 4, true))
  const decode = dtype === 'f16' ? decodeF16 : decodeBf16
  return Float64Array.from({ length: bytes.byteLength / 2 }, (_, i) => decode(view.getUint16(i * 2, true)))
}

function words(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Uint32Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getUint32(i * 4, true))
}

async function readAll(source: WeightBytes | null): Promise<Uint8Array> {
  return source === null ? new Uint8Array() : await source.read(0, source.byteLength)
}
