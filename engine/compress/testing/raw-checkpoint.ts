/**
 * A reader of safetensors files and packed weights in a few lines, written from the format's description alone and sharing no code with
 * Lathe's own, so that tests compare two independent readings.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface RawTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: Buffer
}

export function readRaw(folder: string): Map<string, RawTensor> {
  const tensors = new Map<string, RawTensor>()
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.safetensors'))) {
    const data = readFileSync(join(folder, file))
    const start = 8 + Number(data.readBigUInt64LE(0))
    const header = JSON.parse(data.toString('utf8', 8, start)) as Record<
      string,
      { dtype: string; shape: number[]; data_offsets: [number, number] }
    >
    for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
      if (name === '__metadata__') continue
      tensors.set(name, { dtype, shape, bytes: data.subarray(start + offsets[0], start + offsets[1]) })
    }
  }
  return tensors
}

/** One file of the given tensors, with no index beside it. */
export function writeRaw(folder: string, tensors: ReadonlyMap<string, RawTensor>): void {
  let at = 0
  const header: Record<string, unknown> = {}
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] }
    at += bytes.length
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, text, ...[...tensors.values()].map(({ bytes }) => bytes)]))
}

/** Floats of any dense dtype, as numbers. */
export function floats({ dtype, bytes }: RawTensor): number[] {
  if (dtype === 'F32') return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4))
  return Array.from({ length: bytes.length / 2 }, (_, i) => {
    const bits = bytes.readUInt16LE(i * 2)
    if (dtype === 'BF16') {
      const wide = Buffer.alloc(4)
      wide.writeUInt16LE(bits, 2)
      return wide.readFloatLE(0)
    }
    const exponent = (bits >> 10) & 31
    const fraction = (bits & 1023) / 1024
    const magnitude = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15)
    return bits & 0x8000 ? -magnitude : magnitude
  })
}

/** (q − z)·s of a pack-quantized module, bit by bit. */
export function decodePacked(tensors: ReadonlyMap<string, RawTensor>, module: string, bits: number): Float32Array {
  const part = (suffix: string): RawTensor => {
    const tensor = tensors.get(`${module}.${suffix}`)
    if (tensor === undefined) throw new Error(`${module}.${suffix} is missing`)
    return tensor
  }
  const shape = part('weight_shape').bytes
  const rows = Number(shape.readBigInt64LE(0))
  const cols = Number(shape.readBigInt64LE(8))
  const scales = floats(part('weight_scale'))
  const groups = scales.length / rows
  const packed = part('weight_packed')
  const rowBytes = (packed.shape[1] ?? 0) * 4
  const codeAt = (bytes: Buffer, firstBit: number, at: (byte: number) => number): number => {
    let code = 0
    for (let k = 0; k < bits; k++) code |= (((bytes[at((firstBit + k) >> 3)] ?? 0) >> ((firstBit + k) & 7)) & 1) << k
    return code - 2 ** (bits - 1)
  }
  const zeroPoints = tensors.has(`${module}.weight_zero_point`) ? part('weight_zero_point') : null
  const values = new Float32Array(rows * cols)
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const group = Math.floor(col / (cols / groups))
      const code = codeAt(packed.bytes, col * bits, (byte) => row * rowBytes + byte)
      // Down a column, the words of one column lie `groups` words apart.
      const zero = zeroPoints === null ? 0 : codeAt(zeroPoints.bytes, row * bits, (byte) => ((byte >> 2) * groups + group) * 4 + (byte & 3))
      values[row * cols + col] = (code - zero) * (scales[row * groups + group] ?? NaN)
    }
  }
  return values
}
