/** The front on the fake model: text, stopping, cancelling and failing as a caller meets them. */
import { afterEach, describe, expect, it } from 'vitest'
import { foldSeed } from './sampling.ts'
import { expectedLogprob, expectedTokens } from './test/fake-executable.ts'
import { collect, createFakeBackend, createFakeRuntime, GREEDY } from './test/fake-runtime.ts'
import type { FakeRuntime, FakeRuntimeOptions } from './test/fake-runtime.ts'
import { createGate } from './test/harness.ts'
import type { GenerationEvent, GenerationRequest } from './types.ts'

const PROMPT = Uint32Array.from([3, 1, 4, 1, 5])
const CONTINUATION = expectedTokens([...PROMPT], 40, 997, { temperature: 0, seedLow: 0, seedHigh: 0 })

let open: FakeRuntime[] = []
function create(options: FakeRuntimeOptions = {}): FakeRuntime {
  const made = createFakeRuntime(options)
  open.push(made)
  return made
}
afterEach(async () => {
  const made = open
  open = []
  for (const { runtime, pool, executable } of made) {
    await runtime[Symbol.asyncDispose]()
    if (pool.used !== 0 || runtime.active !== 0 || !executable.disposed)
      throw new Error(`${pool.used} blocks, ${runtime.active} requests left`)
  }
})

/** Pieces for the first tokens of the known continuation. */
function pieces(...texts: (string | readonly number[])[]): ReadonlyMap<number, string | readonly number[]> {
  const ids = CONTINUATION.slice(0, texts.length)
  if (new Set(ids).size !== ids.length) throw new Error('The continuation repeats itself; choose another prompt')
  return new Map(texts.map((text, i) => [ids[i]!, text]))
}

function request(change: Partial<GenerationRequest> = {}): GenerationRequest {
  return { id: 'a', promptTokens: PROMPT, sampling: GREEDY, ...change }
}

describe('text', () => {
  it('arrives token by token with ids and log-probabilities, and ends with statistics', async () => {
    const { runtime } = create({ pieces: pieces('Hello', ', ', 'world') })
    const { events } = await collect(runtime, { promptTokens: PROMPT, maxTokens: 3 })
    const logprob = (i: number): number => expectedLogprob([...PROMPT, ...CONTINUATION.slice(0, i)], CONTINUATION[i]!)
    const tokens = ['Hello', ', ', 'world'].map((text, i) => ({ kind: 'tokens', ids: [CONTINUATION[i]], logprobs: [logprob(i)], text }))
    expect(events.slice(0, -1)).toEqual([{ kind: 'prefill', done: 5, total: 5 }, ...tokens])
    expect(events.at(-1)).toMatchObject({
      kind: 'finished',
      reason: 'length',
      stopString: null,
      stopTokenId: null,
      stats: { promptTokens: 5, cachedTokens: 0, completionTokens: 3, preemptions: 0 },
    })
  })

  it('never shows half a character', async () => {
    const emoji = [...new TextEncoder().encode('🪨')]
    const { runtime } = create({ pieces: pieces('a', emoji.slice(0, 1), emoji.slice(1, 3), emoji.slice(3), 'b') })
    const { events } = await collect(runtime, { promptTokens: PROMPT, maxTokens: 5 })
    const texts = events.flatMap((event) => (event.kind === 'tokens' ? [event.text] : []))
    expect(texts).toEqual(['a', '', '', '🪨', 'b'])
  })

  it('shows an unfinished character as a replacement at the very end', async () => {
    const { runtime } = create({ pieces: pieces('a', [0xf0, 0x9f]) })
    expect((await collect(runtime, { promptTokens: PROMPT, maxTokens: 2 })).text).toBe('a\ufffd')
  })

  it('merges what a slow consumer has not taken', async () => {
    const { runtime } = create({ pieces: pieces('a', 'b', 'c', 'd') })
    const iterator = runtime.generate(request({ maxTokens: 4 }))[Symbol.asyncIterator]()
    expect(await iterator.next()).toMatchObject({ value: { kind: 'prefill' } })
    while (runtime.active > 0) await new Promise((resolve) => setImmediate(resolve))
    const first = await iterator.next()
    expect(first.value).toMatchObject({ kind: 'tokens', ids: CONTINUATION.slice(0, 4), text: 'abcd' })
    expect((await iterator.next()).value).toMatchObject({ kind: 'finished' })
    expect(await iterator.next()).toEqual({ done: true, value: undefined })
  })

  it('has no text without a tokenizer', async () => {
    const { runtime } = create({ pieces: null })
    expect(await collect(runtime, { promptTokens: PROMPT, maxTokens: 4 })).toMatchObject({ ids: CONTINUATION.slice(0, 4), text: '' })
  })
})

describe('stopping', () => {
  it('ends at an end-of-sequence id, whose text is not shown', async () => {
    const { runtime } = create({ pieces: pieces('a', 'b', '<end>'), eosTokenIds: [996, CONTINUATION[2]!] })
    const { text, ids, finished } = await collect(runtime, { promptTokens: PROMPT })
    expect({ text, ids }).toEqual({ text: 'ab', ids: CONTINUATION.slice(0, 3) })
    expect(finished).toMatchObject({ reason: 'stop', stopTokenId: CONTINUATION[2], stopString: null, stats: { completionTokens: 3 } })
  })

  it('calls an end-of-sequence id at exactly maxTokens a stop', async () => {
    const { runtime } = create({ eosTokenIds: [CONTINUATION[2]!] })
    expect((await collect(runtime, { promptTokens: PROMPT, maxTokens: 3 })).finished.reason).toBe('stop')
  })

  it('ignores end-of-sequence ids on request, but not stop ids', async () => {
    const { runtime } = create({ eosTokenIds: [CONTINUATION[2]!] })
    const ignoring = await collect(runtime, { promptTokens: PROMPT, ignoreEos: true, stopTokenIds: [CONTINUATION[5]!] })
    expect(ignoring.finished).toMatchObject({ reason: 'stop', stopTokenId: CONTINUATION[5], stats: { completionTokens: 6 } })
  })

  it('fills the context and says so', async () => {
    const { runtime } = create({ contextLimit: 20 })
    expect((await collect(runtime, { promptTokens: PROMPT, maxTokens: 100 })).finished).toMatchObject({
      reason: 'context',
      stats: { completionTokens: 15 },
    })
  })

  it('finds a stop string that spans tokens, shows nothing of it and generates no further', async () => {
    const { runtime, executable } = create({ pieces: pieces('one', ' ST', 'O', 'P two') })
    const { events, text, finished } = await collect(runtime, { promptTokens: PROMPT, stopStrings: ['zebra', 'STOP'], maxTokens: 30 })
    expect(text).toBe('one ')
    expect(events.map((event) => (event.kind === 'tokens' ? event.text : event.kind))).toEqual(['prefill', 'one', ' ', '', '', 'finished'])
    expect(finished).toMatchObject({ reason: 'stop', stopString: 'STOP', stopTokenId: null, stats: { completionTokens: 4 } })
    expect(executable.steps).toBe(4)
  })

  it('gives back what it withheld when the answer ends otherwise', async () => {
    const { runtime } = create({ pieces: pieces('one', ' ST', 'O') })
    const { text, finished } = await collect(runtime, { promptTokens: PROMPT, stopStrings: ['STOP'], maxTokens: 3 })
    expect({ text, reason: finished.reason, stopString: finished.stopString }).toEqual({
      text: 'one STO',
      reason: 'length',
      stopString: null,
    })
  })

  it('prefers the stop string when it completes with the last allowed token', async () => {
    const { runtime } = create({ pieces: pieces('a', 'END') })
    const { text, finished } = await collect(runtime, { promptTokens: PROMPT, stopStrings: ['END'], maxTokens: 2 })
    expect({ text, ...finished }).toMatchObject({ text: 'a', reason: 'stop', stopString: 'END', stopTokenId: null })
  })

  it('does not look for stop strings in the prompt', async () => {
    const { runtime } = create({
      pieces: new Map([
        [5, 'ST'],
        [CONTINUATION[0]!, 'OP'],
        [CONTINUATION[1]!, '!'],
      ]),
    })
    expect((await collect(runtime, { promptTokens: PROMPT, stopStrings: ['STOP'], maxTokens: 2 })).text).toBe('OP!')
  })
})

describe('sampling', () => {
  it('draws a seed, reports it, and repeats the answer with it', async () => {
    const { runtime } = create()
    const sampling = { ...GREEDY, temperature: 1 }
    const first = await collect(runtime, { promptTokens: PROMPT, sampling, maxTokens: 12 })
    const { seed } = first.finished.stats
    const again = await collect(runtime, { promptTokens: PROMPT, sampling: { ...sampling, seed }, maxTokens: 12 })
    const other = await collect(runtime, { promptTokens: PROMPT, sampling: { ...sampling, seed: seed + 1 }, maxTokens: 12 })
    expect(again.ids).toEqual(first.ids)
    expect(again.finished.stats.seed).toBe(seed)
    expect(other.ids).not.toEqual(first.ids)
    expect(first.ids).toEqual(expectedTokens([...PROMPT], 12, 997, { temperature: 1, ...foldSeed(seed) }))
  })
})

describe('cancelling', () => {
  it('returns an aborted request that never ran, without a step', async () => {
    const { runtime, executable } = create()
    const { events } = await collect(runtime, { promptTokens: PROMPT, signal: AbortSignal.abort() })
    expect(events).toMatchObject([{ kind: 'finished', reason: 'aborted', stats: { completionTokens: 0, queueMs: null } }])
    expect(executable.steps).toBe(0)
  })

  it.each([
    { state: 'in the middle of the prompt', step: 1 },
    { state: 'while decoding', step: 9 },
  ])('ends within one step $state', async ({ step }) => {
    const gate = createGate()
    const { runtime, executable } = create({ tokenBudget: 2, onStep: (_input, at) => (at === step ? gate.wait() : undefined) })
    const controller = new AbortController()
    const outcome = collect(runtime, { promptTokens: PROMPT, signal: controller.signal })
    await gate.reached
    controller.abort()
    gate.open()
    expect((await outcome).finished).toMatchObject({ reason: 'aborted' })
    expect(executable.steps).toBe(step + 1)
  })

  it('aborts when the consumer leaves its loop, without waiting for the step', async () => {
    const gate = createGate()
    const { runtime, executable } = create({ onStep: (_input, at) => (at === 3 ? gate.wait() : undefined) })
    const seen: string[] = []
    for await (const event of runtime.generate(request())) {
      seen.push(event.kind)
      await (event.kind === 'tokens' && seen.length === 4 ? gate.reached : undefined)
      if (seen.length === 4) break
    }
    expect(runtime.active).toBe(0)
    gate.open()
    while (runtime.telemetry().running > 0) await new Promise((resolve) => setImmediate(resolve))
    expect(seen).toEqual(['prefill', 'tokens', 'tokens', 'tokens'])
    expect(executable.steps).toBe(4)
  })

  it('lets go of a signal when the request has ended', async () => {
    const { runtime } = create()
    const controller = new AbortController()
    let listeners = 0
    const { signal } = controller
    const add = signal.addEventListener.bind(signal)
    const remove = signal.removeEventListener.bind(signal)
    signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args))
    signal.removeEventListener = (...args: Parameters<typeof remove>) => (listeners--, remove(...args))
    await collect(runtime, { promptTokens: PROMPT, maxTokens: 2, signal })
    expect(listeners).toBe(0)
    controller.abort()
  })

  it('rejects scoring with runtime.aborted', async () => {
    const gate = createGate()
    const { runtime } = create({ rows: 4, onStep: (_input, at) => (at === 1 ? gate.wait() : undefined) })
    const controller = new AbortController()
    const score = runtime.score({ tokens: Uint32Array.from(CONTINUATION), from: 1, signal: controller.signal })
    await gate.reached
    controller.abort()
    gate.open()
    await expect(score).rejects.toMatchObject({ code: 'runtime.aborted' })
    await expect(runtime.score({ tokens: Uint32Array.from(CONTINUATION), from: 1, signal: controller.signal })).rejects.toMatchObject({
      code: 'runtime.aborted',
    })
  })
})

describe('refusals', () => {
  it.each<[string, Partial<GenerationRequest>, string]>([
    ['an empty prompt', { promptTokens: new Uint32Array() }, 'runtime.invalid-request'],
    ['a foreign token', { promptTokens: Uint32Array.from([997]) }, 'runtime.invalid-request'],
    ['a prompt as long as the context', { promptTokens: new Uint32Array(256) }, 'runtime.context-exceeded'],
    ['temperature', { sampling: { ...GREEDY, temperature: 2.1 } }, 'runtime.invalid-request'],
    ['NaN temperature', { sampling: { ...GREEDY, temperature: Number.NaN } }, 'runtime.invalid-request'],
    ['top-k', { sampling: { ...GREEDY, topK: 1.5 } }, 'runtime.invalid-request'],
    ['top-p', { sampling: { ...GREEDY, topP: 0 } }, 'runtime.invalid-request'],
    ['min-p', { sampling: { ...GREEDY, minP: -0.1 } }, 'runtime.invalid-request'],
    ['a fractional seed', { sampling: { ...GREEDY, seed: 0.5 } }, 'runtime.invalid-request'],
    ['no tokens to generate', { maxTokens: 0 }, 'runtime.invalid-request'],
    ['an empty stop string', { stopStrings: [''] }, 'runtime.invalid-request'],
    ['half a surrogate pair', { stopStrings: ['\ud83e'] }, 'runtime.invalid-request'],
    ['a foreign stop id', { stopTokenIds: [-1] }, 'runtime.invalid-request'],
  ])('%s', async (_what, change, code) => {
    const { runtime, executable } = create()
    const iterator = runtime.generate(request(change))[Symbol.asyncIterator]()
    await expect(iterator.next()).rejects.toMatchObject({ code, hint: expect.stringMatching(/\S/) as string })
    expect(await iterator.next()).toEqual({ done: true, value: undefined })
    expect(executable.steps).toBe(0)
  })

  it('names the numbers of a prompt that does not fit', async () => {
    const { runtime } = create({ contextLimit: 100 })
    await expect(collect(runtime, { promptTokens: new Uint32Array(123) })).rejects.toMatchObject({
      message: expect.stringMatching(/123.*100/) as string,
      data: { promptTokens: 123, contextLimit: 100 },
    })
  })

  it('stop strings without a tokenizer, and an id that is in flight', async () => {
    const { runtime } = create({ pieces: null })
    await expect(collect(runtime, { promptTokens: PROMPT, stopStrings: ['x'] })).rejects.toMatchObject({ code: 'runtime.invalid-request' })
    const first = collect(runtime, request({ maxTokens: 3 }))
    await expect(collect(runtime, request({ maxTokens: 3 }))).rejects.toMatchObject({ code: 'runtime.invalid-request' })
    expect((await first).finished.reason).toBe('length')
  })

  it.each<[string, { tokens: number; from: number; topCount?: number }, string]>([
    ['from 0', { tokens: 5, from: 0 }, 'runtime.invalid-request'],
    ['from the end', { tokens: 5, from: 5 }, 'runtime.invalid-request'],
    ['too many top tokens', { tokens: 5, from: 1, topCount: 33 }, 'runtime.invalid-request'],
    ['more than the context and one', { tokens: 258, from: 1 }, 'runtime.context-exceeded'],
  ])('scoring %s', async (_what, { tokens, ...rest }, code) => {
    const { runtime } = create()
    await expect(runtime.score({ tokens: new Uint32Array(tokens), ...rest })).rejects.toMatchObject({ code })
  })
})

describe('scoring', () => {
  it('takes as many tokens as the context and one, in slices of the logit rows', async () => {
    const { runtime } = create({ rows: 5, contextLimit: 32 })
    const tokens = CONTINUATION.slice(0, 33)
    const progress: number[] = []
    const result = await runtime.score({
      tokens: Uint32Array.from(tokens),
      from: 2,
      topCount: 2,
      onProgress: (done) => progress.push(done),
    })
    expect([...result.logprobs]).toEqual(tokens.slice(2).map((token, j) => expectedLogprob(tokens.slice(0, j + 2), token)))
    expect({ top: result.topIds.length, argmax: result.argmax.length, progress }).toEqual({
      top: 62,
      argmax: 31,
      progress: [5, 10, 15, 20, 25, 30, 31],
    })
    expect([...result.topLogprobs.subarray(0, 4)]).toEqual([-1, -2, -1, -2])
  })

  it('reuses the context of a question for each of its answers, except where their scores begin', async () => {
    const { runtime } = create({ blockSize: 4 })
    const question = CONTINUATION.slice(0, 18)
    for (const answer of [
      [1, 2],
      [3, 4],
      [5, 6],
    ]) {
      const tokens = [...question, ...answer]
      const { logprobs } = await runtime.score({ tokens: Uint32Array.from(tokens), from: 18 })
      expect([...logprobs]).toEqual(answer.map((token, j) => expectedLogprob(tokens.slice(0, 18 + j), token)))
    }
    expect(runtime.telemetry().cachedPromptTokens).toBe(32)
  })
})

describe('failure', () => {
  it('throws from the iterator after the events before it', async () => {
    const { runtime } = create({ pieces: pieces('a', 'b', 'c'), spoil: (input) => input.sequenceLength[0] === 7 })
    const seen: GenerationEvent[] = []
    const run = async (): Promise<void> => {
      for await (const event of runtime.generate(request())) seen.push(event)
    }
    await expect(run()).rejects.toMatchObject({ code: 'runtime.non-finite', data: { modelId: 'fake' } })
    expect(seen.map((event) => (event.kind === 'tokens' ? event.text : event.kind))).toEqual(['prefill', 'a', 'b'])
  })

  it('fails everything in flight when the device is lost, even in a step that never returns', async () => {
    const gate = createGate()
    const backend = createFakeBackend()
    const { runtime } = create({ backend, onStep: (_input, at) => (at === 2 ? gate.wait() : undefined) })
    const first = collect(runtime, { promptTokens: PROMPT })
    const second = runtime.score({ tokens: Uint32Array.from(CONTINUATION), from: 1 })
    const failed = Promise.allSettled([first, second])
    await gate.reached
    backend.lose('driver reset')
    expect(await failed).toMatchObject(
      [0, 1].map(() => ({
        status: 'rejected',
        reason: { code: 'gpu.device-lost', message: expect.stringContaining('driver reset') as string },
      })),
    )
    expect(runtime.failure).toMatchObject({ code: 'gpu.device-lost' })
    await expect(collect(runtime, { promptTokens: PROMPT })).rejects.toMatchObject({ code: 'gpu.device-lost' })
    gate.open()
  })

  it('aborts generations and rejects scores when unloaded', async () => {
    const gate = createGate()
    const { runtime } = create({ onStep: (_input, at) => (at === 1 ? gate.wait() : undefined) })
    const generation = collect(runtime, { promptTokens: PROMPT })
    const score = runtime.score({ tokens: Uint32Array.from(CONTINUATION), from: 1 })
    await gate.reached
    const disposed = runtime[Symbol.asyncDispose]()
    gate.open()
    expect((await generation).finished.reason).toBe('aborted')
    await expect(score).rejects.toMatchObject({ code: 'runtime.aborted' })
    await disposed
    expect(runtime.failure).toMatchObject({ code: 'runtime.aborted' })
    await expect(collect(runtime, { promptTokens: PROMPT })).rejects.toMatchObject({ code: 'runtime.aborted' })
  })
})
