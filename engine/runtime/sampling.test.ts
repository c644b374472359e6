/**
 * Validation and seeds, and the distribution of what the sampler draws: χ² of many seeded draws against probabilities worked out here from the
 * definition in engine/gpu/program.ts, for each option and for all together. Each test also draws from a sampler with one mistake, which the
 * same statistic must reject: otherwise it would prove nothing.
 */
import { describe, expect, it } from 'vitest'
import type { RowSampler } from '../gpu/program.ts'
import { sample } from '../gpu/reference/reductions.ts'
import { foldSeed, resolveSampling } from './sampling.ts'
import { GREEDY } from './test/fake-runtime.ts'

const OFF = { temperature: 1, topK: 0, topP: 1, minP: 0 }
/** Ties on purpose: tokens 3 and 4. Probabilities at T=1 from 0.39 down to 0.0003. */
const LOGITS = [2, 1.5, 1.2, 0.5, 0.5, -0.3, -1, -2, -3.5, -5]
const DRAWS = 20_000

describe('seeds', () => {
  it.each<[number, number, number]>([
    [0, 0, 0],
    [1, 1, 0],
    [0xffffffff, 0xffffffff, 0],
    [2 ** 32, 0, 1],
    [Number.MAX_SAFE_INTEGER, 0xffffffff, 0x1fffff],
    [2 ** 53 + 2, 2, 0x200000],
    [2 ** 63, 0, 0x80000000],
    [2 ** 64, 0, 0],
    [2 ** 80 + 2 ** 40, 0, 256],
    [-2, 0xfffffffe, 0xffffffff],
  ])('%d is taken modulo 2^64', (seed, seedLow, seedHigh) => {
    expect(foldSeed(seed)).toEqual({ seedLow, seedHigh })
  })

  it.each([undefined, -1])('%s draws one that is exact as a number, and another each time', (seed) => {
    const drawn = Array.from({ length: 50 }, () => resolveSampling({ ...OFF, seed }).seed)
    expect(drawn.every((value) => Number.isSafeInteger(value) && value >= 0)).toBe(true)
    expect(new Set(drawn).size).toBe(50)
  })

  it.each([0.5, Number.NaN, Infinity])('%d is refused', (seed) => {
    expect(() => resolveSampling({ ...OFF, seed })).toThrow('seed')
  })
})

describe('values', () => {
  it.each([
    [0, 0],
    [9e-6, 0],
    [1e-4, 0.01],
    [0.01, 0.01],
    [2, 2],
  ])('a temperature of %d becomes %d', (given, used) => {
    expect(resolveSampling({ ...GREEDY, temperature: given, seed: 1 })).toEqual({
      temperature: used,
      topK: 0,
      topP: 1,
      minP: 0,
      seed: 1,
      seedLow: 1,
      seedHigh: 0,
    })
  })

  it('takes −1 for top-k off', () => {
    expect(resolveSampling({ ...OFF, topK: -1 }).topK).toBe(0)
  })
})

type Options = typeof OFF

interface Case {
  readonly name: string
  readonly options: Options
  readonly logits?: readonly number[]
  /** One mistake, as options or logits that the sampler gets instead. */
  readonly mistake: { readonly what: string; readonly options?: Options; readonly logits?: readonly number[] }
}

const CASES: readonly Case[] = [
  { name: 'plain', options: OFF, mistake: { what: 'one logit off by 0.1', logits: LOGITS.with(2, 1.3) } },
  { name: 'cold', options: { ...OFF, temperature: 0.6 }, mistake: { what: 'temperature ignored', options: OFF } },
  {
    name: 'hot',
    options: { ...OFF, temperature: 1.7 },
    mistake: { what: 'inverse temperature', options: { ...OFF, temperature: 1 / 1.7 } },
  },
  { name: 'top-k', options: { ...OFF, topK: 3 }, mistake: { what: 'one too many', options: { ...OFF, topK: 4 } } },
  { name: 'top-k through a tie', options: { ...OFF, topK: 4 }, mistake: { what: 'tie cut', logits: LOGITS.with(4, -20) } },
  {
    name: 'top-p',
    options: { ...OFF, topP: 0.75 },
    mistake: { what: 'the token that crosses is dropped', options: { ...OFF, topP: 0.6 } },
  },
  { name: 'min-p', options: { ...OFF, minP: 0.15 }, mistake: { what: 'not relative to the best', options: { ...OFF, minP: 0.15 / 0.4 } } },
  {
    name: 'all together',
    options: { temperature: 1.4, topK: 6, topP: 0.93, minP: 0.4 },
    mistake: { what: 'min-p forgotten', options: { temperature: 1.4, topK: 6, topP: 0.93, minP: 0 } },
  },
]

describe('distribution', () => {
  it.each(CASES)('$name', ({ options, mistake }) => {
    const expected = expectedProbabilities(LOGITS, options)
    const right = chiSquare(draw(LOGITS, options), expected)
    const wrong = chiSquare(draw(mistake.logits ?? LOGITS, mistake.options ?? options), expected)
    expect({ draws: right < critical(expected), [mistake.what]: wrong < critical(expected) }).toEqual({
      draws: true,
      [mistake.what]: false,
    })
  })

  it('is independent from one position to the next and from one seed to the next', () => {
    const probabilities = expectedProbabilities(LOGITS, OFF)
    const joint = probabilities.flatMap((p) => probabilities.map((q) => p * q))
    const pairs = (next: (i: number) => Partial<RowSampler>): number[] => {
      const counts = joint.map(() => 0)
      for (let i = 0; i < DRAWS; i++) {
        const first = sampleWith(LOGITS, OFF, { seedLow: i, outputIndex: 3 })
        const second = sampleWith(LOGITS, OFF, { seedLow: i, outputIndex: 3, ...next(i) })
        const cell = first * LOGITS.length + second
        counts[cell] = counts[cell]! + 1
      }
      return counts
    }
    const limit = critical(joint)
    expect(
      chiSquare(
        pairs(() => ({ outputIndex: 4 })),
        joint,
      ),
    ).toBeLessThan(limit)
    expect(
      chiSquare(
        pairs((i) => ({ seedLow: i + 1 })),
        joint,
      ),
    ).toBeLessThan(limit)
    expect(
      chiSquare(
        pairs(() => ({ seedHigh: 1 })),
        joint,
      ),
    ).toBeLessThan(limit)
    // The mistake: the same noise again.
    expect(
      chiSquare(
        pairs(() => ({})),
        joint,
      ),
    ).toBeGreaterThan(limit)
  })
})

function sampleWith(logits: readonly number[], options: Options, where: Partial<RowSampler>): number {
  return sample(Float64Array.from(logits), { ...options, seedLow: 0, seedHigh: 0, outputIndex: 0, ...where })
}

function draw(logits: readonly number[], options: Options): number[] {
  const counts = LOGITS.map(() => 0)
  for (let i = 0; i < DRAWS; i++) {
    const token = sampleWith(logits, options, { seedLow: Math.imul(i, 2_654_435_761) >>> 0, seedHigh: i & 7, outputIndex: i % 100 })
    counts[token] = counts[token]! + 1
  }
  return counts
}

/** From the words of the definition, by comparing every token with every other. */
function expectedProbabilities(logits: readonly number[], { temperature, topK, topP, minP }: Options): number[] {
  const z = logits.map((logit) => logit / temperature)
  let kept = z.map(() => true)
  const share = (): number[] => {
    const weights = z.map((value, i) => (kept[i] ? Math.exp(value) : 0))
    const sum = weights.reduce((a, b) => a + b, 0)
    return weights.map((weight) => weight / sum)
  }
  if (topK > 0) kept = z.map((value) => z.filter((other) => other > value).length < topK)
  if (topP < 1) {
    const p = share()
    kept = kept.map((keep, i) => keep && p.reduce((sum, q, j) => (z[j]! > z[i]! ? sum + q : sum), 0) < topP)
  }
  if (minP > 0) {
    const p = share()
    kept = kept.map((keep, i) => keep && p[i]! >= minP * Math.max(...p))
  }
  return share()
}

/** Pearson's statistic; anything drawn that cannot be is infinitely wrong. */
function chiSquare(counts: readonly number[], probabilities: readonly number[]): number {
  const draws = counts.reduce((a, b) => a + b, 0)
  return counts.reduce((sum, count, i) => {
    const expected = probabilities[i]! * draws
    if (expected === 0) return count === 0 ? sum : Infinity
    return sum + (count - expected) ** 2 / expected
  }, 0)
}

/** χ² quantile at 1 − 10⁻⁴ by Wilson and Hilferty: draws are seeded, so this is not a chance of failing but how unlikely the draws are. */
function critical(probabilities: readonly number[]): number {
  const freedom = probabilities.filter((p) => p > 0).length - 1
  const z = 3.719
  return freedom * (1 - 2 / (9 * freedom) + z * Math.sqrt(2 / (9 * freedom))) ** 3
}
