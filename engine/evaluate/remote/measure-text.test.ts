import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { EvaluationCache } from '../tasks/cache.ts'
import { cachedTextSource } from './cached-source.ts'
import { boundedDivergence } from './measure-text.ts'
import type { ScoredRows, TextSource } from './text-source.ts'

const SEED = 20261123

/** Positive weights as a distribution. */
function distribution(weights: readonly number[]): number[] {
  const sum = weights.reduce((total, weight) => total + weight, 0)
  return weights.map((weight) => weight / sum)
}

/** What a model tells: its `count` most probable tokens, and the text's own. */
function told(probabilities: readonly number[], count: number, target: number): Map<number, number> {
  const ranked = Array.from(probabilities.keys()).toSorted((a, b) => probabilities[b]! - probabilities[a]!)
  return new Map([...ranked.slice(0, count), target].map((id) => [id, Math.log(probabilities[id]!)]))
}

function divergence(p: readonly number[], q: readonly number[]): number {
  return p.reduce((sum, value, i) => sum + value * Math.log(value / q[i]!), 0)
}

describe('the divergence of what two engines tell', () => {
  test('is never negative nor more than the whole, and the whole where everything is told', () => {
    const weights = fc.integer({ min: 2, max: 24 }).chain((size) => {
      const values = fc.array(fc.double({ min: 1e-9, max: 1, noNaN: true }), { minLength: size, maxLength: size })
      return fc.tuple(values, values, fc.nat(size - 1), fc.integer({ min: 0, max: size }), fc.integer({ min: 0, max: size }))
    })
    fc.assert(
      fc.property(weights, ([first, second, target, listedP, listedQ]) => {
        const [p, q] = [distribution(first), distribution(second)]
        const whole = divergence(p, q)
        const bound = boundedDivergence(told(p, listedP, target), told(q, listedQ, target))
        expect(bound).toBeGreaterThanOrEqual(0)
        expect(bound).toBeLessThanOrEqual(whole + 1e-9)
        expect(boundedDivergence(told(p, p.length, target), told(q, q.length, target))).toBeCloseTo(whole, 9)
        expect(boundedDivergence(told(p, listedP, target), told(p, listedP, target))).toBe(0)
      }),
      { seed: SEED, numRuns: 500 },
    )
  })

  test('by hand: tokens that one side does not list go with the rest', () => {
    // p = (0.7, 0.2, 0.1), q = (0.6, 0.1, 0.3): both list token 0; q lists 2 where p lists 1.
    const p = new Map([
      [0, Math.log(0.7)],
      [1, Math.log(0.2)],
    ])
    const q = new Map([
      [0, Math.log(0.6)],
      [2, Math.log(0.3)],
    ])
    expect(boundedDivergence(p, q)).toBeCloseTo(0.7 * Math.log(0.7 / 0.6) + 0.3 * Math.log(0.3 / 0.4), 12)
  })
})

function memoryCache(): EvaluationCache & { readonly kept: Map<string, unknown> } {
  const kept = new Map<string, unknown>()
  return {
    kept,
    get: (key) => kept.get(key),
    // As a file would give it back.
    put: (key, value) => void kept.set(key, JSON.parse(JSON.stringify(value))),
    flush: async () => {},
  }
}

function countingSource(scored: ScoredRows): TextSource & { asked: number } {
  const source = {
    name: 'far',
    bosToken: null,
    eosToken: null,
    asked: 0,
    encode: async () => new Uint32Array(),
    async score() {
      source.asked++
      return scored
    },
  }
  return source
}

describe('answers that are kept', () => {
  const logprob = fc.double({ min: -30, max: 0, noNaN: true })
  const row = fc.record({
    targetLogprob: logprob,
    topId: fc.option(fc.nat(300_000)),
    logprobs: fc.array(fc.tuple(fc.nat(300_000), logprob), { maxLength: 6 }).map((pairs) => new Map(pairs)),
  })

  test('come back as they were, for the same model, tokens and place only', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 5 }), fc.nat(20), async (rows, listed) => {
        const cache = memoryCache()
        const source = countingSource({ rows, listed })
        const tokens = Uint32Array.from({ length: rows.length + 1 }, (_, i) => i)
        const kept = cachedTextSource(source, 'model', cache)
        const first = await kept.score(tokens, 1, undefined)
        expect(await cachedTextSource(source, 'model', cache).score(tokens, 1, undefined)).toEqual(first)
        expect(source.asked).toBe(1)
        await cachedTextSource(source, 'another', cache).score(tokens, 1, undefined)
        await kept.score(tokens.toReversed(), 1, undefined)
        expect(source.asked).toBe(3)
      }),
      { seed: SEED, numRuns: 100 },
    )
  })

  test('of another shape are asked for again, whatever stands there', async () => {
    const scored: ScoredRows = { rows: [{ targetLogprob: -1, topId: 3, logprobs: new Map([[3, -0.5]]) }], listed: 1 }
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.jsonValue(), fc.array(fc.integer({ min: -2, max: 4 }), { maxLength: 12 })), async (junk) => {
        const cache = memoryCache()
        const source = countingSource(scored)
        const kept = cachedTextSource(source, 'model', cache)
        await kept.score(Uint32Array.of(1, 2), 1, undefined)
        for (const key of cache.kept.keys()) cache.kept.set(key, junk)
        const again = await kept.score(Uint32Array.of(1, 2), 1, undefined)
        expect(again.rows).toHaveLength(1)
      }),
      { seed: SEED, numRuns: 300 },
    )
  })
})
