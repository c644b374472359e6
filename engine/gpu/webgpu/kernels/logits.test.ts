/** What a step reports about its logits, and sampling, against the f64 reference on the very same logits. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend, Capacity, Program, RowSampler, StepInput } from '../../program.ts'
import { createReferenceBackend } from '../../reference/backend.ts'
import { testConfigurations } from '../../test/adapters.ts'
import { integer, NO_CACHE, normals, operationProgram, prepare, randomFrom, sequenceStep, worstError } from '../../test/numeric.ts'

/** Log-probabilities reach −20: an f32 unit there is 2e-6, and log Σ exp is good to a few. */
const LOGPROB_TOLERANCE = 1e-5
const KLD_TOLERANCE = 1e-6
const CAPACITY: Capacity = { tokens: 64, rows: 64, sequences: 1, blocksPerSequence: 2 }
const NONE = 0xffffffff

function logitsProgram(rows: Float32Array, vocabulary: number): Program {
  return operationProgram(rows, vocabulary, (x) => ({ operations: [], result: x, weights: [] }))
}

const GREEDY: RowSampler = { temperature: 0, topK: 0, topP: 1, minP: 0, seedLow: 0, seedHigh: 0, outputIndex: 0 }

/** NaN stands for "nothing asked": made comparable. */
function finite(values: Float32Array): Float32Array {
  return values.map((value) => (Number.isNaN(value) ? 12345 : value))
}

describe.each(await testConfigurations())('$name', ({ open }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  it.each([2, 33, 512, 2048, 9001])('reports rows of %i logits', async (vocabulary) => {
    const random = randomFrom(vocabulary)
    const rows = 5
    const logits = normals(random, rows * vocabulary, 3)
    // Row 1: a tie at the top; row 2: one token takes nearly all.
    logits[vocabulary + vocabulary - 1] = 40
    logits[vocabulary + Math.floor(vocabulary / 2)] = 40
    logits[2 * vocabulary] = 60
    const topCount = Math.min(32, vocabulary)
    const input: StepInput = {
      ...sequenceStep(rows, NO_CACHE, CAPACITY),
      samplers: [GREEDY, GREEDY, null, GREEDY, null],
      targets: Uint32Array.of(0, vocabulary - 1, NONE, vocabulary >> 1, 1),
      topCount,
    }
    await using reference = createReferenceBackend()
    const program = logitsProgram(logits, vocabulary)
    using expectedRun = await prepare(reference, program, NO_CACHE, CAPACITY)
    using foundRun = await prepare(backend, program, NO_CACHE, CAPACITY)
    const expected = await expectedRun.executable.step(input)
    const found = await foundRun.executable.step(input)
    expect({ ...found, sampledLogprob: 0, targetLogprob: 0, topLogprobs: 0 }).toEqual({
      ...expected,
      sampledLogprob: 0,
      targetLogprob: 0,
      topLogprobs: 0,
    })
    for (const field of ['sampledLogprob', 'targetLogprob', 'topLogprobs'] as const) {
      expect(worstError(finite(found[field]), finite(expected[field]), () => 1)).toBeLessThanOrEqual(LOGPROB_TOLERANCE)
    }
    // The same with fewer.
    const three = { ...input, topCount: Math.min(3, topCount) }
    expect((await foundRun.executable.step(three)).topIds).toEqual((await expectedRun.executable.step(three)).topIds)
  })

  it('picks the tokens that the reference picks, for any sampler', async () => {
    const vocabulary = 3000
    const rows = 64
    const random = randomFrom(99)
    const logits = normals(random, rows * vocabulary, 2.5)
    const samplers = Array.from({ length: rows }, (_, row): RowSampler => {
      const [topK, topP, minP] = [
        random() < 0.5 ? integer(random, 1, 60) : 0,
        random() < 0.5 ? 0.05 + random() * 0.95 : 1,
        random() < 0.3 ? random() * 0.2 : 0,
      ]
      const word = (): number => Math.floor(random() * 2 ** 32)
      return {
        temperature: 0.2 + random() * 1.5,
        topK,
        topP: Math.min(1, topP),
        minP,
        seedLow: word(),
        seedHigh: word(),
        outputIndex: row * 7,
      }
    })
    const input: StepInput = { ...sequenceStep(rows, NO_CACHE, CAPACITY), samplers }
    await using reference = createReferenceBackend()
    const program = logitsProgram(logits, vocabulary)
    using expectedRun = await prepare(reference, program, NO_CACHE, CAPACITY)
    using foundRun = await prepare(backend, program, NO_CACHE, CAPACITY)
    const expected = await expectedRun.executable.step(input)
    const found = await foundRun.executable.step(input)
    expect([...found.sampled]).toEqual([...expected.sampled])
    expect(worstError(found.sampledLogprob, expected.sampledLogprob, () => 1)).toBeLessThanOrEqual(LOGPROB_TOLERANCE)
    expect(new Set(found.sampled).size).toBeGreaterThan(rows / 2)
  })

  it('keeps ties, and lets extreme filters leave the best token', async () => {
    const vocabulary = 40
    const logits = new Float32Array(6 * vocabulary).map((_, i) => (i % vocabulary < 8 ? 5 : -3))
    const base = { temperature: 1, topK: 0, topP: 1, minP: 0, seedLow: 5, seedHigh: 6 }
    const samplers = Array.from({ length: 6 }, (_, outputIndex): RowSampler => {
      const filters = [{ topK: 3 }, { topP: 0.01 }, { minP: 1 }, { topK: 1, topP: 0.5, minP: 0.5 }, { temperature: 1e-8 }, {}][outputIndex]
      return { ...base, ...filters, outputIndex }
    })
    const input: StepInput = { ...sequenceStep(6, NO_CACHE, CAPACITY), samplers }
    await using reference = createReferenceBackend()
    const program = logitsProgram(logits, vocabulary)
    using expectedRun = await prepare(reference, program, NO_CACHE, CAPACITY)
    using foundRun = await prepare(backend, program, NO_CACHE, CAPACITY)
    const found = [...(await foundRun.executable.step(input)).sampled]
    expect(found).toEqual([...(await expectedRun.executable.step(input)).sampled])
    expect(Math.max(...found.slice(0, 5))).toBeLessThan(8)
  })

  it('samples the softmax: χ² over 3200 draws of eight tokens', async () => {
    const weights = [0.3, 0.2, 0.15, 0.12, 0.1, 0.07, 0.05, 0.01]
    const logits = new Float32Array(64 * 8).map((_, i) => Math.log(weights[i % 8]!))
    using run = await prepare(backend, logitsProgram(logits, 8), NO_CACHE, CAPACITY)
    const counts = Array.from({ length: 8 }, () => 0)
    const draws = 3200
    for (let n = 0; n < draws; n += 64) {
      const samplers = Array.from({ length: 64 }, (_, row): RowSampler => ({
        ...GREEDY,
        temperature: 1,
        seedLow: 1,
        seedHigh: 2,
        outputIndex: n + row,
      }))
      const { sampled } = await run.executable.step({ ...sequenceStep(64, NO_CACHE, CAPACITY), samplers })
      for (const token of sampled) counts[token]! += 1
    }
    const chi = counts.reduce((sum, count, token) => sum + (count - draws * weights[token]!) ** 2 / (draws * weights[token]!), 0)
    // 7 degrees of freedom: 24.3 is exceeded with probability 1e-3. The draws are fixed by the seed, so this cannot flake.
    expect(chi).toBeLessThan(24.3)
  })

  it('measures drift down to divergences that plain f32 sums lose', async () => {
    const vocabulary = 2500
    const rows = 6
    const random = randomFrom(4)
    const baseline = normals(random, rows * vocabulary, 3)
    const candidate = baseline.map((value, i) => value + normals(random, 1, [1e-4, 1e-3, 1e-2, 0.3, 2, 0][Math.floor(i / vocabulary)]!)[0]!)
    const targets = Uint32Array.from({ length: rows }, (_, row) => (row === 3 ? NONE : row * 11))
    const step = sequenceStep(rows, NO_CACHE, CAPACITY)
    const results = []
    for (const on of [createReferenceBackend(), backend]) {
      using a = await prepare(on, logitsProgram(baseline, vocabulary), NO_CACHE, CAPACITY)
      using b = await prepare(on, logitsProgram(candidate, vocabulary), NO_CACHE, CAPACITY)
      await a.executable.step(step)
      await b.executable.step(step)
      results.push(await on.drift(a.executable, b.executable, rows, targets))
    }
    const [expected, found] = [results[0]!, results[1]!]
    expect(found.baselineArgmax).toEqual(expected.baselineArgmax)
    expect(found.candidateArgmax).toEqual(expected.candidateArgmax)
    for (const [row, value] of found.kld.entries()) {
      expect(Math.abs(value - expected.kld[row]!)).toBeLessThanOrEqual(KLD_TOLERANCE * Math.max(1, 10 * expected.kld[row]!))
    }
    expect(found.kld[0]!).toBeGreaterThan(0.8 * expected.kld[0]!)
    expect(found.kld[5]).toBe(0)
    for (const field of ['baselineTargetLogprob', 'candidateTargetLogprob'] as const) {
      expect(Number.isNaN(found[field][3])).toBe(true)
      expect(worstError(finite(found[field]), finite(expected[field]), () => 1)).toBeLessThanOrEqual(LOGPROB_TOLERANCE)
    }
  })
})
