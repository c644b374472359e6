/**
 * Prompt lookup (specs/runtime.md §6.1): if the last few tokens occurred before, what followed them then is likely to follow now. The most recent
 * occurrence wins, which suits chat and code. An index per request grows with its tokens, so a step costs what is new, not what is known.
 */
import type { Request } from '../request.ts'
import type { DraftQuery, Proposer } from './proposer.ts'

/** Longest first: a longer match is a better guess. Single tokens repeat by chance. */
const LENGTHS = [4, 3, 2] as const
/** Spreads ids over a double's 53 bits. Keys may collide: a hit is compared token by token. */
const KEY_FACTOR = 8191
const KEY_MODULUS = 2 ** 38

/** Last place where each n-gram of one length ended. */
class NgramIndex {
  readonly #length: number
  readonly #lastEnd = new Map<number, number>()
  #indexed = 0

  constructor(length: number) {
    this.#length = length
  }

  /** End of the most recent earlier occurrence of the n-gram that ends at `count − 1`, or −1. */
  find(tokens: Uint32Array, count: number): number {
    const length = this.#length
    // Known tokens only grow; the last one is the question, not an answer.
    for (let end = Math.max(this.#indexed, length - 1); end < count - 1; end++) this.#lastEnd.set(keyOf(tokens, end, length), end)
    this.#indexed = Math.max(this.#indexed, count - 1)
    if (count < length + 1) return -1
    const end = this.#lastEnd.get(keyOf(tokens, count - 1, length)) ?? -1
    if (end < 0) return -1
    for (let i = 0; i < length; i++) if (tokens[end - i] !== tokens[count - 1 - i]) return -1
    return end
  }
}

function keyOf(tokens: Uint32Array, end: number, length: number): number {
  let key = 0
  for (let i = end - length + 1; i <= end; i++) key = (key * KEY_FACTOR + (tokens[i] ?? 0)) % KEY_MODULUS
  return key
}

export class NgramProposer implements Proposer {
  readonly kind = 'ngram'
  readonly #indexes = new WeakMap<Request, readonly NgramIndex[]>()

  async propose(queries: readonly DraftQuery[]): Promise<readonly (readonly number[])[]> {
    return queries.map(({ request, most }) => this.#lookup(request, most))
  }

  [Symbol.dispose](): void {
    // Indexes go with their requests.
  }

  #lookup(request: Request, most: number): number[] {
    let indexes = this.#indexes.get(request)
    if (indexes === undefined) {
      indexes = LENGTHS.map((length) => new NgramIndex(length))
      this.#indexes.set(request, indexes)
    }
    const { tokens, tokenCount } = request
    // Every index is asked, so that each stays up to date.
    const ends = indexes.map((index) => index.find(tokens, tokenCount))
    const end = ends.find((place) => place >= 0)
    if (end === undefined) return []
    const drafts: number[] = []
    // Past the last known token a repetition goes on with itself.
    for (let i = 0; i < most; i++) {
      const place = end + 1 + i
      const token = place < tokenCount ? tokens[place] : drafts[place - tokenCount]
      if (token === undefined) break
      drafts.push(token)
    }
    return drafts
  }
}
