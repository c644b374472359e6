import { describe, expect, test } from 'vitest'
import type { RowSampler } from '../program.ts'
import { logSoftmax, reduceDrift, reduceStep, sample } from './reductions.ts'

const plain: RowSampler = { temperature: 1, topK: 0, topP: 1, minP: 0, seedLow: 11, seedHigh: 3, outputIndex: 0 }
/** Probabilities 0.4, 0.3, 0.2, 0.1 at ids 2, 0, 3, 1. */
const logits = Float64Array.from([0.3, 0.1, 0.4, 0.2], Math.log)

const DRAWS = 20_000

/** How often each id comes up over many output indices. */
function countDraws(sampler: Partial<RowSampler>, values: Float64Array): number[] {
  const counts = Array.from(values, () => 0)
  for (let outputIndex = 0; outputIndex < DRAWS; outputIndex++) counts[sample(values, { ...plain, ...sampler, outputIndex })]! += 1
  return counts
}

describe('sample', () => {
  test.each<[string, Partial<RowSampler>, readonly number[], Float64Array?]>([
    ['follows the softmax', {}, [0.3, 0.1, 0.4, 0.2]],
    ['temperature ½ squares the probabilities', { temperature: 0.5 }, [9 / 30, 1 / 30, 16 / 30, 4 / 30]],
    ['top-k keeps k', { topK: 2 }, [3 / 7, 0, 4 / 7, 0]],
    ['top-k keeps ties', { topK: 1 }, [1 / 3, 1 / 3, 0, 1 / 3], Float64Array.of(1, 1, 0, 1)],
    ['top-p keeps the token that crosses p', { topP: 0.5 }, [3 / 7, 0, 4 / 7, 0]],
    ['top-p keeps ties', { topP: 0.1 }, [1 / 3, 1 / 3, 0, 1 / 3], Float64Array.of(1, 1, 0, 1)],
    ['tiny top-p keeps the best', { topP: 1e-9 }, [0, 0, 1, 0]],
    ['top-p counts only what top-k kept', { topK: 2, topP: 0.57 }, [0, 0, 1, 0]],
    ['min-p is relative to the best', { minP: 0.6 }, [3 / 7, 0, 4 / 7, 0]],
  ])('%s', (_, sampler, expected, values = logits) => {
    const counts = countDraws(sampler, values)
    // Five standard errors of a binomial count; a token that a filter removed must never appear.
    const allowed = expected.map((p) => 5 * Math.sqrt(DRAWS * p * (1 - p)))
    expect(counts.map((count, id) => Math.abs(count - DRAWS * expected[id]!) <= allowed[id]! + 1e-9)).toEqual(expected.map(() => true))
  })

  test('temperature 0 takes the best and the lowest id on ties, whatever the filters', () => {
    expect(sample(Float64Array.of(0, 5, 5, 1), { ...plain, temperature: 0, topK: 3, minP: 0.9 })).toBe(1)
  })

  test('depends on seed and output index alone', () => {
    const flat = new Float64Array(1000)
    const draw = (change: Partial<RowSampler>): number => sample(flat, { ...plain, ...change })
    expect(draw({})).toBe(draw({}))
    expect(new Set([draw({}), draw({ seedLow: 12 }), draw({ seedHigh: 4 }), draw({ outputIndex: 1 })]).size).toBe(4)
  })
})

test('logSoftmax of large logits', () => {
  expect(Array.from(logSoftmax(Float64Array.of(1e4, 1e4, 1e4 - 2000)))).toEqual([-Math.LN2, -Math.LN2, -2000 - Math.LN2])
})

test('reduceStep reports everything per row', () => {
  const input = {
    tokenIds: Uint32Array.of(0, 0),
    positions: Uint32Array.of(0, 1),
    slots: Uint32Array.of(1, 2),
    sequenceOfToken: Uint32Array.of(0, 0),
    queryStart: Uint32Array.of(0, 2),
    sequenceLength: Uint32Array.of(2),
    blockTable: Uint32Array.of(1),
    logitRows: Uint32Array.of(0, 1),
    samplers: [null, { ...plain, temperature: 0 }],
    targets: Uint32Array.of(3, 0xffffffff),
    topCount: 2,
  }
  const half = Math.fround(Math.log(0.5))
  const output = reduceStep(Float64Array.of(...logits, 0, -Infinity, -Infinity, 0), 4, input)
  expect(output).toEqual({
    sampled: Uint32Array.of(0xffffffff, 0),
    sampledLogprob: Float32Array.of(NaN, half),
    argmax: Uint32Array.of(2, 0),
    targetLogprob: Float32Array.of(Math.log(0.2), NaN),
    topIds: Uint32Array.of(2, 0, 0, 3),
    topLogprobs: Float32Array.of(Math.log(0.4), Math.log(0.3), half, half),
    nonFinite: true,
  })
})

test('reduceDrift is zero for equal rows and KL otherwise', () => {
  const other = Float64Array.from([0.25, 0.25, 0.25, 0.25], Math.log)
  const drift = reduceDrift(Float64Array.of(...logits, ...logits), Float64Array.of(...logits, ...other), 4, Uint32Array.of(0, 0xffffffff))
  const kld = [0.3, 0.1, 0.4, 0.2].reduce((sum, p) => sum + p * Math.log(p / 0.25), 0)
  expect(drift.kld[0]).toBe(0)
  expect(drift.kld[1]).toBeCloseTo(kld, 7)
  expect(Array.from(drift.baselineArgmax)).toEqual([2, 2])
  expect(Array.from(drift.candidateArgmax)).toEqual([2, 0])
  expect(Array.from(drift.baselineTargetLogprob)).toEqual([Math.fround(Math.log(0.3)), NaN])
})
