/** Every sampler option draws from the distribution that its formula says (χ²), and not from the one without it. */
import { expect, it } from 'vitest'
import type { RowAdjustment, RowSampler } from '../program.ts'
import { sample } from './reductions.ts'

const NEUTRAL: RowSampler = { temperature: 1, topK: 0, topP: 1, minP: 0, seedLow: 1, seedHigh: 2, outputIndex: 0 }
const DRAWS = 8000
const weights = [0.3, 0.2, 0.15, 0.12, 0.1, 0.07, 0.05, 0.01]

const listed = (changes: Partial<RowAdjustment>): RowAdjustment => ({
  allowed: null,
  ids: Uint32Array.of(0, 3, 5),
  bias: new Float32Array(3),
  generated: Uint32Array.of(2, 1, 0),
  seen: Uint8Array.of(1, 1, 1),
  presence: 0,
  frequency: 0,
  repetition: 1,
  ...changes,
})
const times = (factors: Readonly<Record<number, number>>): number[] => weights.map((weight, id) => weight * (factors[id] ?? 1))
const only = (ids: readonly number[]): number[] => weights.map((weight, id) => (ids.includes(id) ? weight : 0))

// Expected weights by hand: a penalty p multiplies a probability by e^−p; a repetition penalty r raises one below 1 to the power r.
it.each<[string, Partial<RowSampler>, number[]]>([
  ['temperature', { temperature: 0.5 }, weights.map((weight) => weight ** 2)],
  ['top-k', { topK: 3 }, only([0, 1, 2])],
  ['top-p', { topP: 0.6 }, only([0, 1, 2])],
  ['min-p', { minP: 0.3 }, only([0, 1, 2, 3, 4])],
  ['bias', { adjust: listed({ bias: Float32Array.of(-1, 1, -Infinity) }) }, times({ 0: Math.exp(-1), 3: Math.E, 5: 0 })],
  ['presence', { adjust: listed({ presence: 0.7 }) }, times({ 0: Math.exp(-0.7), 3: Math.exp(-0.7) })],
  ['frequency', { adjust: listed({ frequency: 0.4 }) }, times({ 0: Math.exp(-0.8), 3: Math.exp(-0.4) })],
  ['repetition', { adjust: listed({ repetition: 1.6 }) }, weights.map((weight, id) => ([0, 3, 5].includes(id) ? weight ** 1.6 : weight))],
  ['mask with top-k', { topK: 2, adjust: listed({ allowed: Uint32Array.of(0b10110100) }) }, only([2, 4])],
  // 0.3 and 0.12 shrink to 0.041 and 0.016; 0.2 + 0.15 of 0.637 is the first sum above half.
  ['penalty before top-p', { topP: 0.5, adjust: listed({ presence: 2 }) }, only([1, 2])],
  [
    'bias before temperature',
    { temperature: 0.5, adjust: listed({ bias: Float32Array.of(-1, 0, 0) }) },
    weights.map((w, id) => (id === 0 ? w / Math.E : w) ** 2),
  ],
])('samples the distribution of %s, which is not that of nothing', (_, option, expected) => {
  const logits = Float64Array.from(weights, Math.log)
  const counts = Array.from({ length: weights.length }, () => 0)
  for (let outputIndex = 0; outputIndex < DRAWS; outputIndex++) counts[sample(logits, { ...NEUTRAL, ...option, outputIndex })]! += 1
  // 24.3 is exceeded with probability 1e-3 at 7 degrees of freedom, less at fewer. The draws are fixed by the seed.
  expect(chiSquare(counts, expected)).toBeLessThan(24.3)
  expect(chiSquare(counts, weights)).toBeGreaterThan(100)
})

function chiSquare(counts: readonly number[], expectedWeights: readonly number[]): number {
  const total = expectedWeights.reduce((sum, weight) => sum + weight, 0)
  return counts.reduce((sum, count, id) => {
    const expected = (DRAWS * expectedWeights[id]!) / total
    return expected === 0 ? sum + (count === 0 ? 0 : Infinity) : sum + (count - expected) ** 2 / expected
  }, 0)
}
