/** What the reference backend holds, by owner: the counterpart of the device memory ledger. Its bytes are those of this process's memory. */

export interface Lease extends Disposable {
  readonly bytes: number
}

export class Ledger {
  readonly #entries = new Map<symbol, { readonly owner: string; readonly bytes: number }>()

  hold(owner: string, bytes: number): Lease {
    const key = Symbol(owner)
    this.#entries.set(key, { owner, bytes })
    return { bytes, [Symbol.dispose]: () => void this.#entries.delete(key) }
  }

  usage(): ReadonlyMap<string, { readonly bytes: number; readonly buffers: number }> {
    const byOwner = new Map<string, { bytes: number; buffers: number }>()
    for (const { owner, bytes } of this.#entries.values()) {
      const sum = byOwner.get(owner) ?? { bytes: 0, buffers: 0 }
      byOwner.set(owner, { bytes: sum.bytes + bytes, buffers: sum.buffers + 1 })
    }
    return byOwner
  }
}
