/**
 * Stored weights as f64 matrices: the oracle's own reading of dense dtypes and of pack-quantized integers (specs/compressed-tensors.md
 * §5.1), written independently of engine/checkpoint so that an error there cannot hide here. Decodes whole matrices; slow and plain.
 */
import type { WeightBytes, WeightFormat, WeightPart, WeightSpec } from '../program.ts'
import { decodeBf16, decodeF16 } from './float16.ts'

type PackedFormat = Extract<WeightFormat, { kind: 'packed-int' }>
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
  const scale = decodeDense(await readAll(part.scale), format.scaleDtype)
  const zeroPoint = format.hasZeroPoint ? words(await readAll(part.zeroPoint)) : null
  return decodePacked({ rows, cols, format, packed: words(values), scale, zeroPoint })
}

/** w[r, c] = (code[r, c] − zero[r, g]) · scale[r, g] with g = c / groupSize; without zero points, zero = 2^(bits−1). */
function decodePacked(stored: {
  rows: number
  cols: number
  format: PackedFormat
  packed: Uint32Array
  scale: Float64Array
  zeroPoint: Uint32Array | null
}): Float64Array {
  const { rows, cols, packed, scale, zeroPoint } = stored
  const { bits, groupSize } = stored.format
  const groups = cols / groupSize
  const wordsPerRow = Math.ceil((cols * bits) / 32)
  const mask = 2 ** bits - 1
  const matrix = new Float64Array(rows * cols)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const g = Math.floor(c / groupSize)
      const bit = c * bits
      const code = ((packed[r * wordsPerRow + Math.floor(bit / 32)] ?? 0) >>> (bit % 32)) & mask
      const rowBit = r * bits
      const zero = zeroPoint === null ? 2 ** (bits - 1) : ((zeroPoint[Math.floor(rowBit / 32) * groups + g] ?? 0) >>> (rowBit % 32)) & mask
      matrix[r * cols + c] = (code - zero) * (scale[r * groups + g] ?? NaN)
    }
  }
  return matrix
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
