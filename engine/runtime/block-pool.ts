/**
 * Owner of the KV cache's blocks: which are free, who refers to them, and which hold content that another request may share
 * (specs/runtime.md §4). It moves no bytes and knows neither requests nor tokens; content is identified by an opaque hash.
 *
 * Block 0 is the null block: it is never handed out, so a zero in a block table means "nothing". The free list is ordered by eviction:
 * the head is reused first. A free block keeps its hash, and so stays hittable, until it is handed out again.
 */

export class BlockPool {
  readonly blocks: number
  readonly blockSize: number
  readonly #references: Int32Array
  // Circular doubly linked free list through the null block, which as its sentinel costs no extra entry.
  readonly #next: Int32Array
  readonly #previous: Int32Array
  readonly #hashes: (string | null)[]
  readonly #cached = new Map<string, number>()
  #free = 0

  /** `order`: the free list's first order, for tests that permute it; every id from 1 to blocks − 1 once. */
  constructor(blocks: number, blockSize: number, order?: readonly number[]) {
    if (!Number.isInteger(blocks) || blocks < 2) throw new RangeError(`A block pool needs at least 2 blocks, not ${blocks}`)
    if (!Number.isInteger(blockSize) || blockSize < 1) throw new RangeError(`Block size ${blockSize} is not a positive integer`)
    this.blocks = blocks
    this.blockSize = blockSize
    this.#references = new Int32Array(blocks)
    this.#next = new Int32Array(blocks)
    this.#previous = new Int32Array(blocks)
    this.#hashes = Array.from({ length: blocks }, () => null)
    for (let i = 1; i < blocks; i++) this.#linkTail(order === undefined ? i : at(order, i - 1))
  }

  /** Blocks that can be handed out, those with shareable content included. */
  get free(): number {
    return this.#free
  }

  /** Blocks that some table holds. */
  get used(): number {
    return this.blocks - 1 - this.#free
  }

  /** Entries in the content map. */
  get cached(): number {
    return this.#cached.size
  }

  /** Blocks needed for `tokens` tokens. */
  blocksFor(tokens: number): number {
    return Math.ceil(tokens / this.blockSize)
  }

  /** Appends `count` blocks to `table`, evicting their content. All or nothing: false if there are not enough. */
  allocate(count: number, table: number[]): boolean {
    if (count > this.#free) return false
    for (let i = 0; i < count; i++) {
      const block = at(this.#next, 0)
      this.#unlink(block)
      this.unpublish(block)
      this.#references[block] = 1
      table.push(block)
    }
    return true
  }

  /** The block that holds the content, or 0. */
  lookup(hash: string): number {
    return this.#cached.get(hash) ?? 0
  }

  /** How many of these are in the free list, and so would be lost to allocation by a `touch`. */
  countFree(table: readonly number[]): number {
    let count = 0
    for (const block of table) if (this.#references[block] === 0) count++
    return count
  }

  /** Takes a reference on blocks found by `lookup`. Must precede the allocation for the same request, which could evict them. */
  touch(table: readonly number[]): void {
    for (const block of table) {
      if (this.#references[block] === 0) this.#unlink(block)
      this.#references[block] = at(this.#references, block) + 1
    }
  }

  /**
   * Drops one reference of each block, last first, so that of a chain the deepest block is evicted first and shared prefixes live longest.
   * Content that can be shared goes to the list's tail (least recently used is reused first), worthless content to its head.
   */
  release(table: readonly number[]): void {
    for (let i = table.length - 1; i >= 0; i--) {
      const block = at(table, i)
      const references = at(this.#references, block) - 1
      if (references < 0 || block === 0) throw new Error(`Block ${block} was released more often than taken`)
      this.#references[block] = references
      if (references > 0) continue
      if (this.#hashes[block] === null) this.#linkHead(block)
      else this.#linkTail(block)
    }
  }

  /**
   * Declares that a held block is full, verified and written. Where another block already holds that content this one stays private:
   * tables are append-only while a request runs, so blocks are never merged.
   */
  publish(block: number, hash: string): void {
    if (this.#references[block] === 0) throw new Error(`Block ${block} is published but nobody holds it`)
    if (this.#hashes[block] !== null || this.#cached.has(hash)) return
    this.#hashes[block] = hash
    this.#cached.set(hash, block)
  }

  /** Forgets a block's content, because it is about to change or was wrong. */
  unpublish(block: number): void {
    const hash = this.#hashes[block]
    if (hash === null || hash === undefined) return
    this.#hashes[block] = null
    this.#cached.delete(hash)
  }

  /** Forgets all content. Blocks in use stay in use. */
  reset(): void {
    this.#cached.clear()
    this.#hashes.fill(null)
  }

  /** Complete state, for invariant checks in tests. `free` is in eviction order. */
  inspect(): {
    readonly references: readonly number[]
    readonly free: readonly number[]
    readonly hashes: readonly (string | null)[]
    readonly cached: ReadonlyMap<string, number>
  } {
    const free: number[] = []
    for (let block = at(this.#next, 0); block !== 0; block = at(this.#next, block)) free.push(block)
    return { references: [...this.#references], free, hashes: [...this.#hashes], cached: new Map(this.#cached) }
  }

  #linkTail(block: number): void {
    this.#insert(at(this.#previous, 0), block, 0)
  }

  #linkHead(block: number): void {
    this.#insert(0, block, at(this.#next, 0))
  }

  #insert(before: number, block: number, after: number): void {
    this.#previous[block] = before
    this.#next[block] = after
    this.#next[before] = block
    this.#previous[after] = block
    this.#free++
  }

  #unlink(block: number): void {
    const before = at(this.#previous, block)
    const after = at(this.#next, block)
    this.#next[before] = after
    this.#previous[after] = before
    this.#free--
  }
}

function at(values: Int32Array | readonly number[], index: number): number {
  const value = values[index]
  if (value === undefined) throw new RangeError(`No block ${index}`)
  return value
}
