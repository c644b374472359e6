/**
 * The f16 KV cache on every adapter against the reference's own f16 cache. Golden values can only bound it loosely (rounding keys and values
 * moves a sharp model by 2e-2); this is tight enough to see a cache that truncates, or attention that reads this step's keys unrounded.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Backend } from '../gpu/program.ts'
import { loadModel } from './load.ts'
import { MODEL_TEST_BACKENDS, MODEL_TEST_TIMEOUT_MS } from './test/backends.ts'
import { goldenPrompts, hasSharedData, MISSING_DATA, modelFolder, PACKED_MODELS } from './test/golden-data.ts'
import { scorePrompt } from './test/steps.ts'

if (!hasSharedData) process.stderr.write(`f16-cache.test.ts ${MISSING_DATA}\n`)

const MODELS = [...(hasSharedData ? ['random-llama3', 'random-qwen2', 'random-qwen3', 'stories260k'] : []), ...PACKED_MODELS]

/** A key that f32 and f64 arithmetic put on two sides of a rounding boundary differs by one f16 unit; measured up to 2.2e-3 in logits. */
const F16_AGREEMENT = 5e-3

/** Log-probabilities and last logits of a model's golden prompts, f16 cache. */
async function scores(backend: Backend, name: string): Promise<readonly Float32Array[]> {
  await using checkpoint = await openCheckpoint(modelFolder(name))
  const capacity = { tokens: 128, rows: 128, sequences: 1 }
  using model = await loadModel({ checkpoint, backend, contextTokens: 256, kvDtype: 'f16', capacity, owner: name })
  const found: Float32Array[] = []
  for (const { tokens } of goldenPrompts(name)) {
    const { logprobs, lastLogits } = await scorePrompt(model, tokens)
    found.push(logprobs, lastLogits)
  }
  return found
}

function worst(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  return a.reduce((max, values, i) => values.reduce((most, value, j) => Math.max(most, Math.abs(value - b[i]![j]!)), max), 0)
}

const [reference, ...adapters] = MODEL_TEST_BACKENDS

describe.each(adapters)('$name', ({ open }) => {
  let backend: Backend
  let oracle: Backend
  beforeAll(async () => {
    backend = await open()
    oracle = await reference!.open()
  })
  afterAll(async () => {
    await backend?.[Symbol.asyncDispose]()
    await oracle?.[Symbol.asyncDispose]()
  })

  test.for(MODELS)('%s', { timeout: MODEL_TEST_TIMEOUT_MS }, async (name) => {
    expect(worst(await scores(oracle, name), await scores(backend, name))).toBeLessThanOrEqual(F16_AGREEMENT)
  })
})
