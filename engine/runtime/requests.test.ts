/** What a request may ask for beyond tokens, and what it is told: log-probabilities, constraints, priorities, queue limits, cache misses. */
import { describe, expect, it } from 'vitest'
import { requestsForChoices } from './choices.ts'
import { expectedTokens, hashOf, logprobAfter } from './test/fake-executable.ts'
import { collect, createFakeRuntime, GREEDY } from './test/fake-runtime.ts'
import { createGate, Harness, VOCABULARY } from './test/harness.ts'
import { HistoryMask, rulesOf } from './test/rules.ts'
import { StepWatchdog } from './watchdog.ts'

const base = { blocks: 40, blockSize: 16, contextLimit: 256, tokenBudget: 64, checkInvariants: true }
const tokensOf = (length: number, salt = 0): number[] => Array.from({ length }, (_, i) => (i * 31 + salt * 101 + 7) % VOCABULARY)
const prompt = tokensOf(40)

describe('log-probabilities', () => {
  it('come with the most probable tokens of each position, and for the prompt', async () => {
    const { runtime } = createFakeRuntime({ pieces: null })
    const { events, ids, finished } = await collect(runtime, {
      promptTokens: Uint32Array.from(prompt),
      maxTokens: 3,
      topLogprobs: 2,
      promptLogprobs: 1,
    })
    const tops = events.flatMap((event) => (event.kind === 'tokens' ? (event.top ?? []) : []))
    const hashes = ids.map((_, i) => hashOf([...prompt, ...ids.slice(0, i)]))
    expect(tops).toEqual(
      hashes.map((hash) => [
        { id: hash % VOCABULARY, logprob: -1 },
        { id: (hash + 1) % VOCABULARY, logprob: -2 },
      ]),
    )
    expect(events[0]).toMatchObject({ kind: 'prompt' })
    const scores = events[0]?.kind === 'prompt' ? events[0].scores : null
    expect([...scores!.logprobs]).toEqual(prompt.slice(1).map((id, i) => logprobAfter(hashOf(prompt.slice(0, i + 1)), id)))
    expect([...scores!.topIds]).toEqual(prompt.slice(1).map((_, i) => hashOf(prompt.slice(0, i + 1)) % VOCABULARY))
    expect(finished.stats).toMatchObject({ cachedTokens: 0, cacheMiss: { reason: 'fresh', position: 0 } })
    await runtime[Symbol.asyncDispose]()
  })

  it('ends with an event, not an error, when aborted while the prompt is scored', async () => {
    const stop = new AbortController()
    const { runtime } = createFakeRuntime({
      pieces: null,
      tokenBudget: 8,
      onStep: (_input, step) => (step === 1 ? stop.abort() : undefined),
    })
    const request = { promptTokens: Uint32Array.from(prompt), promptLogprobs: 0, signal: stop.signal }
    expect((await collect(runtime, request)).finished.reason).toBe('aborted')
    await runtime[Symbol.asyncDispose]()
  })
})

const twoSmall = (output: readonly number[], id: number): boolean => output.length < 2 && id < 5

describe('constraints', () => {
  it('fail a request of which no token is left, with what was generated until then', async () => {
    const harness = new Harness(base)
    const rules = rulesOf({ parameters: {}, minTokens: 0, endTokenIds: [], allows: twoSmall }, VOCABULARY)
    const [failed, other] = await Promise.all([harness.generate('a', prompt, { rules }), harness.generate('b', prompt, { maxTokens: 9 })])
    expect(failed.end).toMatchObject({ kind: 'failed', error: { code: 'runtime.no-token' } })
    expect(failed.tokens.length).toBe(2)
    expect(other.tokens).toEqual(expectedTokens(prompt, 9, VOCABULARY, { temperature: 0, seedLow: 0, seedHigh: 0 }))
    harness.checkIdle()
    await harness.core.close()
  })

  it('hold a request back until they are ready, and nobody else', async () => {
    const harness = new Harness(base)
    const compiled = Promise.withResolvers<void>()
    const mask = new HistoryMask(VOCABULARY, (_output, id) => id === 4, compiled.promise)
    const rules = { ...rulesOf({ parameters: { presencePenalty: 1 }, minTokens: 0, endTokenIds: [], allows: null }, VOCABULARY)!, mask }
    const waits = harness.generate('waits', prompt, { rules, maxTokens: 3 })
    await harness.generate('passes', tokensOf(10, 3), { maxTokens: 5 })
    expect(harness.firstRun).toEqual(['passes'])
    compiled.resolve()
    expect((await waits).tokens).toEqual([4, 4, 4])
    expect(mask.disposed).toBe(1)
    await harness.core.close()
  })

  it('fail the request alone when they cannot be compiled, throw, or contradict themselves', async () => {
    const harness = new Harness(base)
    const plain = rulesOf({ parameters: { presencePenalty: 1 }, minTokens: 0, endTokenIds: [], allows: null }, VOCABULARY)!
    const broken = new HistoryMask(VOCABULARY, () => true, Promise.reject(new Error('no such rule')))
    const throwing = { mask: () => Promise.reject(new Error('worker gone')), accept: () => true, rollback: () => undefined }
    const lying = { mask: () => null, accept: () => false, rollback: () => undefined }
    const failing = {
      ...lying,
      accept: (): boolean => {
        throw new Error('accept broke')
      },
      dispose: () => {
        throw new Error('dispose broke')
      },
    }
    const [a, b, c, e, d] = await Promise.all([
      harness.generate('a', prompt, { rules: { ...plain, mask: broken } }),
      harness.generate('b', prompt, { rules: { ...plain, mask: throwing } }),
      harness.generate('c', prompt, { rules: { ...plain, mask: lying } }),
      harness.generate('e', prompt, { rules: { ...plain, mask: failing } }),
      harness.generate('d', prompt, { maxTokens: 4 }),
    ])
    expect([a, b, c, e].map(({ end }) => end.kind === 'failed' && end.error.message)).toEqual([
      'no such rule',
      'worker gone',
      expect.stringContaining('which it had allowed'),
      'accept broke',
    ])
    expect(d.tokens.length).toBe(4)
    harness.checkIdle()
    await harness.core.close()
  })
})

describe('who goes first', () => {
  it('is decided by priority, then by arrival', async () => {
    const gate = createGate()
    const harness = new Harness({ ...base, maxSequences: 1, onStep: (_input, step) => (step === 0 ? gate.wait() : undefined) })
    const outcomes = [0, 5, -1, 0, -1].map((priority, i) => harness.generate(`r${i}`, tokensOf(5, i), { maxTokens: 2, priority }))
    await gate.reached
    gate.open()
    await Promise.all(outcomes)
    expect(harness.firstRun).toEqual(['r2', 'r4', 'r0', 'r3', 'r1'])
    await harness.core.close()
  })

  it('takes memory from the least urgent, however long it has been running', async () => {
    const harness: Harness = new Harness({ ...base, blocks: 17, maxSequences: 2 })
    const [late, early] = await Promise.all([
      harness.generate('late', tokensOf(100, 1), { maxTokens: 100, priority: 3 }),
      harness.generate('early', tokensOf(100, 2), { maxTokens: 100 }),
    ])
    const preemptions = [late, early].map(({ end }) => end.kind === 'finished' && end.stats.preemptions)
    expect(preemptions[0]).toBeGreaterThan(0)
    expect(preemptions[1]).toBe(0)
    await harness.core.close()
  })

  it('waits for room for its whole prompt, although a first chunk would fit, and nobody smaller overtakes it', async () => {
    const beside: string[] = []
    const running = new Set(['first'])
    const harness: Harness = new Harness({
      ...base,
      blocks: 17,
      tokenBudget: 32,
      onStep: () => void (running.has('first') && beside.push(...harness.core.scheduler.running.map(({ id }) => id))),
    })
    const first = harness.generate('first', tokensOf(100, 1), { maxTokens: 30 }).finally(() => running.delete('first'))
    const others = [
      harness.generate('large', tokensOf(200, 2), { maxTokens: 2 }),
      harness.generate('small', tokensOf(10, 3), { maxTokens: 2 }),
    ]
    await Promise.all([first, ...others])
    expect(new Set(beside)).toEqual(new Set(['first']))
    expect(harness.firstRun).toEqual(['first', 'large', 'small'])
    expect(harness.core.telemetry().preemptions).toBe(0)
    await harness.core.close()
  })

  it('computes a shared prompt once when several arrive together', async () => {
    const { runtime, executable } = createFakeRuntime({ pieces: null, tokenBudget: 256 })
    const request = {
      id: 'n',
      promptTokens: Uint32Array.from(tokensOf(129)),
      sampling: { ...GREEDY, temperature: 1, seed: 7 },
      maxTokens: 4,
    }
    const choices = await Promise.all(requestsForChoices(request, 3).map((choice) => collect(runtime, choice)))
    expect(choices.map(({ finished }) => [finished.stats.seed, finished.stats.cachedTokens])).toEqual([
      [7, 0],
      [8, 128],
      [9, 128],
    ])
    expect(choices.map(({ ids }) => ids)).toEqual(
      [7, 8, 9].map((seedLow) => expectedTokens(tokensOf(129), 4, VOCABULARY, { temperature: 1, seedLow, seedHigh: 0 })),
    )
    expect(executable.steps).toBeLessThan(8)
    await runtime[Symbol.asyncDispose]()
  })
})

it('refuses more than may wait, and says when to come back', async () => {
  const gate = createGate()
  const harness = new Harness({ ...base, maxQueued: 2, maxSequences: 1, onStep: () => gate.wait() })
  const first = harness.generate('a', prompt, { maxTokens: 1 })
  await gate.reached
  const queued = [harness.generate('b', prompt, { maxTokens: 1 }), harness.generate('c', prompt, { maxTokens: 1 })]
  expect(() => harness.generate('d', prompt)).toThrow(
    expect.objectContaining({ code: 'runtime.queue-full', data: { queued: 2, retryAfterSeconds: 1 } }),
  )
  gate.open()
  await Promise.all([first, ...queued])
  await harness.core.close()
})

it('lets in every choice of a request that found a place, and still refuses others', async () => {
  const gate = createGate()
  const harness = new Harness({ ...base, maxQueued: 1, maxSequences: 1, onStep: () => gate.wait() })
  const choices = ['a', 'b', 'c', 'd'].map((id) => harness.generate(id, prompt, { maxTokens: 1, group: 'four' }))
  expect(() => harness.generate('e', prompt)).toThrow(expect.objectContaining({ code: 'runtime.queue-full' }))
  expect(() => harness.generate('f', prompt, { group: 'two' })).toThrow(expect.objectContaining({ code: 'runtime.queue-full' }))
  gate.open()
  expect((await Promise.all(choices)).map(({ end }) => end.kind)).toEqual(Array(4).fill('finished'))
  await harness.core.close()
})

const missOf = async (harness: Harness, id: string, tokens: readonly number[], salt = ''): Promise<unknown> => {
  const { end } = await harness.generate(id, tokens, { maxTokens: 1, salt })
  return end.kind === 'finished' ? { cached: end.stats.cachedTokens, miss: end.stats.cacheMiss } : end
}

describe('why a prefix was not cached', () => {
  it('is told with the answer', async () => {
    const harness = new Harness({ ...base, blocks: 17, prefixCache: true })
    const talk = tokensOf(64)
    const edited = [...talk.slice(0, 20), 1, ...talk.slice(21)]
    expect(await missOf(harness, 'short', talk.slice(0, 9))).toEqual({ cached: 0, miss: { reason: 'short', position: 0 } })
    expect(await missOf(harness, 'first', talk)).toEqual({ cached: 0, miss: { reason: 'new', position: 0 } })
    expect(await missOf(harness, 'again', talk)).toEqual({ cached: 48, miss: undefined })
    expect(await missOf(harness, 'salted', talk, 'other')).toEqual({ cached: 0, miss: { reason: 'new', position: 0 } })
    expect(await missOf(harness, 'edited', edited)).toEqual({ cached: 16, miss: { reason: 'diverged', position: 16 } })
    expect(await missOf(harness, 'longer', [...talk, ...tokensOf(20, 5)])).toEqual({ cached: 64, miss: { reason: 'new', position: 64 } })
    await missOf(harness, 'fills', tokensOf(250, 9))
    expect(await missOf(harness, 'late', talk)).toEqual({ cached: 0, miss: { reason: 'evicted', position: 0 } })
    await harness.core.close()
    const without = new Harness(base)
    expect(await missOf(without, 'a', talk)).toEqual({ cached: 0, miss: { reason: 'disabled', position: 0 } })
    await without.core.close()
  })
})

describe('a step that hangs', () => {
  it('fails everything with the reason after its limit, and tells the owner of the device', async () => {
    let hangs = 0
    const watchdog = new StepWatchdog({ unmeasuredMs: 5000, leastMs: 30, slower: 3 })
    const harness = new Harness({
      ...base,
      watchdog,
      onHang: () => hangs++,
      onStep: (_input, step) => (step === 3 ? new Promise<void>(() => undefined) : undefined),
    })
    const outcomes = await Promise.all([harness.generate('a', prompt, { maxTokens: 50 }), harness.score('b', prompt, 1)])
    expect(outcomes.map(({ end }) => end.kind === 'failed' && end.error)).toEqual([
      expect.objectContaining({ code: 'gpu.device-lost', message: expect.stringContaining('hangs') }),
      expect.objectContaining({ code: 'gpu.device-lost' }),
    ])
    expect(hangs).toBe(1)
    expect(() => harness.generate('c', prompt)).toThrow(expect.objectContaining({ code: 'gpu.device-lost' }))
    await harness.core.close()
  })

  it('is one that takes far longer than any before it', () => {
    const watchdog = new StepWatchdog({ unmeasuredMs: 900, leastMs: 100, slower: 10 })
    expect(watchdog.limitMs(64)).toBe(900)
    watchdog.observe(10, 5)
    expect(watchdog.limitMs(10)).toBe(100)
    expect(watchdog.limitMs(1000)).toBe(5000)
    watchdog.observe(10, 40)
    watchdog.observe(1, 2)
    expect(watchdog.limitMs(1)).toBe(400)
  })
})
