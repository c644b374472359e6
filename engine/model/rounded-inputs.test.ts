/**
 * Models whose inputs are rounded to 8 bits as they come, against golden values of transformers with the same rounding
 * (../shared/data/README.md). Up to the first input that a last bit of difference moves to the next step, values agree as closely as for any
 * model; from there on they wander by up to a few hundredths, so the whole prompt is held to a mean.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Backend } from '../gpu/program.ts'
import { loadModel } from './load.ts'
import { MODEL_TEST_BACKENDS, MODEL_TEST_TIMEOUT_MS } from './test/backends.ts'
import { goldenPrompts, hasSharedData, MISSING_DATA, modelFolder } from './test/golden-data.ts'
import { scorePrompt } from './test/steps.ts'

/** Mean |Δ log-probability| over a prompt. The golden values move by 1e-3 when 1e-7 is added to the embeddings; a wrong scale moves them by more than this. */
const MEAN_TOLERANCE = 1e-2
/** Positions before any input moves, in f64. With max|x| / 127 instead of / 127.5 the first of them is off by 0.05. */
const EXACT_POSITIONS = 4

const MODELS = hasSharedData ? ['llmcompressor-fp8-dynamic', 'llmcompressor-w8a8'] : []
if (!hasSharedData) process.stderr.write(`rounded-inputs.test.ts ${MISSING_DATA}\n`)

describe.each(MODEL_TEST_BACKENDS)('$name', ({ name: backendName, open, tolerance }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend?.[Symbol.asyncDispose]()
  })

  test.for(MODELS)('%s', { timeout: MODEL_TEST_TIMEOUT_MS }, async (name) => {
    await using checkpoint = await openCheckpoint(modelFolder(name))
    const capacity = { tokens: 128, rows: 128, sequences: 1 }
    using model = await loadModel({ checkpoint, backend, contextTokens: 512, kvDtype: 'f32', capacity, owner: name })
    const prompts = goldenPrompts(name)
    expect(prompts.length).toBeGreaterThan(0)
    for (const prompt of prompts) {
      const scored = await scorePrompt(model, prompt.tokens)
      const differences = (prompt.logprobs ?? []).map((value, i) => Math.abs(value - scored.logprobs[i]!))
      const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length
      expect(mean).toBeLessThanOrEqual(MEAN_TOLERANCE)
      if (backendName !== 'reference') continue
      expect(Math.max(...differences.slice(0, EXACT_POSITIONS))).toBeLessThanOrEqual(tolerance.f32)
    }
  })
})
