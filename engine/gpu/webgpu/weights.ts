/**
 * Weights from stored bytes to the GPU, in their stored dtype, in 16 MiB pieces: never a whole tensor in memory, nothing converted except
 * vectors (norm weights, biases), which are widened to f32, exactly. Rows are padded to 16 bytes where they are not already, so that kernels
 * load `vec4<u32>`. Matrices larger than a binding are cut by rows (specs/dawn-node.md §3); parts of a fused weight are stacked.
 */
import { LatheError } from '../../contract/errors.ts'
import { FLOAT_BITS, SCALE_BYTES, weightBytes } from '../check-program.ts'
import { UPLOAD_STAGING_BYTES } from '../upload-staging.ts'
import type { WeightBytes, WeightFormat, WeightPart, WeightSpec } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { Allocation, LedgerAccount } from './ledger.ts'
import { canBeSparse, isSparse, packSparse, positionBytesOf, SPARSE_UNIT_BYTES } from './sparse-rows.ts'

export interface WeightShard {
  readonly buffer: GPUBuffer
  /** Of a 2:4 sparse matrix: where its values belong (sparse-rows.ts); else null. */
  readonly positions: GPUBuffer | null
  readonly firstRow: number
  readonly rows: number
}

export interface DeviceMatrix {
  readonly kind: 'matrix'
  readonly spec: WeightSpec
  /** Length of a row in units of `unitBytesOf`. */
  readonly rowUnits: number
  readonly shards: readonly WeightShard[]
  /** [rows, groups] in the stored scale dtype; 16-bit values two to a word. */
  readonly scale: GPUBuffer | null
  /** [⌈rows·bits/32⌉, groups] words, packed down the rows. */
  readonly zeroPoint: GPUBuffer | null
  /** f32 [rows]: 1/G of the row's part, where the format has a global scale. */
  readonly rowGain: GPUBuffer | null
  /** u32 [cols]: the input column that each stored column multiplies, where columns were sorted by group; else null. */
  readonly order: GPUBuffer | null
  /** Stored as two values of every four. */
  readonly sparse: boolean
}

export interface DeviceVector {
  readonly kind: 'vector'
  readonly spec: WeightSpec
  /** f32. */
  readonly buffer: GPUBuffer
  readonly length: number
}

export type DeviceWeight = DeviceMatrix | DeviceVector

/** Kernels load rows as `vec4<u32>`; codes of widths that 32 bits do not hold whole come in units of 32, as many words as bits. */
const UNIT_BYTES = 16
const UNIT_CODES = 32
/** Large enough for full disk and bus speed, small enough to cancel within a moment and to keep staging memory low. */
const CHUNK_BYTES = 16 * 2 ** 20

export function groupsOf(format: WeightFormat, cols: number): number {
  return format.kind === 'dense' ? 0 : Math.ceil(cols / format.groupSize)
}

export function bitsOf(format: WeightFormat): number {
  if (format.kind === 'packed-int') return format.bits
  if (format.kind === 'packed-float') return FLOAT_BITS[format.element]
  return format.dtype === 'f32' ? 32 : 16
}

function dtypeBytes(dtype: 'f32' | 'f16' | 'bf16'): number {
  return dtype === 'f32' ? 4 : 2
}

/** Bytes of one row as stored: whole words for packed formats. */
function storedRowBytes(format: WeightFormat, cols: number): number {
  if (format.kind === 'packed-float') return (cols * FLOAT_BITS[format.element]) / 8
  return format.kind === 'dense' ? cols * dtypeBytes(format.dtype) : Math.ceil((cols * format.bits) / 32) * 4
}

/** Widths with units of their own: all but 4, 8, 16 and 32 bits. */
function isOddWidth(bits: number): boolean {
  return bits < 8 && bits !== 4
}

export function unitElementsOf(format: WeightFormat): number {
  const bits = bitsOf(format)
  return isOddWidth(bits) ? UNIT_CODES : (UNIT_BYTES * 8) / bits
}

function unitBytesOf(format: WeightFormat): number {
  const bits = bitsOf(format)
  return isOddWidth(bits) ? (UNIT_CODES * bits) / 8 : UNIT_BYTES
}

export function rowUnitsOf(format: WeightFormat, cols: number): number {
  return Math.ceil(cols / unitElementsOf(format))
}

export interface UploadOptions {
  /** Ids of the weights that operations read as vectors; every other weight is a matrix. */
  readonly vectors: ReadonlySet<number>
  /** Ids of the weights that only linears read, which may be packed if they turn out to be 2:4 sparse. */
  readonly packable: ReadonlySet<number>
  /** Largest shard of a matrix; null = what the adapter binds. */
  readonly shardBytes: number | null
  readonly signal: AbortSignal | undefined
  readonly onProgress: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** Uploads every weight. On failure or abort the caller releases the account. */
export async function uploadWeights(
  gpu: GpuDevice,
  account: LedgerAccount,
  specs: readonly WeightSpec[],
  options: UploadOptions,
): Promise<ReadonlyMap<number, DeviceWeight>> {
  const uploader = new Uploader(
    gpu,
    options,
    specs.reduce((sum, spec) => sum + weightBytes(spec), 0),
  )
  const weights = new Map<number, DeviceWeight>()
  for (const spec of specs) {
    const isVector = options.vectors.has(spec.id)
    weights.set(spec.id, isVector ? await uploadVector(uploader, account, spec) : await uploadMatrix(gpu, uploader, account, spec, options))
  }
  await uploader.finish()
  return weights
}

function invalid(spec: WeightSpec, message: string): LatheError {
  return new LatheError('checkpoint.invalid-tensor', `${spec.name}: ${message}`, 'The checkpoint does not match its configuration.')
}

/** Writes with progress, cancellation and bounded staging memory. */
class Uploader {
  readonly #gpu: GpuDevice
  readonly #options: UploadOptions
  readonly #totalBytes: number
  #doneBytes = 0
  #stagedBytes = 0

  constructor(gpu: GpuDevice, options: UploadOptions, totalBytes: number) {
    this.#gpu = gpu
    this.#options = options
    this.#totalBytes = totalBytes
    options.onProgress?.(0, totalBytes)
  }

  async read(bytes: WeightBytes, offset: number, length: number): Promise<Uint8Array> {
    this.#options.signal?.throwIfAborted()
    const data = await bytes.read(offset, length)
    this.#doneBytes += length
    this.#options.onProgress?.(this.#doneBytes, this.#totalBytes)
    return data
  }

  async readAll(bytes: WeightBytes, target: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.byteLength; offset += CHUNK_BYTES) {
      target.set(await this.read(bytes, offset, Math.min(CHUNK_BYTES, bytes.byteLength - offset)), offset)
    }
  }

  /** `data` is a whole number of words. */
  async write(buffer: GPUBuffer, offset: number, data: Uint8Array): Promise<void> {
    this.#gpu.check()
    this.#gpu.device.queue.writeBuffer(buffer, offset, data as Uint8Array<ArrayBuffer>)
    this.#stagedBytes += data.byteLength
    if (this.#stagedBytes >= UPLOAD_STAGING_BYTES) await this.finish()
  }

  async finish(): Promise<void> {
    this.#gpu.device.queue.submit([])
    await this.#gpu.guard(this.#gpu.device.queue.onSubmittedWorkDone())
    this.#stagedBytes = 0
  }
}

const WEIGHT_USAGE = (): GPUBufferUsageFlags => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST

async function uploadVector(uploader: Uploader, account: LedgerAccount, spec: WeightSpec): Promise<DeviceVector> {
  if (spec.format.kind !== 'dense') throw invalid(spec, 'a vector cannot be packed')
  const length = spec.rows * spec.cols
  // Whole fours, so that kernels may load vec4.
  const values = new Float32Array(Math.ceil(length / 4) * 4)
  let at = 0
  for (const part of spec.parts) {
    const bytes = new Uint8Array(part.values.byteLength)
    await uploader.readAll(part.values, bytes)
    widen(bytes, spec.format.dtype, values.subarray(at, at + part.rows * part.cols))
    at += part.rows * part.cols
  }
  const buffer = await account.allocateOne(spec.name, values.byteLength, WEIGHT_USAGE())
  await uploader.write(buffer, 0, new Uint8Array(values.buffer))
  return { kind: 'vector', spec, buffer, length }
}

/** Bytes of a matrix's codes on the device, all shards together; fewer where they are packed as 2:4. */
export function valueBytesOf({ format, rows, cols }: WeightSpec): number {
  return rows * rowUnitsOf(format, cols) * unitBytesOf(format)
}

/** Exact widening of little-endian values to f32. */
export function widen(bytes: Uint8Array, dtype: 'f32' | 'f16' | 'bf16', out: Float32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const word = new Uint32Array(1)
  const real = new Float32Array(word.buffer)
  for (let i = 0; i < out.length; i++) {
    if (dtype === 'f32') out[i] = view.getFloat32(i * 4, true)
    else if (dtype === 'f16') out[i] = halfToFloat(view.getUint16(i * 2, true))
    else {
      word[0] = view.getUint16(i * 2, true) << 16
      out[i] = real[0] ?? 0
    }
  }
}

/** IEEE binary16 to number: 5 exponent bits biased by 15, 10 fraction bits. */
export function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

async function uploadMatrix(
  gpu: GpuDevice,
  uploader: Uploader,
  account: LedgerAccount,
  spec: WeightSpec,
  { shardBytes, packable, signal }: UploadOptions,
): Promise<DeviceMatrix> {
  const { format, cols, rows } = spec
  const groupIndex = spec.parts[0]?.groupIndex ?? null
  const mayBeSparse = packable.has(spec.id) && groupIndex === null && canBeSparse(format, cols)
  const sparse = mayBeSparse && (await isSparse(spec.parts, () => signal?.throwIfAborted()))
  const rowUnits = rowUnitsOf(format, cols)
  const rowBytes = rowUnits * (sparse ? SPARSE_UNIT_BYTES : unitBytesOf(format))
  const positionBytes = positionBytesOf(rowUnits, unitElementsOf(format))
  const limit = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize)
  const rowsPerShard = Math.floor(Math.min(limit, shardBytes ?? limit) / rowBytes)
  if (rowsPerShard === 0) throw invalid(spec, `one row has ${rowBytes} bytes, more than this adapter binds at once (${limit})`)
  const groups = groupsOf(format, cols)
  const requests: Allocation[] = []
  for (let row = 0; row < rows; row += rowsPerShard) {
    requests.push({ name: spec.name, bytes: Math.min(rowsPerShard, rows - row) * rowBytes, usage: WEIGHT_USAGE() })
  }
  const shardCount = requests.length
  if (format.kind !== 'dense') {
    const scaleBytes = Math.ceil((rows * groups * SCALE_BYTES[format.scaleDtype]) / 4) * 4
    const zeroBytes = format.kind === 'packed-int' && format.hasZeroPoint ? Math.ceil((rows * format.bits) / 32) * groups * 4 : 0
    if (Math.max(scaleBytes, zeroBytes) > limit) {
      const message = `${spec.name}: its ${Math.max(scaleBytes, zeroBytes)} bytes of scales exceed one binding of this adapter (${limit}).`
      throw new LatheError('gpu.unsupported', message, 'Compress with a larger group, or use another adapter.')
    }
    requests.push({ name: `${spec.name} scale`, bytes: scaleBytes, usage: WEIGHT_USAGE() })
    if (zeroBytes > 0) requests.push({ name: `${spec.name} zero point`, bytes: zeroBytes, usage: WEIGHT_USAGE() })
  }
  const buffers = await account.allocate(requests)
  const shards: WeightShard[] = []
  for (const [index, buffer] of buffers.slice(0, shardCount).entries()) {
    const count = Math.min(rowsPerShard, rows - index * rowsPerShard)
    const positions = sparse ? await account.allocateOne(`${spec.name} positions`, count * positionBytes, WEIGHT_USAGE()) : null
    shards.push({ buffer, positions, firstRow: index * rowsPerShard, rows: count })
  }

  const order = groupIndex === null ? null : columnOrder(asWords(await groupIndex.read(0, groupIndex.byteLength)))
  let firstRow = 0
  for (const part of spec.parts) {
    const arrange = order === null ? null : (data: Uint8Array, count: number) => arrangeColumns(data, count, cols, bitsOf(format), order)
    await uploadRows(uploader, shards, part, firstRow, storedRowBytes(format, cols), rowsPerShard, async (shard, stored, row, count) => {
      if (shard.positions !== null) {
        const packed = packSparse(stored, count, cols, format, rowUnits)
        await uploader.write(shard.buffer, row * rowBytes, packed.values)
        return uploader.write(shard.positions, row * positionBytes, packed.positions)
      }
      const data = arrange === null ? stored : arrange(stored, count)
      return uploader.write(shard.buffer, row * rowBytes, padRows(data, count, storedRowBytes(format, cols), rowBytes))
    })
    firstRow += part.rows
  }
  const scale = buffers[shardCount] ?? null
  const zeroPoint = buffers[shardCount + 1] ?? null
  if (scale !== null)
    await uploadJoined(
      uploader,
      scale,
      spec.parts.map((part) => part.scale),
    )
  if (zeroPoint !== null)
    await uploadJoined(
      uploader,
      zeroPoint,
      spec.parts.map((part) => part.zeroPoint),
    )
  const rowGain = await uploadRowGains(uploader, account, spec)
  const orderBuffer = order === null ? null : await uploadWords(uploader, account, `${spec.name} order`, order)
  return { kind: 'matrix', spec, rowUnits, shards, scale, zeroPoint, rowGain, order: orderBuffer, sparse }
}

async function uploadWords(
  uploader: Uploader,
  account: LedgerAccount,
  name: string,
  words: Uint32Array | Float32Array,
): Promise<GPUBuffer> {
  const buffer = await account.allocateOne(name, words.byteLength, WEIGHT_USAGE())
  await uploader.write(buffer, 0, new Uint8Array(words.buffer))
  return buffer
}

/** 1/G of each row's part, so that parts with factors of their own still stack. */
async function uploadRowGains(uploader: Uploader, account: LedgerAccount, spec: WeightSpec): Promise<GPUBuffer | null> {
  if (spec.format.kind !== 'packed-float' || !spec.format.hasGlobalScale) return null
  const gains = new Float32Array(spec.rows)
  let row = 0
  for (const part of spec.parts) {
    if (part.globalScale === null || part.globalScale === undefined) throw invalid(spec, 'a part has no global scale')
    const bytes = await part.globalScale.read(0, 4)
    const factor = new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true)
    gains.fill(1 / factor, row, row + part.rows)
    row += part.rows
  }
  return uploadWords(uploader, account, `${spec.name} global scale`, gains)
}

function asWords(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Uint32Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getUint32(i * 4, true))
}

/** Columns sorted by group, each group's in their own order: the stored column c comes from column order[c]. */
function columnOrder(groupOf: Uint32Array): Uint32Array {
  return Uint32Array.from(groupOf.keys()).sort((a, b) => (groupOf[a] ?? 0) - (groupOf[b] ?? 0) || a - b)
}

/** Rows of dense codes with their columns in another order; rows are whole words before and after. */
function arrangeColumns(data: Uint8Array, rows: number, cols: number, bits: number, order: Uint32Array): Uint8Array {
  const rowWords = Math.ceil((cols * bits) / 32)
  const from = asWords(data)
  const to = new Uint32Array(rows * rowWords)
  const mask = 2 ** bits - 1
  for (let row = 0; row < rows; row++) {
    const base = row * rowWords
    for (let col = 0; col < cols; col++) {
      const bit = (order[col] as number) * bits
      const shift = bit & 31
      let code = (from[base + (bit >>> 5)] as number) >>> shift
      if (shift + bits > 32) code |= (from[base + (bit >>> 5) + 1] as number) << (32 - shift)
      code &= mask
      const target = col * bits
      const at = base + (target >>> 5)
      to[at] = (to[at] as number) | (code << (target & 31))
      if ((target & 31) + bits > 32) to[at + 1] = (to[at + 1] as number) | (code >>> (32 - (target & 31)))
    }
  }
  return new Uint8Array(to.buffer)
}

async function uploadRows(
  uploader: Uploader,
  shards: readonly WeightShard[],
  part: WeightPart,
  firstRow: number,
  storedBytesPerRow: number,
  rowsPerShard: number,
  /** Writes `count` stored rows to the shard's rows from `row` on. */
  write: (shard: WeightShard, stored: Uint8Array, row: number, count: number) => Promise<void>,
): Promise<void> {
  const rowsPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / storedBytesPerRow))
  let row = 0
  while (row < part.rows) {
    const global = firstRow + row
    const shard = shards[Math.floor(global / rowsPerShard)]
    if (shard === undefined) throw new Error('row beyond the last shard')
    const count = Math.min(rowsPerChunk, part.rows - row, shard.firstRow + shard.rows - global)
    const stored = await uploader.read(part.values, row * storedBytesPerRow, count * storedBytesPerRow)
    await write(shard, stored, global - shard.firstRow, count)
    row += count
  }
}

function padRows(data: Uint8Array, rows: number, from: number, to: number): Uint8Array {
  if (from === to) return data
  const padded = new Uint8Array(rows * to)
  for (let row = 0; row < rows; row++) padded.set(data.subarray(row * from, (row + 1) * from), row * to)
  return padded
}

/** Scales and zero points are a small fraction of a weight: joined in memory, since a part may end inside a word. */
async function uploadJoined(uploader: Uploader, buffer: GPUBuffer, parts: readonly (WeightBytes | null)[]): Promise<void> {
  const joined = new Uint8Array(buffer.size)
  let at = 0
  for (const bytes of parts) {
    if (bytes === null) continue
    await uploader.readAll(bytes, joined.subarray(at, at + bytes.byteLength))
    at += bytes.byteLength
  }
  for (let offset = 0; offset < joined.byteLength; offset += CHUNK_BYTES) {
    await uploader.write(buffer, offset, joined.subarray(offset, Math.min(joined.byteLength, offset + CHUNK_BYTES)))
  }
}
