/**
 * Remembers which prefixes were computed before, longer than the cache keeps them, to say why one was not found (CacheMiss in types.ts). Holds
 * hashes only, and a bounded number of them: it may forget, and then calls an old prefix new.
 */
import type { CacheMiss } from './types.ts'

export class PrefixMemory {
  readonly #most: number
  /** Hash of a block → its parent, oldest first. */
  readonly #parents = new Map<string, string>()
  /** Parent → how many remembered blocks continue it. */
  readonly #children = new Map<string, number>()

  /** `most`: hashes to remember. */
  constructor(most: number) {
    this.#most = most
  }

  /** A block was computed; `parent` is the hash before it, or '' for the first. */
  note(hash: string, parent: string): void {
    if (this.#parents.has(hash)) return
    this.#parents.set(hash, parent)
    this.#children.set(parent, (this.#children.get(parent) ?? 0) + 1)
    if (this.#parents.size <= this.#most) return
    const oldest = this.#parents.entries().next().value
    if (oldest === undefined) return
    this.#parents.delete(oldest[0])
    const left = (this.#children.get(oldest[1]) ?? 1) - 1
    if (left === 0) this.#children.delete(oldest[1])
    else this.#children.set(oldest[1], left)
  }

  /** Why the block with this hash is not in the cache although the one before it (`parent`, '' = none) is. */
  explain(hash: string, parent: string): CacheMiss['reason'] {
    if (this.#parents.has(hash)) return 'evicted'
    // Every conversation begins somewhere: another first block is no divergence.
    return parent !== '' && this.#children.has(parent) ? 'diverged' : 'new'
  }
}
