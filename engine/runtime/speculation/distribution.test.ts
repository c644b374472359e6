/**
 * Speculation does not change the distribution: χ² over triples of a small Markov chain, sampled by the whole runtime with prompt lookup that is
 * often wrong; and the classic bug (a rejected draft stays among the candidates) fails the same test, so the test can see it.
 */
import { expect, it } from 'vitest'
import type { Executable, StepInput, StepOutput } from '../../gpu/program.ts'
import { logSoftmax, sample } from '../../gpu/reference/reductions.ts'
import { randomFrom } from '../../gpu/test/numeric.ts'
import { BlockPool } from '../block-pool.ts'
import { Core } from '../core.ts'
import { Request } from '../request.ts'
import { resolveSampling } from '../sampling.ts'
import { FixedStepBudget } from '../step-budget.ts'
import { GREEDY } from '../test/fake-runtime.ts'
import { NgramProposer } from './ngram.ts'
import { Speculator } from './speculator.ts'

/** Row a: weights of the token that follows a. */
const CHAIN: readonly (readonly number[])[] = [
  [0.05, 0.6, 0.2, 0.15],
  [0.3, 0.1, 0.4, 0.2],
  [0.5, 0.25, 0.05, 0.2],
  [0.1, 0.2, 0.3, 0.4],
]
const SIZE = CHAIN.length
const logits = CHAIN.map((row) => Float64Array.from(row, Math.log))
const CONTEXT = 64
const LENGTH = 50
const REQUESTS = 400

/** The next token depends on the last one alone; tokens are chosen by the reference's own sampler. */
class MarkovExecutable implements Executable {
  readonly program = {
    operations: [],
    weights: [],
    ropes: [],
    logits: { id: 0, name: 'logits', extent: 'rows', width: SIZE },
    vocabulary: SIZE,
  } as const
  readonly capacity = { tokens: 256, rows: 64, sequences: 8, blocksPerSequence: 4 }

  async step(input: StepInput): Promise<StepOutput> {
    const rows = [...input.logitRows].map((token) => logits[input.tokenIds[token]!]!)
    const sampled = Uint32Array.from(rows, (row, r) => sample(row, input.samplers[r]!))
    return {
      sampled,
      sampledLogprob: Float32Array.from(rows, (row, r) => logSoftmax(row)[sampled[r]!]!),
      argmax: new Uint32Array(rows.length),
      targetLogprob: new Float32Array(rows.length),
      topIds: new Uint32Array(0),
      topLogprobs: new Float32Array(0),
      nonFinite: false,
    }
  }

  read(): Promise<Float32Array> {
    return Promise.reject(new Error('not kept'))
  }

  profile(): Promise<readonly never[]> {
    return Promise.resolve([])
  }

  [Symbol.dispose](): void {
    // It holds nothing.
  }
}

/** Σ over triples (a, b, c) of b and c given a: 4 · 15 degrees of freedom. */
function chiSquare(sequences: readonly (readonly number[])[]): number {
  const counts = new Map<number, number>()
  const starts = Array.from({ length: SIZE }, () => 0)
  for (const tokens of sequences) {
    // Triples that share no transition are independent given their first token.
    for (let i = 0; i + 2 < tokens.length; i += 2) {
      const [a, b, c] = [tokens[i]!, tokens[i + 1]!, tokens[i + 2]!]
      starts[a]! += 1
      const key = (a * SIZE + b) * SIZE + c
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
  }
  let chi = 0
  for (let a = 0; a < SIZE; a++) {
    for (let b = 0; b < SIZE; b++) {
      for (let c = 0; c < SIZE; c++) {
        const expected = starts[a]! * CHAIN[a]![b]! * CHAIN[b]![c]!
        chi += ((counts.get((a * SIZE + b) * SIZE + c) ?? 0) - expected) ** 2 / expected
      }
    }
  }
  return chi
}

/** Exceeded with probability 1e-3 at 60 degrees of freedom. The draws are fixed by their seeds. */
const LIMIT = 99.6

it('samples the same chain with speculation', async () => {
  const speculator = new Speculator({ proposer: new NgramProposer(), tokens: 4, contextLimit: CONTEXT, governed: false })
  const sequences = new Map<string, number[]>()
  const ended = Promise.withResolvers<void>()
  let left = REQUESTS
  const core = new Core({
    executable: new MarkovExecutable(),
    pool: new BlockPool(64, 16),
    hasher: null,
    budget: new FixedStepBudget(256),
    contextLimit: CONTEXT,
    modelId: 'chain',
    speculator,
    emit: (outputs) => {
      for (const { id, tokens, end } of outputs) {
        sequences.get(id)!.push(...tokens)
        if (end !== null && --left === 0) ended.resolve()
      }
    },
  })
  for (let seed = 0; seed < REQUESTS; seed++) {
    const id = `${seed}`
    sequences.set(id, [])
    const sampling = resolveSampling({ ...GREEDY, temperature: 1, seed })
    core.add(new Request(id, Uint32Array.of(seed % SIZE), { kind: 'generate', sampling, maxTokens: LENGTH, stopTokenIds: new Set() }, 0))
  }
  await ended.promise
  const { draftTokens, acceptedTokens } = speculator.telemetry()
  await core.close()
  expect(chiSquare([...sequences.values()])).toBeLessThan(LIMIT)
  // Drafts were verified, and many were wrong.
  expect(draftTokens).toBeGreaterThan(5000)
  expect(acceptedTokens / draftTokens).toBeLessThan(0.6)
})

it('would notice a rejected draft that stays among the candidates', () => {
  const random = randomFrom(5)
  const draw = (row: readonly number[]): number => {
    let rest = random()
    return Math.max(
      0,
      row.findIndex((weight) => (rest -= weight) < 0),
    )
  }
  const generate = (removesDraft: boolean): number[] => {
    const tokens = [0]
    while (tokens.length < LENGTH) {
      const row = CHAIN[tokens.at(-1)!]!
      const draft = row.indexOf(Math.max(...row))
      if (random() < row[draft]!) tokens.push(draft)
      else if (removesDraft) {
        const others = row.map((weight, id) => (id === draft ? 0 : weight / (1 - row[draft]!)))
        tokens.push(draw(others))
      } else tokens.push(draw(row))
    }
    return tokens
  }
  expect(chiSquare(Array.from({ length: REQUESTS }, () => generate(true)))).toBeLessThan(LIMIT)
  expect(chiSquare(Array.from({ length: REQUESTS }, () => generate(false)))).toBeGreaterThan(10 * LIMIT)
})
