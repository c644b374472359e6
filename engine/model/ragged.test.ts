/**
 * A token's numbers depend on its sequence alone (specs/runtime.md §9): not on what shares the step, where a prompt is cut, or which blocks hold
 * it. All comparisons are for equality of bits.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Backend, StepOutput } from '../gpu/program.ts'
import { type LoadedModel, loadModel } from './load.ts'
import { MODEL_TEST_BACKENDS, MODEL_TEST_TIMEOUT_MS } from './test/backends.ts'
import { hasSharedData, MISSING_DATA, modelFolder } from './test/golden-data.ts'
import { buildStep, type Chunk, continueGreedily, firstBlocks, GREEDY, scorePrompt, shapeOf } from './test/steps.ts'

if (!hasSharedData) process.stderr.write(`ragged.test.ts ${MISSING_DATA}\n`)

/** A window with GQA 4, per-head norms with one KV head, and packed int4: between them every kernel with its awkward case. */
const MODELS = ['random-mistral', 'random-qwen3', 'llmcompressor-gptq-w4a16-g128']
const BLOCK_SIZE = 16

/** Tokens of a fixed linear congruence; any sequence will do. */
function tokensOf(seed: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => (seed * 97 + i * 31 + ((i * i) % 13)) % 320)
}

/** What a step said about its rows `from` … `to`. */
function rowsOf(output: StepOutput, from: number, to: number, topCount: number) {
  return {
    argmax: output.argmax.slice(from, to),
    sampled: output.sampled.slice(from, to),
    targetLogprob: output.targetLogprob.slice(from, to),
    topIds: output.topIds.slice(from * topCount, to * topCount),
    topLogprobs: output.topLogprobs.slice(from * topCount, to * topCount),
  }
}

describe.skipIf(!hasSharedData).each(MODEL_TEST_BACKENDS)('$name', ({ open }) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend?.[Symbol.asyncDispose]()
  })

  describe.each(MODELS)('%s', { timeout: MODEL_TEST_TIMEOUT_MS }, (name) => {
    let model: LoadedModel
    beforeAll(async () => {
      await using checkpoint = await openCheckpoint(modelFolder(name))
      model = await loadModel({
        checkpoint,
        backend,
        contextTokens: 96,
        kvTokens: 400,
        kvDtype: 'f16',
        blockSize: BLOCK_SIZE,
        capacity: { tokens: 128, rows: 128, sequences: 6 },
        owner: name,
      })
    })
    afterAll(() => model?.dispose())

    test('sequences of different lengths in one step equal each alone', async () => {
      const topCount = 3
      const lengths = [5, 1, 33, 18, 16, 40]
      let nextBlock = 1
      const chunks = lengths.map((length, i): Chunk => {
        const blocks = Array.from({ length: Math.ceil(length / BLOCK_SIZE) }, () => nextBlock++)
        const tokenIds = tokensOf(i, length)
        return { tokenIds, start: 0, blocks, rows: 'all', targets: tokenIds.slice(1), sampler: GREEDY }
      })
      const together = await model.executable.step(buildStep(chunks, shapeOf(model), topCount))
      let row = 0
      for (const chunk of chunks) {
        const alone = await model.executable.step(buildStep([chunk], shapeOf(model), topCount))
        const rows = chunk.tokenIds.length
        expect(rowsOf(together, row, row + rows, topCount)).toEqual(rowsOf(alone, 0, rows, topCount))
        row += rows
      }
    })

    test('a prompt in chunks equals the whole prompt', async () => {
      const tokens = tokensOf(7, 60)
      const whole = await scorePrompt(model, tokens)
      for (const chunkTokens of [1, 7, 16, 17]) {
        const chunked = await scorePrompt(model, tokens, { chunkTokens })
        expect(chunked.logprobs).toEqual(whole.logprobs)
        expect(chunked.lastLogits).toEqual(whole.lastLogits)
      }
    })

    test('block ids do not matter', async () => {
      const tokens = tokensOf(3, 70)
      const expected = await scorePrompt(model, tokens)
      for (const blocks of [
        [25, 3, 14, 9, 1],
        [5, 4, 3, 2, 1],
      ]) {
        expect(await scorePrompt(model, tokens, { blocks })).toEqual(expected)
      }
    })

    test('decoding beside another prompt’s prefill equals decoding alone', async () => {
      const prompt = tokensOf(11, 20)
      const blocks = firstBlocks(prompt.length + 8, BLOCK_SIZE)
      const expected = await continueGreedily(model, prompt, 8, { blocks })
      const found: number[] = []
      let chunk: Chunk = { tokenIds: prompt, start: 0, blocks, sampler: GREEDY }
      for (let step = 0; step < 8; step++) {
        const neighbour: Chunk = { tokenIds: tokensOf(step, 9 + step), start: 0, blocks: [10 + step, 20], sampler: GREEDY }
        const order = step % 2 === 0 ? [neighbour, chunk] : [chunk, neighbour]
        const { sampled } = await model.executable.step(buildStep(order, shapeOf(model)))
        const token = sampled[order.indexOf(chunk)]!
        found.push(token)
        chunk = { ...chunk, tokenIds: [token], start: chunk.start + chunk.tokenIds.length }
      }
      expect(found).toEqual(expected)
    })
  })
})
