/** Prompt lookup, the decision whether speculation pays, the command line's way to ask for it, and a draft model that keeps in step. */
import { describe, expect, it } from 'vitest'
import { Request } from '../request.ts'
import { foldSeed, resolveSampling } from '../sampling.ts'
import { expectedTokens, FakeExecutable } from '../test/fake-executable.ts'
import { GREEDY } from '../test/fake-runtime.ts'
import { Harness, VOCABULARY } from '../test/harness.ts'
import { rulesOf } from '../test/rules.ts'
import { DraftModelProposer } from './draft-model.ts'
import { SpeculationGovernor } from './governor.ts'
import { NgramProposer } from './ngram.ts'
import { parseSpeculation } from './parse.ts'
import { Speculator } from './speculator.ts'

function requestOf(tokens: readonly number[]): Request {
  const sampling = resolveSampling({ ...GREEDY, seed: 0 })
  return new Request('r', Uint32Array.from(tokens), { kind: 'generate', sampling, maxTokens: null, stopTokenIds: new Set() }, 0)
}

const guess = async (tokens: readonly number[], most: number): Promise<readonly number[]> =>
  (await new NgramProposer().propose([{ request: requestOf(tokens), most }]))[0]!

describe('prompt lookup', () => {
  it.each<[string, number[], number, number[]]>([
    ['proposes what followed before', [1, 2, 3, 4, 5, 9, 1, 2, 3], 2, [4, 5]],
    ['takes the most recent occurrence', [1, 2, 3, 7, 8, 1, 2, 3, 5, 6, 1, 2, 3], 2, [5, 6]],
    ['prefers the longest match', [4, 1, 2, 3, 7, 0, 1, 2, 3, 5, 4, 1, 2, 3], 1, [7]],
    ['goes on with a repetition', [5, 6, 5, 6, 5, 6], 5, [5, 6, 5, 6, 5]],
    ['has nothing to say about new text', [1, 2, 3, 4, 5], 4, []],
    ['does not guess from a single token', [1, 2, 9, 1], 4, []],
    ['is quiet at the beginning', [1], 4, []],
  ])('%s', async (_, tokens, most, expected) => {
    expect(await guess(tokens, most)).toEqual(expected)
  })

  it('keeps up with a growing request', async () => {
    const request = requestOf([1, 2, 3])
    const proposer = new NgramProposer()
    const guesses: (readonly number[])[] = []
    for (const token of [9, 8, 1, 2, 3]) {
      request.append(token)
      guesses.push((await proposer.propose([{ request, most: 3 }]))[0]!)
    }
    expect(guesses).toEqual([[], [], [], [3, 9, 8], [9, 8, 1]])
  })
})

const runGovernor = (governor: SpeculationGovernor, steps: number, on: number, off: number): number => {
  let speculated = 0
  for (let i = 0; i < steps; i++) {
    const yes = governor.speculates(4)
    if (yes) speculated++
    governor.observe(4, 4 * (yes ? on : off), 10, yes)
  }
  return speculated
}

describe('the governor', () => {
  it('speculates while it brings more tokens per millisecond, and nearly never while it does not', () => {
    expect(runGovernor(new SpeculationGovernor(), 500, 2, 1)).toBeGreaterThan(440)
    expect(runGovernor(new SpeculationGovernor(), 500, 0.8, 1)).toBeLessThan(60)
  })

  it('notices when that changes, and decides per batch size', () => {
    const governor = new SpeculationGovernor()
    runGovernor(governor, 300, 0.5, 1)
    expect(governor.speculates(1)).toBe(true)
    expect(runGovernor(governor, 600, 3, 1)).toBeGreaterThan(350)
  })
})

describe('--speculate', () => {
  it.each([
    ['ngram', { kind: 'ngram' }],
    ['ngram:8', { kind: 'ngram', tokens: 8 }],
    ['draft:C:\\models\\small', { kind: 'draft', source: 'C:\\models\\small' }],
  ])('reads %s', (text, expected) => {
    expect(parseSpeculation(text)).toEqual(expected)
  })

  it.each(['', 'ngram:', 'ngram:x', 'draft', 'draft:', 'tree:3'])('refuses "%s"', (text) => {
    expect(() => parseSpeculation(text)).toThrow(expect.objectContaining({ code: 'runtime.invalid-request' }))
  })
})

describe('a draft model', () => {
  const blockSize = 4
  const draftOf = (options: { blocks?: number; tokens?: number; variant?: number; onStep?: () => void } = {}) => {
    const blocks = options.blocks ?? 200
    const executable = new FakeExecutable({
      capacity: { tokens: options.tokens ?? 64, rows: 4, sequences: 4, blocksPerSequence: 64 },
      blocks,
      blockSize,
      vocabulary: VOCABULARY,
      variant: options.variant ?? 0,
      ...(options.onStep === undefined ? {} : { onStep: options.onStep }),
    })
    return new DraftModelProposer({ executable, blocks, blockSize, contextLimit: 200, release: () => executable[Symbol.dispose]() })
  }
  const prompts = [0, 1, 2, 3].map((salt) => Array.from({ length: 10 + 17 * salt }, (_, i) => (i * 31 + salt * 7) % VOCABULARY))
  /** Four requests, with penalties and a grammar on one of them; what the model says alone, and what speculation did. */
  const run = async (proposer: DraftModelProposer, blocks = 200) => {
    const failures: unknown[] = []
    const speculator = new Speculator({
      proposer,
      tokens: 4,
      contextLimit: 200,
      governed: false,
      onFailure: (error) => failures.push(error),
    })
    const harness = new Harness({ blocks, blockSize, contextLimit: 200, tokenBudget: 32, speculator, checkInvariants: true, maxRows: 20 })
    const plain = {
      parameters: { frequencyPenalty: 1 },
      minTokens: 0,
      endTokenIds: [],
      allows: (_: readonly number[], id: number) => id % 3 > 0,
    }
    const outcomes = await Promise.all(
      prompts.map((prompt, i) =>
        harness.generate(`r${i}`, prompt, { maxTokens: 40, seed: i, rules: i === 3 ? rulesOf(plain, VOCABULARY) : null }),
      ),
    )
    const stats = harness.core.telemetry().speculation!
    await harness.core.close()
    for (const [i, { tokens }] of outcomes.slice(0, 3).entries()) {
      expect(tokens).toEqual(expectedTokens(prompts[i]!, 40, VOCABULARY, { temperature: 1, ...foldSeed(i) }))
    }
    return { stats, failures, ruled: outcomes[3]!.tokens }
  }

  it('that is the model itself is always right, at any temperature and with any rule, since it shares the noise', async () => {
    const { stats, ruled } = await run(draftOf())
    expect(stats.acceptedTokens).toBe(stats.draftTokens)
    expect(stats.draftTokens).toBeGreaterThan(100)
    expect(ruled.every((id) => id % 3 > 0)).toBe(true)
  })

  it('reads prompts in steps of its own size, and survives preemption and a pool too small for all', async () => {
    const small = await run(draftOf({ tokens: 16 }))
    expect(small.stats.acceptedTokens).toBe(small.stats.draftTokens)
    const preempted = await run(draftOf(), 52)
    expect(preempted.stats.acceptedTokens).toBe(preempted.stats.draftTokens)
    const proposer = draftOf({ blocks: 30 })
    const scarce = await run(proposer)
    expect(scarce.stats.acceptedTokens).toBe(scarce.stats.draftTokens)
    expect(scarce.ruled).toEqual(small.ruled)
  })

  it('that is always wrong costs time only, and one that fails is not asked again', async () => {
    const wrong = await run(draftOf({ variant: 5 }))
    expect(wrong.stats.acceptedTokens).toBeLessThan(wrong.stats.draftTokens / 20)
    let asked = 0
    const onStep = (): void => {
      if (++asked > 3) throw new Error('draft broke')
    }
    const broken = await run(draftOf({ onStep }))
    expect(broken.failures).toEqual([new Error('draft broke')])
    expect({ asked, active: broken.stats.active, ruled: broken.ruled }).toEqual({ asked: 4, active: false, ruled: wrong.ruled })
  })
})
