import { afterEach, describe, expect, it } from 'vitest'
import { scorePair } from './pair.ts'
import { expectedLogprob, expectedTokens, hashOf } from './test/fake-executable.ts'
import { collect, createFakeBackend, createFakeRuntime, fakeDrift } from './test/fake-runtime.ts'
import type { FakeRuntime, FakeRuntimeOptions } from './test/fake-runtime.ts'
import { createGate } from './test/harness.ts'

const TOKENS = expectedTokens([1, 2], 60, 997, { temperature: 0, seedLow: 0, seedHigh: 0 })
const VARIANT = 77

let open: FakeRuntime[] = []
afterEach(async () => {
  const made = open
  open = []
  for (const { runtime, pool } of made) {
    await runtime[Symbol.asyncDispose]()
    if (pool.used !== 0) throw new Error(`${pool.used} blocks are still held`)
  }
})

function createPair(options: FakeRuntimeOptions = {}): { baseline: FakeRuntime; candidate: FakeRuntime } {
  const backend = createFakeBackend()
  const baseline = createFakeRuntime({ modelId: 'base', backend, ...options })
  const candidate = createFakeRuntime({ modelId: 'small', backend, variant: VARIANT, ...options })
  open.push(baseline, candidate)
  return { baseline, candidate }
}

function expectedDrift(from: number, variant = VARIANT) {
  const column = <T>(value: (prefix: number[], target: number) => T): T[] =>
    TOKENS.slice(from).map((token, j) => value(TOKENS.slice(0, from + j), token))
  return {
    kld: column((prefix) => fakeDrift(hashOf(prefix), hashOf(prefix, variant))),
    baselineArgmax: column((prefix) => hashOf(prefix) % 997),
    candidateArgmax: column((prefix) => hashOf(prefix, variant) % 997),
    baselineTargetLogprob: column((prefix, target) => expectedLogprob(prefix, target)),
    candidateTargetLogprob: column((prefix, target) => expectedLogprob(prefix, target, variant)),
  }
}

const plain = (rows: object): object =>
  Object.fromEntries(Object.entries(rows).map(([key, values]) => [key, [...(values as Iterable<number>)]]))

describe('scorePair', () => {
  it.each([
    { tokenBudget: 64, rows: 8, from: 1 },
    { tokenBudget: 7, rows: 4, from: 5 },
    { tokenBudget: 1, rows: 4, from: 59 },
  ])('compares every row once, whatever the slices: $tokenBudget tokens, $rows rows, from $from', async ({ tokenBudget, rows, from }) => {
    const { baseline, candidate } = createPair({ tokenBudget, rows })
    const progress: number[] = []
    const drift = await scorePair(baseline.runtime, candidate.runtime, {
      tokens: Uint32Array.from(TOKENS),
      from,
      onProgress: (done) => progress.push(done),
    })
    expect(plain(drift)).toEqual(expectedDrift(from))
    expect(progress.at(-1)).toBe(60 - from)
  })

  it('compares a model with itself', async () => {
    const { baseline } = createPair()
    const drift = await scorePair(baseline.runtime, baseline.runtime, { tokens: Uint32Array.from(TOKENS), from: 1 })
    expect(plain(drift)).toEqual(expectedDrift(1, 0))
  })

  it('runs beside chats and other comparisons of the same models, in either order', async () => {
    const { baseline, candidate } = createPair({ tokenBudget: 9, rows: 5, contextLimit: 64, blocks: 6 })
    const scoring = { tokens: Uint32Array.from(TOKENS), from: 1 }
    const [one, two, chat, other] = await Promise.all([
      scorePair(baseline.runtime, candidate.runtime, scoring),
      scorePair(candidate.runtime, baseline.runtime, scoring),
      collect(baseline.runtime, { promptTokens: Uint32Array.of(9), maxTokens: 30 }),
      collect(candidate.runtime, { promptTokens: Uint32Array.of(9), maxTokens: 30 }),
    ])
    expect(plain(one)).toEqual(expectedDrift(1))
    expect([...two.candidateTargetLogprob]).toEqual([...one.baselineTargetLogprob])
    const greedy = { temperature: 0, seedLow: 0, seedHigh: 0 }
    expect(chat.ids).toEqual(expectedTokens([9], 30, 997, greedy))
    expect(other.ids).toEqual(expectedTokens([9], 30, 997, greedy, VARIANT))
  })

  it('gives its blocks back when cancelled, waiting or running', async () => {
    const gate = createGate()
    const { baseline, candidate } = createPair({
      tokenBudget: 4,
      blocks: 17,
      onStep: (_input, step) => (step === 2 ? gate.wait() : undefined),
    })
    const first = new AbortController()
    const second = new AbortController()
    const request = { tokens: Uint32Array.from([...TOKENS, ...TOKENS, ...TOKENS]), from: 1 }
    const running = scorePair(baseline.runtime, candidate.runtime, { ...request, signal: first.signal })
    const waiting = scorePair(baseline.runtime, candidate.runtime, { ...request, signal: second.signal })
    const both = Promise.allSettled([running, waiting])
    await gate.reached
    second.abort()
    first.abort()
    gate.open()
    expect(await both).toMatchObject([0, 1].map(() => ({ status: 'rejected', reason: { code: 'runtime.aborted' } })))
    expect((await collect(baseline.runtime, { promptTokens: Uint32Array.of(1), maxTokens: 1 })).ids.length).toBe(1)
    expect([baseline.pool.used, candidate.pool.used]).toEqual([0, 0])
  })

  it('names the model whose output is not finite', async () => {
    const backend = createFakeBackend()
    const baseline = createFakeRuntime({ modelId: 'base', backend })
    const candidate = createFakeRuntime({ modelId: 'small', backend, spoil: () => true })
    open.push(baseline, candidate)
    await expect(scorePair(baseline.runtime, candidate.runtime, { tokens: Uint32Array.from(TOKENS), from: 1 })).rejects.toMatchObject({
      code: 'runtime.non-finite',
      data: { modelId: 'small' },
    })
  })

  it('fails with the device', async () => {
    const gate = createGate()
    const backend = createFakeBackend()
    const baseline = createFakeRuntime({ modelId: 'base', backend, tokenBudget: 8 })
    const candidate = createFakeRuntime({
      modelId: 'small',
      backend,
      onStep: (_input, step) => {
        if (step !== 2) return undefined
        backend.lose('gone')
        return gate.wait().then(() => Promise.reject(new Error('gone')))
      },
    })
    open.push(baseline, candidate)
    const run = scorePair(baseline.runtime, candidate.runtime, { tokens: Uint32Array.from(TOKENS), from: 1 })
    const outcome = run.catch((error: unknown) => error)
    await gate.reached
    gate.open()
    expect(await outcome).toMatchObject({ message: 'gone' })
    expect([baseline.runtime.failure, candidate.runtime.failure]).toMatchObject([{ code: 'gpu.device-lost' }, { code: 'gpu.device-lost' }])
  })

  it('refuses models of different vocabularies or devices, and runtimes that are not its own', async () => {
    const backend = createFakeBackend()
    const base = createFakeRuntime({ backend })
    const wide = createFakeRuntime({ backend, vocabulary: 1000 })
    const elsewhere = createFakeRuntime()
    open.push(base, wide, elsewhere)
    const request = { tokens: Uint32Array.from(TOKENS), from: 1 }
    for (const other of [wide.runtime, elsewhere.runtime, { ...base.runtime, info: base.runtime.info }]) {
      await expect(scorePair(base.runtime, other as typeof base.runtime, request)).rejects.toMatchObject({ code: 'evaluate.incomparable' })
    }
  })
})
