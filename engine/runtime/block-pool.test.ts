import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BlockPool } from './block-pool.ts'

/** Printed by fast-check on failure; fixed so that a failure is the same everywhere. */
const SEED = 20_260_817

describe('BlockPool', () => {
  it('hands out every block but the null block, then refuses all or nothing', () => {
    const pool = new BlockPool(5, 16)
    const table: number[] = []
    expect(pool.allocate(3, table)).toBe(true)
    expect(pool.allocate(2, table)).toBe(false)
    expect({ table, free: pool.free, used: pool.used }).toEqual({ table: [1, 2, 3], free: 1, used: 3 })
    expect(pool.allocate(1, table)).toBe(true)
    expect(table).toEqual([1, 2, 3, 4])
  })

  it('reuses worthless blocks first, then the least recently released chain from its end', () => {
    const pool = new BlockPool(7, 4)
    const first: number[] = []
    const second: number[] = []
    pool.allocate(3, first) // 1 2 3
    pool.allocate(3, second) // 4 5 6
    pool.publish(1, 'a')
    pool.publish(2, 'ab')
    pool.publish(4, 'x')
    pool.release(first) // 3 is worthless
    pool.release(second) // 6 and 5 are worthless
    expect(pool.inspect().free).toEqual([5, 6, 3, 2, 1, 4])
  })

  it('keeps content findable after release until the block is handed out again', () => {
    const pool = new BlockPool(3, 4)
    const table: number[] = []
    pool.allocate(2, table)
    pool.publish(1, 'a')
    pool.release(table)
    expect(pool.lookup('a')).toBe(1)
    pool.touch([1])
    expect({ used: pool.used, free: pool.free }).toEqual({ used: 1, free: 1 })
    pool.release([1])
    pool.allocate(2, [])
    expect({ found: pool.lookup('a'), cached: pool.cached }).toEqual({ found: 0, cached: 0 })
  })

  it('never merges blocks of equal content', () => {
    const pool = new BlockPool(4, 4)
    const table: number[] = []
    pool.allocate(2, table)
    pool.publish(1, 'a')
    pool.publish(2, 'a')
    expect(pool.lookup('a')).toBe(1)
    pool.unpublish(2)
    expect(pool.lookup('a')).toBe(1)
  })

  it('refuses a double release and a bad shape', () => {
    const pool = new BlockPool(3, 4)
    pool.allocate(1, [])
    pool.release([1])
    expect(() => pool.release([1])).toThrow('released more often')
    expect(() => pool.release([0])).toThrow('released more often')
    expect(() => new BlockPool(1, 4)).toThrow(RangeError)
    expect(() => new BlockPool(4, 0)).toThrow(RangeError)
  })

  it('conserves blocks under any sequence of operations', () => {
    const operation = fc.oneof(
      fc.record({ kind: fc.constant('allocate' as const), count: fc.integer({ min: 0, max: 5 }) }),
      fc.record({ kind: fc.constant('release' as const), which: fc.nat(9) }),
      fc.record({ kind: fc.constant('publish' as const), which: fc.nat(9), hash: fc.nat(12) }),
      fc.record({ kind: fc.constant('share' as const), hash: fc.nat(12) }),
      fc.record({ kind: fc.constant('reset' as const) }),
    )
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 12 }), fc.array(operation, { maxLength: 60 }), (blocks, operations) => {
        const pool = new BlockPool(blocks, 4)
        const tables: number[][] = []
        for (const step of operations) {
          if (step.kind === 'allocate') {
            const table: number[] = []
            const fits = step.count <= pool.free
            const got = { allocated: pool.allocate(step.count, table), blocks: table.length }
            if (got.allocated !== fits || got.blocks !== (fits ? step.count : 0))
              throw new Error(`${step.count} blocks: ${JSON.stringify(got)}`)
            tables.push(table)
          } else if (step.kind === 'release') {
            const [table] = tables.splice(step.which % Math.max(tables.length, 1), 1)
            if (table !== undefined) pool.release(table)
          } else if (step.kind === 'publish') {
            const block = tables[step.which % Math.max(tables.length, 1)]?.[0]
            if (block !== undefined) pool.publish(block, `h${step.hash}`)
          } else if (step.kind === 'share') {
            const block = pool.lookup(`h${step.hash}`)
            if (block !== 0) {
              pool.touch([block])
              tables.push([block])
            }
          } else pool.reset()
          const state = pool.inspect()
          const held = tables.flat()
          for (let block = 1; block < blocks; block++) {
            const references = held.filter((other) => other === block).length
            expect(state.references[block]).toBe(references)
            expect(state.free.includes(block)).toBe(references === 0)
          }
          expect(state.free.length).toBe(pool.free)
          for (const [hash, block] of state.cached) expect(state.hashes[block]).toBe(hash)
          expect(state.hashes.filter((hash) => hash !== null).length).toBe(state.cached.size)
        }
      }),
      { seed: SEED, numRuns: 300 },
    )
  })
})
