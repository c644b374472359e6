/**
 * The scheduler, block manager and loop on the fake model: whatever the budget, the pool, the neighbours and the timing, every request must
 * get exactly the tokens and log-probabilities that the oracle computes from plain arrays (specs/runtime.md §9.3, B1–B3, B5–B7, B9, B11).
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LatheError } from '../contract/errors.ts'
import { foldSeed } from './sampling.ts'
import { expectedLogprob, expectedTokens } from './test/fake-executable.ts'
import { createGate, Harness, VOCABULARY } from './test/harness.ts'
import type { HarnessOptions, Outcome } from './test/harness.ts'

const SEED = 20_260_817
const GREEDY = { temperature: 0, seedLow: 0, seedHigh: 0 }
const BUDGETS = [1, 7, 16, 17, 64, 4096] as const

const base: HarnessOptions = { blocks: 40, blockSize: 16, contextLimit: 256, tokenBudget: 64, checkInvariants: true }
const CONTEXT = 110
const tokensOf = (length: number, salt = 0): number[] => Array.from({ length }, (_, i) => (i * 31 + salt * 101 + 7) % VOCABULARY)

interface Job {
  readonly prompt: readonly number[]
  readonly output: number
  readonly seed: number | null
  readonly score: boolean
  readonly addAt: number
  readonly abortAt: number | null
}

/** Prompts share prefixes on purpose: of a few roots, cut at any length, sometimes with a tail of their own. */
const job: fc.Arbitrary<Job> = fc
  .record({
    root: fc.nat(2),
    length: fc.integer({ min: 1, max: 45 }),
    tail: fc.array(fc.nat(VOCABULARY - 1), { maxLength: 5 }),
    output: fc.integer({ min: 1, max: 70 }),
    seed: fc.option(fc.nat(1000)),
    score: fc.nat(3).map((value) => value === 0),
    addAt: fc.nat(30),
    abortAt: fc.option(fc.nat(100)).map((at) => (at === null || at % 3 > 0 ? null : at)),
  })
  .map(({ root, length, tail, ...rest }) => ({ ...rest, prompt: [...tokensOf(length, root), ...tail, 1] }))

const setting = fc.record({
  budget: fc.constantFrom(...BUDGETS),
  blockSize: fc.constantFrom(1, 4, 16),
  /** Room beyond the one context that a pool must hold; 0 forces preemption. */
  spare: fc.constantFrom(0, 1, 3, 1000),
  maxSequences: fc.integer({ min: 1, max: 5 }),
  prefixCache: fc.boolean(),
  permute: fc.nat(1_000_000),
})

describe('Core on the fake model', () => {
  it(
    'gives every request of a random workload what it gets alone, and keeps its invariants at every step',
    { timeout: 120_000 },
    async () => {
      let steps = 0
      let preemptions = 0
      let cached = 0
      await fc.assert(
        fc.asyncProperty(fc.array(job, { minLength: 1, maxLength: 9 }), setting, async (jobs, options) => {
          const contextLimit = CONTEXT
          const blocks = Math.ceil(contextLimit / options.blockSize) + 1 + options.spare
          const starts = new Map<number, (() => void)[]>()
          const at = (step: number, action: () => void): void => void starts.set(step, [...(starts.get(step) ?? []), action])
          const harness = new Harness({
            blocks,
            blockSize: options.blockSize,
            contextLimit,
            tokenBudget: options.budget,
            maxSequences: options.maxSequences,
            maxRows: options.maxSequences + 3,
            prefixCache: options.prefixCache,
            blockOrder: permutation(blocks - 1, options.permute),
            checkInvariants: true,
            onStep: (_input, step) => starts.get(step)?.forEach((action) => action()),
          })
          const outcomes: Promise<Outcome>[] = []
          const order: number[] = []
          for (const [index, item] of jobs.entries()) {
            const id = `r${index}`
            const { promise, resolve } = Promise.withResolvers<Outcome>()
            outcomes.push(promise)
            const add = (): void => {
              order.push(index)
              const { prompt, output, seed, score } = item
              const outcome = score
                ? harness.score(id, prompt, 1 + (output % (prompt.length - 1)), output % 3)
                : harness.generate(id, prompt, { maxTokens: output, ...(seed === null ? {} : { seed }) })
              void outcome.then(resolve)
            }
            // The first starts the loop; others join while a step is in flight.
            if (index === 0) add()
            else at(item.addAt, add)
            if (item.abortAt !== null) at(item.abortAt, () => harness.core.abort(id))
          }
          // Steps that never happened because everything else had ended.
          const idle = setInterval(() => {
            if (harness.core.active > 0) return
            const [step, actions] = [...starts].toSorted(([a], [b]) => a - b).find(([s]) => s >= harness.executable.steps) ?? [0, []]
            starts.delete(step)
            for (const action of actions) action()
          }, 0)
          const ended = await Promise.all(outcomes).finally(() => clearInterval(idle))

          for (const [i, outcome] of ended.entries()) expect(summarize(outcome, jobs[i]!)).toEqual(expectedOutcome(jobs[i]!, outcome))
          harness.checkIdle()
          // I5: nobody is overtaken within a lane but who waits for a prefix that one before it computes; the scheduler itself refuses a step
          // in which the first in line could not go on.
          const ran = harness.firstRun.map((id) => Number(id.slice(1)))
          for (const score of [false, true]) {
            const inLane = (index: number): boolean => jobs[index]!.score === score
            const came = order.filter((index) => inLane(index) && ran.includes(index))
            const shares = (a: number, b: number): boolean =>
              options.prefixCache &&
              jobs[b]!.prompt.slice(0, options.blockSize).join() === jobs[a]!.prompt.slice(0, options.blockSize).join()
            for (const [place, index] of came.entries()) {
              const overtakers = came.slice(place + 1).filter((later) => ran.indexOf(later) < ran.indexOf(index))
              const waited = order.slice(0, order.indexOf(index)).some((earlier) => shares(earlier, index))
              expect(overtakers.length === 0 || waited).toBe(true)
            }
          }
          const telemetry = harness.core.telemetry()
          steps += telemetry.steps
          preemptions += telemetry.preemptions
          cached += telemetry.cachedPromptTokens
          await harness.core.close()
        }),
        { seed: SEED, numRuns: 250 },
      )
      // The workloads must have met what they are there to test.
      expect({ steps: steps > 20_000, preemptions: preemptions > 100, cached: cached > 2000 }).toEqual({
        steps: true,
        preemptions: true,
        cached: true,
      })
    },
  )

  it.each(BUDGETS)('scores and generates the same with a budget of %i tokens', async (tokenBudget) => {
    const prompt = tokensOf(50)
    const harness = new Harness({ ...base, tokenBudget, maxRows: 4 })
    const [scored, generated] = await Promise.all([harness.score('s', prompt, 1, 2), harness.generate('g', prompt, { maxTokens: 20 })])
    expect(generated.tokens).toEqual(expectedTokens(prompt, 20, VOCABULARY, GREEDY))
    expect(scored.end.kind === 'scored' && [...scored.end.result.logprobs]).toEqual(
      prompt.slice(1).map((token, i) => expectedLogprob(prompt.slice(0, i + 1), token)),
    )
    await harness.core.close()
  })

  it('reports prefill progress that ends at the whole prompt, and none while decoding', async () => {
    const harness = new Harness({ ...base, tokenBudget: 16 })
    const { progress, end } = await harness.generate('a', tokensOf(40), { maxTokens: 3 })
    expect(progress).toEqual([16, 32, 40].map((done) => ({ done, total: 40 })))
    expect(end).toMatchObject({
      kind: 'finished',
      reason: 'length',
      stats: { promptTokens: 40, completionTokens: 3, cachedTokens: 0, preemptions: 0 },
    })
    await harness.core.close()
  })

  it('lets an answer begin at once and stream beside a queue of measurements', async () => {
    const running: number[] = []
    const harness: Harness = new Harness({
      ...base,
      tokenBudget: 8,
      maxSequences: 3,
      onStep: (input, step) => {
        running.push(input.sequenceLength.length)
        if (step === 4) chat = harness.generate('chat', tokensOf(20, 5), { maxTokens: 10 })
      },
    })
    let chat: Promise<Outcome> | null = null
    const scores = Array.from({ length: 6 }, (_, i) => harness.score(`score${i}`, tokensOf(60, i), 1))
    await scores[0]
    const { tokens, stepsAtEnd } = await chat!
    expect(tokens).toEqual(expectedTokens(tokensOf(20, 5), 10, VOCABULARY, GREEDY))
    // Asked for in step 4: three steps of prompt, then nine more tokens.
    expect(stepsAtEnd).toBe(5 + 3 + 9)
    expect(running.slice(8, 17)).toEqual(Array.from({ length: 9 }, () => 2))
    await Promise.all(scores)
    harness.checkIdle()
    await harness.core.close()
  })

  it('keeps memory that measurements give back for the answer that waits for it', async () => {
    const harness = new Harness({ ...base, blocks: 9, contextLimit: 128, tokenBudget: 16 })
    const first = [0, 1].map((i) => harness.score(`first${i}`, tokensOf(60, i), 1))
    await harness.core.exclusive(() => Promise.resolve())
    const chat = harness.generate('chat', tokensOf(100, 7), { maxTokens: 2 })
    const later = Array.from({ length: 5 }, (_, i) => harness.score(`later${i}`, tokensOf(30, i), 1))
    await Promise.all(first)
    const ended = await Promise.all([chat, ...later])
    expect(ended.slice(1).every(({ stepsAtEnd }) => stepsAtEnd > ended[0]!.stepsAtEnd)).toBe(true)
    await harness.core.close()
  })

  describe('stop conditions', () => {
    const prompt = tokensOf(10)
    const continuation = expectedTokens(prompt, 30, VOCABULARY, GREEDY)

    it('ends with stop at a stop token, which is the last token', async () => {
      const harness = new Harness(base)
      const outcome = await harness.generate('a', prompt, { maxTokens: 30, stopTokenIds: new Set([continuation[6]!]) })
      expect(outcome.tokens).toEqual(continuation.slice(0, 7))
      expect(outcome.end).toMatchObject({ kind: 'finished', reason: 'stop', stopTokenId: continuation[6] })
      await harness.core.close()
    })

    it('calls it stop, not length, when the stop token is exactly the last allowed', async () => {
      const harness = new Harness(base)
      const outcome = await harness.generate('a', prompt, { maxTokens: 7, stopTokenIds: new Set([continuation[6]!]) })
      expect(outcome.end).toMatchObject({ reason: 'stop', stats: { completionTokens: 7 } })
      await harness.core.close()
    })

    it('calls it stop when the stop token fills the context', async () => {
      const harness = new Harness({ ...base, contextLimit: 17, blocks: 3 })
      const outcome = await harness.generate('a', prompt, { stopTokenIds: new Set([continuation[6]!]) })
      expect(outcome.end).toMatchObject({ reason: 'stop', stats: { completionTokens: 7 } })
      await harness.core.close()
    })

    it.each([11, 16, 17, 32, 33])('fills a context of %i to the last token and says so', async (contextLimit) => {
      const harness = new Harness({ ...base, contextLimit })
      const outcome = await harness.generate('a', prompt)
      expect(outcome.tokens).toEqual(continuation.slice(0, contextLimit - 10))
      expect(outcome.end).toMatchObject({ reason: 'context', stats: { completionTokens: contextLimit - 10 } })
      await harness.core.close()
    })

    it('says length where maxTokens ends with the context', async () => {
      const harness = new Harness({ ...base, contextLimit: 16 })
      expect((await harness.generate('a', prompt, { maxTokens: 6 })).end).toMatchObject({ reason: 'length' })
      expect((await harness.generate('b', prompt, { maxTokens: 7 })).end).toMatchObject({ reason: 'context' })
      await harness.core.close()
    })
  })

  describe('abort takes effect within one step', () => {
    it('while queued', async () => {
      const gate = createGate()
      const harness = new Harness({ ...base, maxSequences: 1, onStep: (_input, step) => (step === 3 ? gate.wait() : undefined) })
      const first = harness.generate('first', tokensOf(5), { maxTokens: 20 })
      const second = harness.generate('second', tokensOf(6), { maxTokens: 20 })
      await gate.reached
      harness.core.abort('second')
      gate.open()
      expect(await second).toMatchObject({
        end: { kind: 'finished', reason: 'aborted', stats: { completionTokens: 0, queueMs: null, firstTokenMs: null } },
        stepsAtEnd: 4,
      })
      expect((await first).tokens).toEqual(expectedTokens(tokensOf(5), 20, VOCABULARY, GREEDY))
      harness.checkIdle()
      await harness.core.close()
    })

    it.each([
      // A prompt of 25 takes three steps of 10; the third samples. A token of the step in flight is dropped.
      { state: 'in the middle of its prompt', step: 1, tokens: 0 },
      { state: 'while decoding', step: 8, tokens: 7 },
    ])('$state', async ({ step, tokens }) => {
      const gate = createGate()
      const harness = new Harness({ ...base, tokenBudget: 10, onStep: (_input, at) => (at === step ? gate.wait() : undefined) })
      const outcome = harness.generate('a', tokensOf(25), { maxTokens: 100 })
      await gate.reached
      harness.core.abort('a')
      gate.open()
      const { end, tokens: got, stepsAtEnd } = await outcome
      expect(end).toMatchObject({ kind: 'finished', reason: 'aborted' })
      expect({ tokens: got.length, stepsAtEnd }).toEqual({ tokens, stepsAtEnd: step + 1 })
      harness.checkIdle()
      await harness.core.close()
    })

    it('while preempted', async () => {
      // Two sequences grow in a pool that holds barely more than one: the second is preempted and waits.
      const harness: Harness = new Harness({
        ...base,
        blocks: 10,
        contextLimit: 144,
        onStep: () => {
          if (harness.core.scheduler.waiting.some(({ status }) => status === 'preempted')) harness.core.abort('b')
        },
      })
      const [first, second] = await Promise.all([
        harness.generate('a', tokensOf(40), { maxTokens: 90 }),
        harness.generate('b', tokensOf(50, 1), { maxTokens: 90 }),
      ])
      expect(second.end).toMatchObject({ kind: 'finished', reason: 'aborted', stats: { preemptions: 1 } })
      expect(first.tokens).toEqual(expectedTokens(tokensOf(40), 90, VOCABULARY, GREEDY))
      harness.checkIdle()
      await harness.core.close()
    })

    it('ignores ids it does not know', async () => {
      const harness = new Harness(base)
      harness.core.abort('nobody')
      expect((await harness.generate('a', [1], { maxTokens: 2 })).end).toMatchObject({ reason: 'length' })
      harness.core.abort('a')
      await harness.core.close()
    })
  })

  it('keeps cached tokens of the first admission through preemption', async () => {
    const harness = new Harness({ ...base, blocks: 9, contextLimit: 128, prefixCache: true })
    await harness.generate('warm', tokensOf(33), { maxTokens: 1 })
    const [a, b] = await Promise.all([
      harness.generate('a', tokensOf(33), { maxTokens: 60 }),
      harness.generate('b', tokensOf(33), { maxTokens: 60, seed: 5 }),
    ])
    expect(a.end).toMatchObject({ stats: { cachedTokens: 32, preemptions: 0 } })
    expect(b.end).toMatchObject({ stats: { cachedTokens: 32, preemptions: 1 } })
    expect(b.tokens).toEqual(expectedTokens(tokensOf(33), 60, VOCABULARY, { temperature: 1, ...foldSeed(5) }))
    await harness.core.close()
  })

  describe('prefix cache', () => {
    it.each([
      { tokens: 15, cached: 0 },
      { tokens: 16, cached: 0 },
      { tokens: 17, cached: 16 },
      { tokens: 32, cached: 16 },
      { tokens: 33, cached: 32 },
    ])('finds $cached of $tokens tokens again: whole blocks, and never the last token', async ({ tokens, cached }) => {
      const harness = new Harness({ ...base, prefixCache: true })
      const run = (id: string): Promise<Outcome> => harness.generate(id, tokensOf(tokens), { maxTokens: 3 })
      const [cold, warm] = [await run('cold'), await run('warm')]
      expect([cachedOf(cold), cachedOf(warm)]).toEqual([0, cached])
      expect(warm.tokens).toEqual(cold.tokens)
      expect(warm.progress.at(-1)).toEqual({ done: tokens, total: tokens, ...(cached > 0 && { cached }) })
      await harness.core.close()
    })

    it('finds what another request generated', async () => {
      const harness = new Harness({ ...base, prefixCache: true })
      const { tokens } = await harness.generate('turn1', tokensOf(20), { maxTokens: 30 })
      const followUp = [...tokensOf(20), ...tokens, 5, 6, 7]
      const second = await harness.generate('turn2', followUp, { maxTokens: 5 })
      // 20 + 30 tokens, of which the last was never fed: three whole blocks.
      expect(cachedOf(second)).toBe(48)
      expect(second.tokens).toEqual(expectedTokens(followUp, 5, VOCABULARY, GREEDY))
      await harness.core.close()
    })

    it('does not share between salts', async () => {
      const harness = new Harness({ ...base, prefixCache: true })
      const run = (id: string, salt: string): Promise<Outcome> => harness.generate(id, tokensOf(40), { maxTokens: 1, salt })
      const outcomes = [await run('a', 'one'), await run('b', 'two'), await run('c', 'one')]
      expect(outcomes.map(cachedOf)).toEqual([0, 0, 32])
      await harness.core.close()
    })

    it('forgets what was overwritten, deepest blocks first', async () => {
      const harness = new Harness({ ...base, blocks: 9, contextLimit: 128, prefixCache: true })
      await harness.generate('old', tokensOf(65), { maxTokens: 1 })
      // Five of eight blocks: takes the three unused ones and the last two of the old chain.
      await harness.generate('new', tokensOf(70, 3), { maxTokens: 1 })
      expect(cachedOf(await harness.generate('again', tokensOf(65), { maxTokens: 1 }))).toBe(48)
      await harness.core.close()
    })
  })

  describe('failure', () => {
    it('fails only the request whose row is not finite, and lets nobody find its blocks', async () => {
      const bad = tokensOf(40, 9)
      const harness = new Harness({
        ...base,
        prefixCache: true,
        spoil: (input, row) => input.tokenIds[input.logitRows[row]!] === bad.at(-1) && input.topCount === 0,
      })
      const [good, failed] = await Promise.all([
        harness.generate('good', tokensOf(30), { maxTokens: 10 }),
        harness.generate('bad', bad, { maxTokens: 10 }),
      ])
      expect(good.tokens).toEqual(expectedTokens(tokensOf(30), 10, VOCABULARY, GREEDY))
      expect(failed.end).toMatchObject({
        kind: 'failed',
        error: {
          code: 'runtime.non-finite',
          // Reaches HTTP clients: must not name the model by its folder.
          message: 'The model’s output is not a number (NaN or infinity) after token 40 of the sequence.',
          hint: expect.not.stringContaining('fake') as string,
          data: { modelId: 'fake', position: 40 },
        },
      })
      harness.checkIdle()
      const again = await harness.score('again', bad, 39, 1)
      expect(again.progress).toEqual([{ done: 1, total: 1 }])
      expect(harness.core.telemetry().cachedPromptTokens).toBe(0)
      await harness.core.close()
    })

    it('fails the requests of a step that throws and goes on with the others', async () => {
      const harness = new Harness({
        ...base,
        maxSequences: 1,
        onStep: (_input, step) => {
          if (step === 2 && harness.executable.steps === 2 && !thrown) {
            thrown = true
            throw new LatheError('gpu.out-of-memory', 'No memory', 'Free some')
          }
        },
      })
      let thrown = false
      const [first, second] = await Promise.all([
        harness.generate('first', tokensOf(5), { maxTokens: 9 }),
        harness.generate('second', tokensOf(8), { maxTokens: 9 }),
      ])
      expect(first.end).toMatchObject({ kind: 'failed', error: { code: 'gpu.out-of-memory' } })
      expect(second.tokens).toEqual(expectedTokens(tokensOf(8), 9, VOCABULARY, GREEDY))
      harness.checkIdle()
      await harness.core.close()
    })

    it('fails everything, queued or running, when the device is lost, and accepts no more', async () => {
      const lost = new LatheError('gpu.device-lost', 'The GPU went away', 'Try again')
      const harness = new Harness({
        ...base,
        maxSequences: 1,
        onStep: (_input, step) => {
          if (step === 2) throw lost
        },
      })
      const outcomes = await Promise.all([
        harness.generate('first', tokensOf(5), { maxTokens: 9 }),
        harness.generate('second', tokensOf(8), { maxTokens: 9 }),
      ])
      expect(outcomes.map(({ end }) => end)).toEqual([
        { kind: 'failed', error: lost },
        { kind: 'failed', error: lost },
      ])
      expect(harness.core.failure).toBe(lost)
      expect(() => harness.generate('third', [1])).toThrow(lost)
      await expect(harness.core.exclusive(() => Promise.resolve())).rejects.toBe(lost)
      harness.checkIdle()
      await harness.core.close()
    })

    it('ends everything at once when told so during a step that never returns', async () => {
      const gate = createGate()
      const harness = new Harness({ ...base, onStep: () => gate.wait() })
      const outcome = harness.generate('a', [1], { maxTokens: 9 })
      await gate.reached
      const lost = new LatheError('gpu.device-lost', 'The GPU went away', 'Try again')
      harness.core.fail(lost)
      expect((await outcome).end).toEqual({ kind: 'failed', error: lost })
      await harness.core.close()
      gate.open()
    })
  })

  it('aborts what is left when closed, and refuses more', async () => {
    const gate = createGate()
    const harness = new Harness({ ...base, onStep: (_input, step) => (step === 1 ? gate.wait() : undefined) })
    const running = harness.generate('a', [1], { maxTokens: 50 })
    await gate.reached
    const queued = harness.generate('b', [2], { maxTokens: 50 })
    const section = harness.core.exclusive(() => Promise.resolve('never'))
    const closed = harness.core.close()
    gate.open()
    expect([(await running).end, (await queued).end]).toMatchObject([{ reason: 'aborted' }, { reason: 'aborted' }])
    await expect(section).rejects.toMatchObject({ code: 'runtime.aborted' })
    await closed
    harness.checkIdle()
    expect(() => harness.generate('c', [1])).toThrow('unloaded')
  })

  it('refuses an id that is in flight and a pool that cannot hold one context', async () => {
    const harness = new Harness(base)
    const first = harness.generate('a', [1], { maxTokens: 5 })
    expect(() => harness.core.add(harness.core.scheduler.running[0] ?? ({ id: 'a' } as never))).toThrow('already running')
    await first
    await harness.core.close()
    expect(() => new Harness({ ...base, blocks: 16, contextLimit: 256 })).toThrow('cannot hold one context')
  })

  it('reserves blocks in turn, without preempting, and lets exclusive sections alternate with steps', async () => {
    const harness = new Harness({ ...base, blocks: 9, contextLimit: 128 })
    const running = harness.generate('a', tokensOf(60), { maxTokens: 20 })
    const granted = harness.reserve('r', 65)
    const table = await Promise.race([granted, running.then(() => 'later' as const)])
    // 60 + 20 tokens take 5 of 8 blocks; 64 computed tokens would take 4, so the reservation waits for the end of the answer.
    expect(table).toBe('later')
    expect((await granted).length).toBe(4)
    const waiting = harness.generate('b', tokensOf(100), { maxTokens: 3 })
    const order: string[] = []
    await harness.core.exclusive(() => Promise.resolve(void order.push('section')))
    expect(harness.core.telemetry()).toMatchObject({ running: 0, waiting: 1, kvBlocksUsed: 4 })
    harness.core.abort('r')
    expect((await waiting).tokens).toEqual(expectedTokens(tokensOf(100), 3, VOCABULARY, GREEDY))
    expect(order).toEqual(['section'])
    harness.checkIdle()
    await harness.core.close()
  })
})

function cachedOf({ end }: Outcome): number {
  return end.kind === 'finished' ? end.stats.cachedTokens : Number.NaN
}

/** What the oracle says of this job, cut to what an aborted request got. */
function expectedOutcome({ prompt, output, seed, score, abortAt }: Job, got: Outcome): unknown {
  const aborted = got.end.kind === 'finished' && got.end.reason === 'aborted'
  if (aborted && abortAt === null) return 'not aborted'
  if (score) {
    const from = 1 + (output % (prompt.length - 1))
    return {
      tokens: [],
      logprobs: aborted ? null : prompt.slice(from).map((token, j) => expectedLogprob(prompt.slice(0, from + j), token)),
    }
  }
  const limit = Math.min(output, CONTEXT - prompt.length)
  const all = expectedTokens(prompt, limit, VOCABULARY, seed === null ? GREEDY : { temperature: 1, ...foldSeed(seed) })
  const tokens = aborted ? all.slice(0, got.tokens.length) : all
  return {
    reason: aborted ? 'aborted' : output <= limit ? 'length' : 'context',
    completionTokens: tokens.length,
    tokens,
    logprobs: tokens.map((token, i) => expectedLogprob([...prompt, ...all.slice(0, i)], token)),
  }
}

function summarize({ tokens, logprobs, end }: Outcome, { score }: Job): unknown {
  if (end.kind === 'failed') return end
  if (end.kind === 'scored') return { tokens, logprobs: [...end.result.logprobs] }
  if (score) return { tokens, logprobs: null }
  return { reason: end.reason, completionTokens: end.stats.completionTokens, tokens, logprobs }
}

/** A permutation of 1…count by a linear congruential shuffle. */
function permutation(count: number, seed: number): number[] {
  const ids = Array.from({ length: count }, (_, i) => i + 1)
  let state = seed >>> 0
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    const j = state % (i + 1)
    ;[ids[i], ids[j]] = [ids[j]!, ids[i]!]
  }
  return ids
}
