/** Masks, biases and penalties: against the f64 reference (whose distributions reference/reductions.test.ts checks), with nothing left behind. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend, Capacity, Program, RowAdjustment, RowSampler, StepInput } from '../../program.ts'
import { createReferenceBackend } from '../../reference/backend.ts'
import { testConfigurations } from '../../test/adapters.ts'
import {
  integer,
  NO_CACHE,
  normals,
  operationProgram,
  prepare,
  type Random,
  randomFrom,
  sequenceStep,
  worstError,
} from '../../test/numeric.ts'

const LOGPROB_TOLERANCE = 1e-5
const CAPACITY: Capacity = { tokens: 64, rows: 64, sequences: 1, blocksPerSequence: 2 }
const NONE = 0xffffffff
const GREEDY: RowSampler = { temperature: 0, topK: 0, topP: 1, minP: 0, seedLow: 0, seedHigh: 0, outputIndex: 0 }
const NO_ADJUSTMENT: RowAdjustment = {
  allowed: null,
  ids: new Uint32Array(0),
  bias: new Float32Array(0),
  generated: new Uint32Array(0),
  seen: new Uint8Array(0),
  presence: 0,
  frequency: 0,
  repetition: 1,
}

function logitsProgram(rows: Float32Array, vocabulary: number): Program {
  return operationProgram(rows, vocabulary, (x) => ({ operations: [], result: x, weights: [] }))
}

function maskOf(vocabulary: number, allows: (id: number) => boolean): Uint32Array {
  const words = new Uint32Array(Math.ceil(vocabulary / 32))
  for (let id = 0; id < vocabulary; id++) if (allows(id)) words[id >> 5]! |= 1 << (id & 31)
  return words
}

function randomAdjustment(random: Random, vocabulary: number): RowAdjustment {
  const ids = Uint32Array.from(new Set(Array.from({ length: integer(random, 0, 90) }, () => integer(random, 0, vocabulary - 1))))
  const share = random()
  return {
    allowed: random() < 0.5 ? null : maskOf(vocabulary, () => random() < share),
    ids,
    bias: Float32Array.from(ids, () => (random() < 0.2 ? -Infinity : random() < 0.5 ? 0 : 8 * random() - 4)),
    generated: Uint32Array.from(ids, () => integer(random, 0, 3)),
    seen: Uint8Array.from(ids, () => integer(random, 0, 1)),
    presence: random() < 0.5 ? 0 : 4 * random() - 2,
    frequency: random() < 0.5 ? 0 : 4 * random() - 2,
    repetition: random() < 0.5 ? 1 : 0.5 + random(),
  }
}

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

  it('chooses what the reference chooses, reports untouched log-probabilities, and leaves the logits as they were', async () => {
    const vocabulary = 600
    const rows = 30
    const random = randomFrom(7)
    const logits = normals(random, rows * vocabulary, 2.5)
    const samplers = Array.from({ length: rows }, (_, row): RowSampler => {
      const word = (): number => Math.floor(random() * 2 ** 32)
      const filters = {
        topK: random() < 0.4 ? integer(random, 1, 60) : 0,
        topP: random() < 0.4 ? 0.05 + random() * 0.95 : 1,
        minP: random() < 0.3 ? random() * 0.2 : 0,
      }
      const choice = { ...filters, seedLow: word(), seedHigh: word(), outputIndex: row }
      const temperature = row % 4 === 0 ? 0 : 0.2 + random() * 1.5
      return { ...choice, temperature, ...(row % 5 === 1 ? {} : { adjust: randomAdjustment(random, vocabulary) }) }
    })
    const plain: StepInput = {
      ...sequenceStep(rows, NO_CACHE, CAPACITY),
      samplers: samplers.map((sampler) => ({ ...sampler, adjust: undefined })),
      targets: Uint32Array.from({ length: rows }, (_, row) => row * 3),
      topCount: 4,
    }
    const input = { ...plain, samplers }
    await using reference = createReferenceBackend()
    const program = logitsProgram(logits, vocabulary)
    using expectedRun = await prepare(reference, program, NO_CACHE, CAPACITY)
    using foundRun = await prepare(backend, program, NO_CACHE, CAPACITY)
    const before = await foundRun.executable.step(plain)
    const expected = await expectedRun.executable.step(input)
    const found = await foundRun.executable.step(input)
    expect([...found.sampled]).toEqual([...expected.sampled])
    expect(worstError(finite(found.sampledLogprob), finite(expected.sampledLogprob), () => 1)).toBeLessThanOrEqual(LOGPROB_TOLERANCE)
    // What is reported besides the choice is not moved by a bit, and the rows without options choose as before.
    expect({ ...found, sampled: 0, sampledLogprob: 0 }).toEqual({ ...before, sampled: 0, sampledLogprob: 0 })
    expect(await foundRun.executable.read(program.logits)).toEqual(logits)
    for (let row = 1; row < rows; row += 5) expect(found.sampled[row]).toBe(before.sampled[row])
    expect(found.sampled.filter((id, row) => id !== before.sampled[row]).length).toBeGreaterThan(rows / 4)
  })

  it('chooses nothing where nothing is left, and one token where one is', async () => {
    const vocabulary = 70
    const logits = normals(randomFrom(3), 6 * vocabulary, 1)
    const none = maskOf(vocabulary, () => false)
    const every = Uint32Array.from({ length: vocabulary }, (_, id) => id)
    const banned = {
      ...NO_ADJUSTMENT,
      ids: every,
      bias: new Float32Array(vocabulary).fill(-Infinity),
      generated: new Uint32Array(vocabulary),
      seen: new Uint8Array(vocabulary),
    }
    const only = { ...NO_ADJUSTMENT, allowed: maskOf(vocabulary, (id) => id === 69) }
    const adjusts = [{ ...NO_ADJUSTMENT, allowed: none }, { ...NO_ADJUSTMENT, allowed: none }, banned, banned, only, only]
    const samplers = adjusts.map((adjust, row): RowSampler => ({ ...GREEDY, temperature: row % 2, topK: 5, adjust }))
    using run = await prepare(backend, logitsProgram(logits, vocabulary), NO_CACHE, CAPACITY)
    const { sampled, sampledLogprob, nonFinite } = await run.executable.step({ ...sequenceStep(6, NO_CACHE, CAPACITY), samplers })
    expect([...sampled]).toEqual([NONE, NONE, NONE, NONE, 69, 69])
    expect([...sampledLogprob.subarray(0, 4)]).toEqual([NaN, NaN, NaN, NaN])
    expect(nonFinite).toBe(false)
  })
})
