import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { PrefixHasher } from './prefix-hash.ts'

const tokens = Uint32Array.from({ length: 20 }, (_, i) => i * 65_537)

function hashes(hasher: PrefixHasher, of: Uint32Array, blocks: number, salt = ''): string[] {
  const out: string[] = []
  hasher.extend(out, salt, of, blocks)
  return out
}

describe('PrefixHasher', () => {
  it('chains sha256 over the parent’s digest and the tokens as little-endian words', () => {
    const hasher = new PrefixHasher(4)
    const [first, second] = hashes(hasher, tokens, 2)
    const block = Buffer.alloc(16)
    for (let i = 0; i < 4; i++) block.writeUInt32LE(tokens[4 + i]!, 4 * i)
    expect(second).toBe(createHash('sha256').update(first!, 'latin1').update(block).digest('binary'))
  })

  it('extends what is there, and the same tokens give the same names', () => {
    const hasher = new PrefixHasher(4)
    const grown = hashes(hasher, tokens, 2)
    hasher.extend(grown, '', tokens, 5)
    expect(grown).toEqual(hashes(hasher, tokens, 5))
    expect(new Set(grown).size).toBe(5)
  })

  it('depends on every token before, on the salt and on the runtime', () => {
    const hasher = new PrefixHasher(4)
    const base = hashes(hasher, tokens, 5)
    const changed = hashes(hasher, tokens.with(0, 1), 5)
    const late = hashes(hasher, tokens.with(19, 1), 5)
    const salted = hashes(hasher, tokens, 5, 'tenant')
    const elsewhere = hashes(new PrefixHasher(4), tokens, 5)
    const equal = (other: string[]): number => other.filter((hash, i) => hash === base[i]).length
    expect([changed, late, salted, elsewhere].map(equal)).toEqual([0, 4, 0, 0])
  })

  it('refuses a block that is not full', () => {
    expect(() => hashes(new PrefixHasher(4), tokens.slice(0, 7), 2)).toThrow('not full')
  })
})
