/**
 * Names the content of KV blocks: h_i = sha256(h_{i−1} ‖ tokens of block i), so that equal hashes mean equal whole prefixes
 * (specs/runtime.md §4.3). h_{−1} is random per runtime, so that no hash outlives the weights and cache format it was made with and nobody
 * can guess one, and holds the request's salt, which the chain carries on. Sampling parameters do not alter K and V and are not in it.
 */
import { hash, randomBytes } from 'node:crypto'

/** One character per digest byte ("binary" is Node's other name of latin1): the most compact string key. */
const DIGEST_ENCODING = 'binary'
const DIGEST_BYTES = 32

export class PrefixHasher {
  readonly #root = randomBytes(DIGEST_BYTES)
  readonly #blockSize: number
  readonly #scratch: Buffer

  constructor(blockSize: number) {
    this.#blockSize = blockSize
    this.#scratch = Buffer.alloc(DIGEST_BYTES + 4 * blockSize)
  }

  /** The parent of a sequence's first block. Salts of different length cannot collide: the digest of the salt itself has fixed length. */
  start(salt: string): string {
    return digest(Buffer.concat([this.#root, Buffer.from(digest(Buffer.from(salt, 'utf8')), DIGEST_ENCODING)]))
  }

  /** Extends `hashes` to cover the first `blocks` full blocks of `tokens`. */
  extend(hashes: string[], salt: string, tokens: Uint32Array, blocks: number): void {
    for (let i = hashes.length; i < blocks; i++) {
      const parent = hashes[i - 1] ?? this.start(salt)
      this.#scratch.write(parent, 0, DIGEST_ENCODING)
      for (let j = 0; j < this.#blockSize; j++) {
        const token = tokens[i * this.#blockSize + j]
        if (token === undefined) throw new RangeError(`Block ${i} is not full: ${tokens.length} tokens`)
        this.#scratch.writeUInt32LE(token, DIGEST_BYTES + 4 * j)
      }
      hashes.push(digest(this.#scratch))
    }
  }
}

function digest(bytes: Uint8Array): string {
  return hash('sha256', bytes, DIGEST_ENCODING)
}
