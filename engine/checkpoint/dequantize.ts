/**
 * Stored linears → f32 rows: (q − z)·s per specs/compressed-tensors.md §6.1, §6.3 and §6.4, in f32. For statistics, checks and tests; the
 * runtime dequantizes in its kernels and never comes here.
 */
import { LatheError } from '../contract/errors.ts'
import { asInt32, f8e4m3ToF32, widenToF32 } from './dtypes.ts'
import { fp4Value, mxScaleValue } from './fp4.ts'
import type { StoredLinear } from './modules.ts'
import { packedWords, unpackColumns, unpackRows } from './packing.ts'
import type { Checkpoint, TensorEntry } from './types.ts'

export interface RowDequantizer {
  readonly linear: StoredLinear
  /** Rows [from, to) as f32, row-major. RangeError outside the matrix. */
  rows(from: number, to: number): Promise<Float32Array>
}

/** Reads what all rows share (zero points, group indices) once. Throws `checkpoint.unsupported-scheme`, `checkpoint.invalid-tensor`. */
export async function openDequantizer(checkpoint: Checkpoint, linear: StoredLinear): Promise<RowDequantizer> {
  const convert = await converterFor(checkpoint, linear)
  return {
    linear,
    async rows(from, to) {
      if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= linear.rows)) {
        throw new RangeError(`rows ${from}…${to} of "${linear.name}", which has ${linear.rows}`)
      }
      return convert(from, to)
    },
  }
}

/** One call of `openDequantizer` and `rows`. */
export async function dequantizeRows(checkpoint: Checkpoint, linear: StoredLinear, from: number, to: number): Promise<Float32Array> {
  const dequantizer = await openDequantizer(checkpoint, linear)
  return dequantizer.rows(from, to)
}

type Converter = (from: number, to: number) => Promise<Float32Array>

async function converterFor(checkpoint: Checkpoint, linear: StoredLinear): Promise<Converter> {
  const { format, tensors, name } = linear
  switch (format) {
    case 'dense': {
      const weight = required(tensors.weight, name)
      return async (from, to) => ownedF32(await readRows(checkpoint, weight, linear.rows, from, to), weight)
    }
    case 'pack-quantized':
    case 'int-quantized':
      return integerConverter(checkpoint, linear)
    case 'float-quantized':
    case 'naive-quantized':
    case 'mxfp8-quantized':
      return floatConverter(checkpoint, linear)
    case 'nvfp4-pack-quantized':
    case 'mxfp4-pack-quantized':
      return fourBitFloatConverter(checkpoint, linear)
  }
}

async function integerConverter(checkpoint: Checkpoint, linear: StoredLinear): Promise<Converter> {
  const { rows, cols, args, tensors, format, name, groupSize } = linear
  if (args === null || groupSize === null) throw contradictory(name)
  const bits = args.numBits
  const scale = required(tensors.scale, name)
  const groups = args.strategy === 'group' ? cols / groupSize : 1
  const zeroPoints = await readZeroPoints(checkpoint, linear, groups)
  const groupOf = await readGroupOf(checkpoint, linear, groups)
  const perRow = args.strategy !== 'tensor'
  const stored = required(format === 'pack-quantized' ? tensors.packed : tensors.weight, name)
  return async (from, to) => {
    const count = to - from
    const bytes = await readRows(checkpoint, stored, rows, from, to)
    const codes =
      format === 'pack-quantized'
        ? unpackRows(asInt32(bytes), count, cols, bits)
        : new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const scales = await readScales(checkpoint, scale, rows, perRow ? from : 0, perRow ? to : 1, perRow)
    const values = new Float32Array(count * cols)
    for (let row = 0; row < count; row++) {
      const unit = perRow ? row * groups : 0
      const zeroUnit = perRow ? (from + row) * groups : 0
      const base = row * cols
      for (let col = 0; col < cols; col++) {
        const group = groupOf === null ? (col / groupSize) | 0 : (groupOf[col] as number)
        const zero = zeroPoints === null ? 0 : (zeroPoints[zeroUnit + group] as number)
        values[base + col] = ((codes[base + col] as number) - zero) * (scales[unit + group] as number)
      }
    }
    return values
  }
}

async function floatConverter(checkpoint: Checkpoint, linear: StoredLinear): Promise<Converter> {
  const { rows, cols, args, tensors, name, groupSize } = linear
  const weight = required(tensors.weight, name)
  const scale = required(tensors.scale, name)
  if (args === null) throw contradictory(name)
  const [blockRows, blockCols] = args.blockStructure ?? [1, groupSize ?? cols]
  const perTensor = args.strategy === 'tensor'
  const unitsPerRow = perTensor || cols === 0 ? 1 : Math.ceil(cols / blockCols)
  const scales =
    linear.format === 'mxfp8-quantized'
      ? Float32Array.from(await checkpoint.open(scale.name).read(0, scale.byteLength), mxScaleValue)
      : await readScales(checkpoint, scale, 1, 0, 1, false)
  const value = Float32Array.from({ length: 256 }, (_, bits) => f8e4m3ToF32(bits))
  return async (from, to) => {
    const bytes = await readRows(checkpoint, weight, rows, from, to)
    const values = new Float32Array(bytes.byteLength)
    for (let row = from; row < to; row++) {
      const unit = perTensor ? 0 : Math.floor(row / blockRows) * unitsPerRow
      const base = (row - from) * cols
      for (let col = 0; col < cols; col++) {
        values[base + col] = (value[bytes[base + col] as number] as number) * (scales[unit + Math.floor(col / blockCols)] as number)
      }
    }
    return values
  }
}

/** E2M1 codes, two a byte, in groups with E8M0 scales, or E4M3 scales under a factor G that is stored as a divisor. */
async function fourBitFloatConverter(checkpoint: Checkpoint, linear: StoredLinear): Promise<Converter> {
  const { rows, cols, tensors, name, groupSize, format } = linear
  const packed = required(tensors.packed, name)
  const scale = required(tensors.scale, name)
  if (groupSize === null) throw contradictory(name)
  const global = format === 'nvfp4-pack-quantized' ? required(tensors.extras['weight_global_scale'] ?? null, name) : null
  const divisor = global === null ? 1 : (widenToF32(await checkpoint.open(global.name).read(0, global.byteLength), global.dtype)[0] ?? NaN)
  const groups = cols / groupSize
  const value = Float32Array.from({ length: 16 }, (_, code) => fp4Value(code))
  return async (from, to) => {
    const bytes = await readRows(checkpoint, packed, rows, from, to)
    const scaleBytes = await readRows(checkpoint, scale, rows, from, to)
    const scales = Float64Array.from(scaleBytes, (byte) => (global === null ? mxScaleValue(byte) : f8e4m3ToF32(byte)) / divisor)
    const values = new Float32Array((to - from) * cols)
    for (let i = 0; i < values.length; i++) {
      const code = ((bytes[i >> 1] as number) >> ((i & 1) * 4)) & 15
      const group = Math.floor(i / cols) * groups + Math.floor((i % cols) / groupSize)
      values[i] = (value[code] as number) * (scales[group] as number)
    }
    return values
  }
}

/** Zero points as [rows or 1, groups] signed codes, or null when symmetric. */
async function readZeroPoints(checkpoint: Checkpoint, linear: StoredLinear, groups: number): Promise<Int8Array | null> {
  const { zeroPoint } = linear.tensors
  if (zeroPoint === null || linear.args === null) return null
  const bytes = await checkpoint.open(zeroPoint.name).read(0, zeroPoint.byteLength)
  if (linear.format !== 'pack-quantized') return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const units = linear.args.strategy === 'tensor' ? 1 : linear.rows
  const words = asInt32(bytes)
  if (words.length !== packedWords(units, linear.args.numBits) * groups) throw contradictory(linear.name)
  return unpackColumns(words, units, groups, linear.args.numBits)
}

async function readGroupOf(checkpoint: Checkpoint, linear: StoredLinear, groups: number): Promise<Int32Array | null> {
  const { groupIndex } = linear.tensors
  if (groupIndex === null) return null
  const indices = asInt32(await checkpoint.open(groupIndex.name).read(0, groupIndex.byteLength))
  // -1 everywhere is how the library initialises it: consecutive groups.
  if (indices.every((group) => group === -1)) return null
  const outside = indices.find((group) => group < 0 || group >= groups)
  if (outside !== undefined) {
    throw new LatheError(
      'checkpoint.invalid-tensor',
      `"${linear.name}" assigns a column to group ${outside} of ${groups}.`,
      'The checkpoint contradicts itself. Download it again, or make it again from the original model.',
    )
  }
  return indices
}

/** Scales of rows [from, to), or all of them when they are not laid out by row. */
async function readScales(
  checkpoint: Checkpoint,
  scale: TensorEntry,
  rows: number,
  from: number,
  to: number,
  byRow: boolean,
): Promise<Float32Array> {
  const bytes = byRow ? await readRows(checkpoint, scale, rows, from, to) : await checkpoint.open(scale.name).read(0, scale.byteLength)
  return widenToF32(bytes, scale.dtype)
}

async function readRows(checkpoint: Checkpoint, tensor: TensorEntry, rows: number, from: number, to: number): Promise<Uint8Array> {
  const rowBytes = rows === 0 ? 0 : tensor.byteLength / rows
  return checkpoint.open(tensor.name).read(from * rowBytes, (to - from) * rowBytes)
}

function ownedF32(bytes: Uint8Array, tensor: TensorEntry): Float32Array {
  return widenToF32(bytes, tensor.dtype)
}

function required(tensor: TensorEntry | null, name: string): TensorEntry {
  if (tensor === null) throw contradictory(name)
  return tensor
}

// storedLinears has checked all of this; reaching it means a StoredLinear was made by other means.
function contradictory(name: string): Error {
  return new Error(`"${name}" is not a consistent stored linear`)
}
