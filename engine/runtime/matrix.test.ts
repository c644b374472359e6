/**
 * The matrix of specs/runtime.md §9.3 on the fake model: batch, chunks, cache, speculation by guesses of every quality, preemption, block
 * numbers, neighbours that abort, with every sampler option. Each request must get what the naive oracle computes from plain arrays.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { LatheError } from '../contract/errors.ts'
import { foldSeed } from './sampling.ts'
import { NgramProposer } from './speculation/ngram.ts'
import { Speculator } from './speculation/speculator.ts'
import type { SamplingParameters } from './types.ts'
import { expectedLogprob, expectedTokens } from './test/fake-executable.ts'
import { Harness, VOCABULARY } from './test/harness.ts'
import { proposerOf } from './test/proposers.ts'
import { adjustmentOf, type PlainRules, rulesOf } from './test/rules.ts'

const SEED = 20_261_123
const CONTEXT = 100
/** Small, so that the fake model repeats itself and words that are bad, or tokens that end, do come up. */
const FEW = 7

const token = fc.nat(VOCABULARY - 1)
const parameters: fc.Arbitrary<Partial<SamplingParameters>> = fc.record(
  {
    presencePenalty: fc.constantFrom(-1, 0.5, 2),
    frequencyPenalty: fc.constantFrom(-0.5, 1),
    repetitionPenalty: fc.constantFrom(0.5, 1.3),
    logitBias: fc.array(fc.tuple(token, fc.constantFrom(-Infinity, -3, 4.5)), { minLength: 1, maxLength: 4 }).map((list) => new Map(list)),
    badWords: fc.array(fc.array(fc.nat(FEW - 1), { minLength: 1, maxLength: 3 }), { maxLength: 3 }),
    allowedTokenIds: fc.constant(Array.from({ length: FEW }, (_, id) => id)),
  },
  { requiredKeys: [] },
)

const rules: fc.Arbitrary<PlainRules | null> = fc.option(
  fc.record({
    parameters,
    minTokens: fc.nat(12),
    endTokenIds: fc.constantFrom<number[]>([], [3], [0, 5]),
    // "Not the same token twice, and no two even ones in a row" changes with every token.
    allows: fc.constantFrom(
      null,
      (output: readonly number[], id: number) => id !== output.at(-1) && (id % 2 === 1 || (output.at(-1) ?? 1) % 2 === 1),
    ),
  }),
)

const job = fc.record({
  root: fc.nat(1),
  length: fc.integer({ min: 1, max: 40 }),
  output: fc.integer({ min: 1, max: 90 }),
  seed: fc.option(fc.nat(1000)),
  rules,
  priority: fc.nat(2),
  addAt: fc.nat(6),
  abortAt: fc.option(fc.nat(60), { freq: 8 }),
})

const setting = fc.record({
  budget: fc.constantFrom(1, 7, 16, 17, 64, 4096),
  blockSize: fc.constantFrom(1, 4, 16),
  spare: fc.nat(3),
  maxSequences: fc.integer({ min: 2, max: 4 }),
  extraRows: fc.nat(9),
  prefixCache: fc.boolean(),
  drafts: fc.constantFrom(0, 1, 3, 8),
  proposer: fc.constantFrom('ngram', 'oracle', 'poison', 'mixed'),
})

const promptOf = ({ root, length }: { root: number; length: number }): number[] =>
  Array.from({ length }, (_, i) => (i * 13 + root * 101 + (i > 20 ? length : 0)) % FEW)

describe('the determinism matrix', () => {
  it('gives every request what it gets alone', { timeout: 120_000 }, async () => {
    const met = { steps: 0, preemptions: 0, cached: 0, drafted: 0, accepted: 0, ruled: 0 }
    await fc.assert(
      fc.asyncProperty(fc.array(job, { minLength: 2, maxLength: 7 }), setting, async (jobs, options) => {
        const expected = jobs.map((item) => {
          const prompt = promptOf(item)
          const sampling = { temperature: item.seed === null ? 0 : 1, ...foldSeed(item.seed ?? 0) }
          const most = Math.min(item.output, CONTEXT - prompt.length)
          const plain = item.rules
          const adjustOf = plain === null ? undefined : (output: readonly number[]) => adjustmentOf(plain, VOCABULARY, prompt, output)
          const tokens = expectedTokens(prompt, most, VOCABULARY, sampling, 0, adjustOf)
          const end = tokens.findIndex((id, i) => (plain?.endTokenIds ?? []).includes(id) && i >= (plain?.minTokens ?? 0))
          return { prompt, tokens: end < 0 ? tokens : tokens.slice(0, end + 1), full: end >= 0 || tokens.length === most }
        })
        const blocks = Math.ceil(CONTEXT / options.blockSize) + 1 + options.spare
        const starts = new Map<number, (() => void)[]>()
        const at = (step: number, action: () => void): void => void starts.set(step, [...(starts.get(step) ?? []), action])
        // The oracle's guess of every position, wrong where it should be.
        const guess = (id: string, place: number): number | undefined => expected[Number(id.slice(1))]?.tokens[place]
        const proposer =
          options.proposer === 'ngram'
            ? new NgramProposer()
            : proposerOf(({ id, completionTokens }, place) => {
                const right = guess(id, completionTokens + place) ?? 1
                const wrong = options.proposer === 'poison' || (options.proposer === 'mixed' && (completionTokens + 2 * place) % 3 === 0)
                return wrong ? (right + 1) % VOCABULARY : right
              })
        const speculator = new Speculator({ proposer, tokens: options.drafts, contextLimit: CONTEXT, governed: false })
        const harness = new Harness({
          blocks,
          blockSize: options.blockSize,
          contextLimit: CONTEXT,
          tokenBudget: options.budget,
          maxSequences: options.maxSequences,
          maxRows: options.maxSequences + options.extraRows,
          prefixCache: options.prefixCache,
          checkInvariants: true,
          ...(options.drafts === 0 ? {} : { speculator }),
          onStep: (_input, step) => starts.get(step)?.forEach((action) => action()),
        })
        const outcomes = jobs.map((item, index) => {
          const { promise, resolve } = Promise.withResolvers<Awaited<ReturnType<Harness['generate']>>>()
          const add = (): void => {
            const built = item.rules === null ? null : rulesOf(item.rules, VOCABULARY)
            const work = {
              maxTokens: item.output,
              seed: item.seed ?? undefined,
              rules: built,
              priority: item.priority,
              topCount: index % 3,
            }
            void harness
              .generate(`r${index}`, promptOf(item), { ...work, stopTokenIds: new Set(item.rules?.endTokenIds ?? []) })
              .then(resolve)
          }
          if (index === 0) add()
          else at(item.addAt, add)
          if (item.abortAt !== null) at(item.abortAt, () => harness.core.abort(`r${index}`))
          return promise
        })
        const idle = setInterval(() => {
          if (harness.core.active > 0) return
          const [step, actions] = [...starts].toSorted(([a], [b]) => a - b).find(([s]) => s >= harness.executable.steps) ?? [0, []]
          starts.delete(step)
          for (const action of actions) action()
        }, 0)
        const ended = await Promise.all(outcomes).finally(() => clearInterval(idle))

        for (const [i, outcome] of ended.entries()) {
          const { prompt, tokens, full } = expected[i]!
          const aborted = outcome.end.kind === 'finished' && outcome.end.reason === 'aborted'
          const wanted = aborted ? tokens.slice(0, outcome.tokens.length) : tokens
          expect(outcome.tokens).toEqual(wanted)
          expect(outcome.logprobs).toEqual(wanted.map((id, place) => expectedLogprob([...prompt, ...wanted.slice(0, place)], id)))
          expect(outcome.top.length).toBe(i % 3 === 0 ? 0 : wanted.length)
          const ending = outcome.end.kind === 'failed' ? (outcome.end.error as LatheError).code : outcome.end.kind
          expect(aborted ? 'aborted' : ending).toBe(aborted ? 'aborted' : full ? 'finished' : 'runtime.no-token')
          met.ruled += jobs[i]!.rules === null ? 0 : outcome.tokens.length
        }
        harness.checkIdle()
        const telemetry = harness.core.telemetry()
        met.steps += telemetry.steps
        met.preemptions += telemetry.preemptions
        met.cached += telemetry.cachedPromptTokens
        met.drafted += telemetry.speculation?.draftTokens ?? 0
        met.accepted += telemetry.speculation?.acceptedTokens ?? 0
        await harness.core.close()
      }),
      { seed: SEED, numRuns: 50 },
    )
    // What the workloads are there to meet.
    const least = { steps: 1500, preemptions: 5, cached: 100, drafted: 1000, accepted: 400, ruled: 1000 }
    expect(
      Object.entries(least)
        .filter(([name, count]) => met[name as keyof typeof met] < count)
        .map(([name]) => [name, met]),
    ).toEqual([])
  })
})
