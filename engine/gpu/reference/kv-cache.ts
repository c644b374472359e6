/** Paged keys and values of all layers in the dtype that the layout names. A slot is block · blockSize + offset. */
import { LatheError } from '../../contract/errors.ts'
import { kvTokenBytes, quantizeKvRow, staticScaleOf, valueDtypeOf } from '../kv-format.ts'
import type { KvCache, KvDtype, KvLayout } from '../program.ts'
import { decodeF16, encodeF16 } from './float16.ts'

/** Bytes of a whole cache. */
export function kvCacheBytes(layout: KvLayout): number {
  return kvTokenBytes(layout) * layout.blocks * layout.blockSize
}

export class ReferenceKvCache implements KvCache {
  readonly layout: KvLayout
  readonly bytes: number
  readonly #onDispose: () => void
  #stores: ReadonlyMap<'k' | 'v', Float32Array | Uint16Array> | null

  constructor(layout: KvLayout, onDispose: () => void) {
    const { blockSize, blocks, layers, kvHeads, headDim, dtype } = layout
    const valueDtype = valueDtypeOf(layout)
    const sizes = [blockSize, blocks, layers, kvHeads, headDim]
    if (!sizes.every((size) => Number.isSafeInteger(size) && size > 0) || (blockSize & (blockSize - 1)) !== 0) {
      throw new LatheError('gpu.invalid-operation', `A KV cache of ${JSON.stringify(layout)} cannot exist.`, 'Report this defect.')
    }
    const length = layers * blocks * blockSize * kvHeads * headDim
    // Quantized rows are kept as what reading them gives.
    const store = (of: KvDtype): Float32Array | Uint16Array => (of === 'f16' ? new Uint16Array(length) : new Float32Array(length))
    this.layout = layout
    this.bytes = kvCacheBytes(layout)
    this.#onDispose = onDispose
    this.#stores = new Map([
      ['k', store(dtype)],
      ['v', store(valueDtype)],
    ])
  }

  /** Stores `values` [kvHeads·headDim] of one token. */
  write(layer: number, which: 'k' | 'v', slot: number, values: Float64Array): void {
    const store = this.#store(which)
    const start = this.#start(layer, slot)
    const { headDim } = this.layout
    const dtype = which === 'k' ? this.layout.dtype : valueDtypeOf(this.layout)
    if (dtype !== 'f32' && dtype !== 'f16') {
      for (let at = 0; at < values.length; at += headDim) {
        const scale = staticScaleOf(this.layout, which, layer, at / headDim)
        store.set(quantizeKvRow(values.subarray(at, at + headDim), dtype, scale), start + at)
      }
      return
    }
    for (const [i, value] of values.entries()) store[start + i] = store instanceof Uint16Array ? encodeF16(value) : value
  }

  /** One head of one slot, [headDim]. */
  head(layer: number, which: 'k' | 'v', slot: number, head: number): Float64Array {
    const store = this.#store(which)
    const { headDim } = this.layout
    const start = this.#start(layer, slot) + head * headDim
    const values = Float64Array.from(store.subarray(start, start + headDim))
    return store instanceof Uint16Array ? values.map(decodeF16) : values
  }

  read(layer: number, which: 'k' | 'v', slots: Uint32Array): Promise<Float32Array> {
    const { kvHeads, headDim } = this.layout
    const content = new Float32Array(slots.length * kvHeads * headDim)
    for (const [i, slot] of slots.entries()) {
      for (let head = 0; head < kvHeads; head++) content.set(this.head(layer, which, slot, head), (i * kvHeads + head) * headDim)
    }
    return Promise.resolve(content)
  }

  readonly blockFormat = 'reference'

  get blockBytes(): number {
    return this.#parts().reduce((sum, { bytes }) => sum + this.layout.layers * bytes, 0)
  }

  readBlocks(blocks: readonly number[]): Promise<Uint8Array> {
    const out = new Uint8Array(blocks.length * this.blockBytes)
    let at = 0
    this.#eachPart(blocks, (part) => {
      out.set(part, at)
      at += part.length
    })
    return Promise.resolve(out)
  }

  writeBlocks(blocks: readonly number[], bytes: Uint8Array): Promise<void> {
    let at = 0
    this.#eachPart(blocks, (part) => {
      part.set(bytes.subarray(at, at + part.length))
      at += part.length
    })
    return Promise.resolve()
  }

  /** Keys and values as bytes, with the size of a block in one layer. */
  #parts(): readonly { readonly view: Uint8Array; readonly bytes: number }[] {
    const { layers, blocks } = this.layout
    return (['k', 'v'] as const).map((which) => {
      const { buffer, byteOffset, byteLength } = this.#store(which)
      return { view: new Uint8Array(buffer, byteOffset, byteLength), bytes: byteLength / (layers * blocks) }
    })
  }

  #eachPart(blocks: readonly number[], visit: (part: Uint8Array) => void): void {
    const parts = this.#parts()
    for (const block of blocks) {
      for (let layer = 0; layer < this.layout.layers; layer++) {
        for (const { view, bytes } of parts) {
          const start = (layer * this.layout.blocks + block) * bytes
          visit(view.subarray(start, start + bytes))
        }
      }
    }
  }

  [Symbol.dispose](): void {
    this.#stores = null
    this.#onDispose()
  }

  #store(which: 'k' | 'v'): Float32Array | Uint16Array {
    const store = this.#stores?.get(which)
    if (store === undefined) throw new LatheError('gpu.invalid-operation', 'The KV cache was disposed.', 'Report this defect.')
    return store
  }

  #start(layer: number, slot: number): number {
    const { blocks, blockSize, kvHeads, headDim } = this.layout
    return (layer * blocks * blockSize + slot) * kvHeads * headDim
  }
}
