/** An FP8 cache with the scales that a checkpoint brings, against golden values made elsewhere (test/packed/make_fp8_cache.py), in chunks and on each backend. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Backend } from '../gpu/program.ts'
import { loadModel } from './load.ts'
import type { KvSetting } from './memory.ts'
import { MODEL_TEST_BACKENDS, MODEL_TEST_TIMEOUT_MS } from './test/backends.ts'
import { FP8_CACHE_MODEL, goldenPrompts, modelFolder } from './test/golden-data.ts'
import { continueGreedily, scorePrompt } from './test/steps.ts'

/** Of log-probabilities, in f32 against f64: no code of the golden prompts is so near a tie that rounding turns it. */
const TOLERANCE = 2e-3

const worst = (expected: readonly number[], found: ArrayLike<number>): number =>
  expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (found[i] ?? NaN))), 0)

describe.each(MODEL_TEST_BACKENDS)('$name', ({ open }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend?.[Symbol.asyncDispose]()
  })

  test('log-probabilities and greedy tokens are those of static scales', { timeout: MODEL_TEST_TIMEOUT_MS }, async () => {
    await using checkpoint = await openCheckpoint(modelFolder(FP8_CACHE_MODEL))
    const capacity = { tokens: 64, rows: 64, sequences: 1 }
    const load = (kvDtype: KvSetting) => loadModel({ checkpoint, backend, contextTokens: 128, kvDtype, capacity, owner: kvDtype })
    using model = await load('fp8')
    for (const { tokens, logprobs, greedy, gaps } of goldenPrompts(FP8_CACHE_MODEL)) {
      expect(worst(logprobs ?? [], (await scorePrompt(model, tokens)).logprobs)).toBeLessThanOrEqual(TOLERANCE)
      const whole = (await scorePrompt(model, tokens)).logprobs
      expect((await scorePrompt(model, tokens, { chunkTokens: 7 })).logprobs).toEqual(whole)
      expect(gaps).toBeGreaterThan(2 * TOLERANCE)
      expect(await continueGreedily(model, tokens, greedy.length)).toEqual(greedy)
    }
    if (backend.kind !== 'reference') return
    // The same folder without its scales is further away than that: the test would notice.
    const longer = goldenPrompts(FP8_CACHE_MODEL)[1]!
    using rows = await loadModel({
      checkpoint: { ...checkpoint, tensors: new Map([...checkpoint.tensors].filter(([name]) => !/[kv]_scale$/.test(name))) },
      backend,
      contextTokens: 128,
      kvDtype: 'fp8',
      capacity,
      owner: 'rows',
    })
    expect(worst(longer.logprobs ?? [], (await scorePrompt(rows, longer.tokens)).logprobs)).toBeGreaterThan(10 * TOLERANCE)
  })
})
