/**
 * The paged key-value cache: per layer one buffer of keys and one of values, [block][kv head][token in block][padded head dimension], so that
 * a head's keys within a block are contiguous. Rows are padded to 16 bytes; quantized ones are a scale and codes (kv-format.ts). Which block belongs to whom is the runtime's business.
 */
import { LatheError } from '../../contract/errors.ts'
import { isQuantized, kvRowBytes, staticScaleOf, valueDtypeOf } from '../kv-format.ts'
import type { KvCache, KvDtype, KvLayout } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { LedgerAccount } from './ledger.ts'
import { readBuffer } from './readback.ts'
import { halfToFloat } from './weights.ts'

export interface KvBuffers {
  readonly keys: readonly GPUBuffer[]
  readonly values: readonly GPUBuffer[]
  /** Per layer f32 [2 · kvHeads]: of the keys' heads, then of the values'; null = rows have scales of their own. */
  readonly staticScales: readonly GPUBuffer[] | null
}

/** Whether either side has scales; both are then read word by word. */
export function isScaled(layout: KvLayout): boolean {
  return layout.dtype !== valueDtypeOf(layout) || isQuantized(layout.dtype)
}

function hasStaticScales(layout: KvLayout): boolean {
  return (layout.staticScales ?? null) !== null && (layout.dtype === 'fp8' || valueDtypeOf(layout) === 'fp8')
}

/** f32 [2 · kvHeads]; 1 where a side has none. */
function staticScalesOf(layout: KvLayout, layer: number): Float32Array<ArrayBuffer> {
  const { kvHeads } = layout
  return Float32Array.from({ length: 2 * kvHeads }, (_, i) => {
    return staticScaleOf(layout, i < kvHeads ? 'k' : 'v', layer, i % kvHeads) ?? 1
  })
}

/** Head dimension as attention sees it: whole 16-byte units, or whole words of eight 4-bit codes. */
export function paddedHeadDim(layout: KvLayout): number {
  const unit = layout.dtype === 'f16' || isScaled(layout) ? 8 : 4
  return Math.ceil(layout.headDim / unit) * unit
}

/** Words of one head row of keys or values. */
export function kvRowWords(layout: KvLayout, dtype: KvDtype): number {
  return kvRowBytes(dtype, paddedHeadDim(layout)) / 4
}

export class WebGpuKvCache implements KvCache, KvBuffers {
  readonly layout: KvLayout
  readonly keys: readonly GPUBuffer[]
  readonly values: readonly GPUBuffer[]
  readonly staticScales: readonly GPUBuffer[] | null
  readonly #gpu: GpuDevice
  readonly #account: LedgerAccount
  #disposed = false

  private constructor(gpu: GpuDevice, account: LedgerAccount, layout: KvLayout, buffers: readonly GPUBuffer[]) {
    this.#gpu = gpu
    this.#account = account
    this.layout = layout
    this.keys = buffers.slice(0, layout.layers)
    this.values = buffers.slice(layout.layers, 2 * layout.layers)
    this.staticScales = hasStaticScales(layout) ? buffers.slice(2 * layout.layers) : null
  }

  static async create(gpu: GpuDevice, account: LedgerAccount, layout: KvLayout): Promise<WebGpuKvCache> {
    const { layers, kvHeads, headDim, blockSize, blocks } = layout
    if ([layers, kvHeads, headDim, blockSize, blocks].some((n) => !Number.isInteger(n) || n < 1) || (blockSize & (blockSize - 1)) !== 0) {
      throw new LatheError('gpu.invalid-operation', 'The key-value layout is not a positive shape with a power-of-two block.', 'Report it.')
    }
    const rows = blocks * blockSize * kvHeads
    const sizes = [layout.dtype, valueDtypeOf(layout)].map((dtype) => rows * kvRowWords(layout, dtype) * 4)
    const bytes = Math.max(...sizes)
    const limit = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize)
    if (bytes > limit) {
      const most = Math.floor((blocks * limit) / bytes) * blockSize
      throw new LatheError(
        'gpu.out-of-memory',
        `The key-value cache needs ${bytes} bytes per layer for ${blocks * blockSize} tokens; this adapter binds at most ${limit}.`,
        `Ask for a context of at most ${most} tokens, or for a smaller cache type: f16, fp8, int8 or int4.`,
        { data: { needBytes: bytes, limitBytes: limit, maxTokens: most } },
      )
    }
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
    const requests = [...Array(2 * layers).keys()].map((index) => {
      const keys = index < layers
      return { name: `${keys ? 'keys' : 'values'} of layer ${index % layers}`, bytes: sizes[keys ? 0 : 1] ?? bytes, usage }
    })
    const scaleBytes = 2 * kvHeads * 4
    const scales = [...Array(hasStaticScales(layout) ? layers : 0).keys()].map((layer) => {
      return { name: `cache scales of layer ${layer}`, bytes: scaleBytes, usage }
    })
    const buffers = await account.allocate([...requests, ...scales])
    try {
      // Dawn zeroes lazily: touching the pool now makes the driver commit it now, not in the middle of a chat (runtime.md §4.9).
      await gpu.scoped('zeroing the key-value cache', () => {
        const encoder = gpu.device.createCommandEncoder({ label: 'zero kv' })
        for (const buffer of buffers) encoder.clearBuffer(buffer)
        gpu.device.queue.submit([encoder.finish()])
        for (const [layer, buffer] of buffers.slice(2 * layers).entries()) {
          gpu.device.queue.writeBuffer(buffer, 0, staticScalesOf(layout, layer))
        }
      })
      await gpu.guard(gpu.device.queue.onSubmittedWorkDone())
    } catch (thrown) {
      account.release()
      throw thrown
    }
    return new WebGpuKvCache(gpu, account, layout, buffers)
  }

  get bytes(): number {
    return this.#account.bytes
  }

  async read(layer: number, which: 'k' | 'v', slots: Uint32Array): Promise<Float32Array> {
    const buffer = (which === 'k' ? this.keys : this.values)[layer]
    if (buffer === undefined || this.#disposed) {
      throw new LatheError('gpu.invalid-operation', `There is no layer ${layer} in this cache.`, 'Report it.')
    }
    const { kvHeads, headDim, blockSize } = this.layout
    const dtype = which === 'k' ? this.layout.dtype : valueDtypeOf(this.layout)
    const rowWords = kvRowWords(this.layout, dtype)
    const bytes = await readBuffer(this.#gpu, this.#account, buffer, 0, buffer.size)
    const view = new DataView(bytes)
    const out = new Float32Array(slots.length * kvHeads * headDim)
    for (const [n, slot] of slots.entries()) {
      for (let head = 0; head < kvHeads; head++) {
        const row = ((Math.floor(slot / blockSize) * kvHeads + head) * blockSize + (slot % blockSize)) * rowWords * 4
        for (let d = 0; d < headDim; d++) out[(n * kvHeads + head) * headDim + d] = elementAt(view, row, d, dtype)
      }
    }
    return out
  }

  readonly blockFormat = 'webgpu-1'

  get blockBytes(): number {
    return this.#partBytes.reduce((sum, bytes) => sum + this.layout.layers * bytes, 0)
  }

  async readBlocks(blocks: readonly number[]): Promise<Uint8Array> {
    this.#check(blocks)
    if (blocks.length === 0) return new Uint8Array(0)
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST
    const staging = await this.#account.allocateOne('blocks to hand over', blocks.length * this.blockBytes, usage)
    try {
      const encoder = this.#gpu.device.createCommandEncoder({ label: 'read blocks' })
      this.#eachPart(blocks, (buffer, offset, at, bytes) => encoder.copyBufferToBuffer(buffer, offset, staging, at, bytes))
      this.#gpu.device.queue.submit([encoder.finish()])
      await this.#gpu.guard(staging.mapAsync(GPUMapMode.READ))
      return new Uint8Array(staging.getMappedRange().slice(0))
    } finally {
      this.#account.free(staging)
    }
  }

  async writeBlocks(blocks: readonly number[], bytes: Uint8Array): Promise<void> {
    this.#check(blocks)
    const whole = new Uint8Array(bytes)
    this.#eachPart(blocks, (buffer, offset, at, length) => this.#gpu.device.queue.writeBuffer(buffer, offset, whole, at, length))
    await this.#gpu.guard(this.#gpu.device.queue.onSubmittedWorkDone())
  }

  /** Bytes of a block's keys and of its values in one layer. */
  get #partBytes(): readonly [number, number] {
    const rows = this.layout.blockSize * this.layout.kvHeads * 4
    return [rows * kvRowWords(this.layout, this.layout.dtype), rows * kvRowWords(this.layout, valueDtypeOf(this.layout))]
  }

  #check(blocks: readonly number[]): void {
    if (!this.#disposed && blocks.every((block) => block > 0 && block < this.layout.blocks)) return
    throw new LatheError('gpu.invalid-operation', `The cache has no blocks ${blocks.join(', ')}.`, 'Report it.')
  }

  #eachPart(blocks: readonly number[], visit: (buffer: GPUBuffer, offset: number, at: number, bytes: number) => void): void {
    const sizes = this.#partBytes
    let at = 0
    for (const block of blocks) {
      for (let layer = 0; layer < this.layout.layers; layer++) {
        for (const [side, buffers] of [this.keys, this.values].entries()) {
          const buffer = buffers[layer]
          const bytes = sizes[side] ?? 0
          if (buffer === undefined) throw new Error(`the cache has no layer ${layer}`)
          visit(buffer, block * bytes, at, bytes)
          at += bytes
        }
      }
    }
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#account.release()
  }
}

/** Dimension `d` of the head row that starts at byte `row`. */
function elementAt(view: DataView, row: number, d: number, dtype: KvDtype): number {
  if (dtype === 'f32') return view.getFloat32(row + 4 * d, true)
  if (dtype === 'f16') return halfToFloat(view.getUint16(row + 2 * d, true))
  const scale = view.getFloat32(row, true)
  if (dtype === 'int8') return scale * view.getInt8(row + 4 + d)
  if (dtype === 'int4') return scale * (((view.getUint8(row + 4 + (d >> 1)) >> (4 * (d & 1))) & 15) - 8)
  const code = view.getUint8(row + 4 + d)
  const exponent = (code >> 3) & 15
  const magnitude = exponent === 0 ? (code & 7) * 2 ** -9 : (1 + (code & 7) / 8) * 2 ** (exponent - 7)
  return scale * (code >= 128 ? -magnitude : magnitude)
}
