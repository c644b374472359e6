/**
 * The paged key-value cache: per layer one buffer of keys and one of values, [block][kv head][token in block][padded head dimension], so that
 * a head's keys within a block are contiguous. Rows are padded to 16 bytes; quantized ones are a scale and codes (kv-format.ts). Which block belongs to whom is the runtime's business.
 */
import { LatheError } from '../../contract/errors.ts'
import { isQuantized, kvRowBytes, valueDtypeOf } from '../kv-format.ts'
import type { KvCache, KvDtype, KvLayout } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { LedgerAccount } from './ledger.ts'
import { readBuffer } from './readback.ts'
import { halfToFloat } from './weights.ts'

export interface KvBuffers {
  readonly keys: readonly GPUBuffer[]
  readonly values: readonly GPUBuffer[]
}

/** Whether either side has scales; both are then read word by word. */
export function isScaled(layout: KvLayout): boolean {
  return layout.dtype !== valueDtypeOf(layout) || isQuantized(layout.dtype)
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
  readonly #gpu: GpuDevice
  readonly #account: LedgerAccount
  #disposed = false

  private constructor(gpu: GpuDevice, account: LedgerAccount, layout: KvLayout, buffers: readonly GPUBuffer[]) {
    this.#gpu = gpu
    this.#account = account
    this.layout = layout
    this.keys = buffers.slice(0, layout.layers)
    this.values = buffers.slice(layout.layers)
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
    const buffers = await account.allocate(requests)
    try {
      // Dawn zeroes lazily: touching the pool now makes the driver commit it now, not in the middle of a chat (runtime.md §4.9).
      await gpu.scoped('zeroing the key-value cache', () => {
        const encoder = gpu.device.createCommandEncoder({ label: 'zero kv' })
        for (const buffer of buffers) encoder.clearBuffer(buffer)
        gpu.device.queue.submit([encoder.finish()])
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
