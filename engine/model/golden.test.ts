/**
 * Supported models against golden values computed elsewhere (../shared/data/README.md says by what): log-probability of every prompt token,
 * the first 64 logits and the top ten after it, and the greedy continuation.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Backend } from '../gpu/program.ts'
import { type LoadedModel, loadModel } from './load.ts'
import { type KvDtype, MODEL_TEST_BACKENDS, MODEL_TEST_TIMEOUT_MS } from './test/backends.ts'
import { type GoldenPrompt, goldenPrompts, hasSharedData, MISSING_DATA, modelFolder, PACKED_MODELS } from './test/golden-data.ts'
import { continueGreedily, scorePrompt, type Scored } from './test/steps.ts'

/** What the shared data has; every checkout has the demo model and the packed ones with their golden values. */
const SHARED_MODELS = [
  'random-llama3',
  'random-mistral',
  'random-phi3',
  'random-qwen2',
  'random-qwen3',
  'stories260k',
  'tinystories-656k',
  'llmcompressor-gptq-w4a16-g128',
  'llmcompressor-rtn-w3-g64',
]

const MODELS = [...(hasSharedData ? SHARED_MODELS : []), 'demo', ...PACKED_MODELS]

/** Here for their weights: the cache's dtype is shown by the others. */
const WEIGHT_FORMATS = ['llmcompressor-rtn-w3-g64', 'gptq-w4-g32-desc', 'gptq-v2-w8', 'awq-w4-g32']

/** Longer prompts of the demo model take seconds in f64; one dtype shows them. */
const LONG_PROMPT_TOKENS = 200

if (!hasSharedData) process.stderr.write(`golden.test.ts ${MISSING_DATA}\n`)

describe.each(MODEL_TEST_BACKENDS)('$name', ({ open, tolerance }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend?.[Symbol.asyncDispose]()
  })

  describe.each<KvDtype>(['f32', 'f16'])('%s KV cache', (kvDtype) => {
    test.for(MODELS.filter((name) => kvDtype === 'f32' || !WEIGHT_FORMATS.includes(name)))(
      '%s',
      { timeout: MODEL_TEST_TIMEOUT_MS },
      async (name) => {
        const allowed = tolerance[kvDtype]
        await using checkpoint = await openCheckpoint(modelFolder(name))
        const capacity = { tokens: 128, rows: 128, sequences: 1 }
        using model = await loadModel({ checkpoint, backend, contextTokens: 512, kvDtype, capacity, owner: name })
        const prompts = goldenPrompts(name).filter(({ tokens }) => kvDtype === 'f32' || tokens.length < LONG_PROMPT_TOKENS)
        expect(prompts.length).toBeGreaterThan(0)
        for (const prompt of prompts) {
          const scored = await scorePrompt(model, prompt.tokens)
          expect(scored.last.nonFinite).toBe(false)
          expect(worstLogprob(prompt, scored)).toBeLessThanOrEqual(allowed)
          expect(worst(prompt.firstLogits, scored.lastLogits)).toBeLessThanOrEqual(allowed)
          expectTop(prompt, scored, allowed)
          await expectGreedy(model, prompt, allowed)
        }
        model.dispose()
        expect(backend.usage().has(name)).toBe(false)
      },
    )
  })
})

function worst(expected: readonly number[], found: ArrayLike<number>): number {
  return expected.reduce((max, value, i) => Math.max(max, Math.abs(value - (found[i] ?? NaN))), 0)
}

function worstLogprob(prompt: GoldenPrompt, scored: Scored): number {
  expect(scored.logprobs.length).toBe(prompt.tokens.length - 1)
  return prompt.logprobs === null ? 0 : worst(prompt.logprobs, scored.logprobs)
}

/** Values relative to the best, because golden has logits and a step reports log-probabilities; ids where no neighbour is within reach. */
function expectTop(prompt: GoldenPrompt, scored: Scored, allowed: number): void {
  const rows = scored.last.topIds.length / prompt.top.length
  const at = (rows - 1) * prompt.top.length
  const logits = prompt.top.map(([, logit]) => logit)
  const found = scored.last.topLogprobs.subarray(at, at + logits.length)
  const relative = (values: ArrayLike<number>): number[] => logits.map((_, i) => values[i]! - values[0]!)
  expect(worst(relative(logits), relative(found))).toBeLessThanOrEqual(2 * allowed)
  const distinct = logits.flatMap((logit, i) => {
    const gaps = [Infinity, ...logits.slice(0, i).slice(-1), ...logits.slice(i + 1).slice(0, 1)].map((other) => Math.abs(other - logit))
    return gaps.every((gap) => gap > 2 * allowed) ? [i] : []
  })
  expect(distinct.map((i) => scored.last.topIds[at + i])).toEqual(distinct.map((i) => prompt.top[i]![0]))
}

/** Ids up to the first step whose gap the tolerance could close: after that the two may rightly differ. */
async function expectGreedy(model: LoadedModel, prompt: GoldenPrompt, allowed: number): Promise<void> {
  const { gaps, greedy } = prompt
  const close = typeof gaps === 'number' ? (gaps > 2 * allowed ? -1 : 0) : gaps.findIndex((gap) => gap <= 2 * allowed)
  const comparable = close === -1 ? greedy.length : close
  if (comparable === 0) return
  expect(await continueGreedily(model, prompt.tokens, comparable, { cachedTokens: prompt.tokens.length - 1 })).toEqual(
    greedy.slice(0, comparable),
  )
}
