/**
 * The paged key-value cache: per layer one buffer of keys and one of values, [block][kv head][token in block][padded head dimension], so that
 * a head's keys within a block are contiguous. Rows are padded to 16 bytes. Which block belongs to whom is the runtime's business.
 */
import { LatheError } from '../../contract/errors.ts'
import type { KvCache, KvLayout } from '../program.ts'
import type { GpuDevice } from './device.ts'
import type { LedgerAccount } from './ledger.ts'
import { readBuffer } from './readback.ts'
import { halfToFloat } from './weights.ts'

export interface KvBuffers {
  readonly keys: readonly GPUBuffer[]
  readonly values: readonly GPUBuffer[]
}

/** Head dimension as stored: whole 16-byte units. */
export function paddedHeadDim(layout: KvLayout): number {
  const unit = layout.dtype === 'f16' ? 8 : 4
  return Math.ceil(layout.headDim / unit) * unit
}

export function kvElementBytes(layout: KvLayout): number {
  return layout.dtype === 'f16' ? 2 : 4
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
    const bytes = blocks * blockSize * kvHeads * paddedHeadDim(layout) * kvElementBytes(layout)
    const limit = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize)
    if (bytes > limit) {
      const most = Math.floor((blocks * limit) / bytes) * blockSize
      throw new LatheError(
        'gpu.out-of-memory',
        `The key-value cache needs ${bytes} bytes per layer for ${blocks * blockSize} tokens; this adapter binds at most ${limit}.`,
        `Ask for a context of at most ${most} tokens, or for an f16 cache.`,
        { data: { needBytes: bytes, limitBytes: limit, maxTokens: most } },
      )
    }
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
    const requests = [...Array(2 * layers).keys()].map((index) => {
      return { name: `${index < layers ? 'keys' : 'values'} of layer ${index % layers}`, bytes, usage }
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
    const { kvHeads, headDim, blockSize, dtype } = this.layout
    const padded = paddedHeadDim(this.layout)
    const bytes = await readBuffer(this.#gpu, this.#account, buffer, 0, buffer.size)
    const view = new DataView(bytes)
    const out = new Float32Array(slots.length * kvHeads * headDim)
    for (const [n, slot] of slots.entries()) {
      for (let head = 0; head < kvHeads; head++) {
        const row = ((Math.floor(slot / blockSize) * kvHeads + head) * blockSize + (slot % blockSize)) * padded
        for (let d = 0; d < headDim; d++) {
          const value = dtype === 'f16' ? halfToFloat(view.getUint16((row + d) * 2, true)) : view.getFloat32((row + d) * 4, true)
          out[(n * kvHeads + head) * headDim + d] = value
        }
      }
    }
    return out
  }

  [Symbol.dispose](): void {
    this.#disposed = true
    this.#account.release()
  }
}
