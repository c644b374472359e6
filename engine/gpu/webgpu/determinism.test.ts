/**
 * The bits of a token's logits depend on its sequence alone: not on batch mates, prompt chunks, block numbers, tile widths, how attention was
 * spread, or whether Dawn checks bounds (specs/runtime.md §9.3, B1, B2, B6 at the level of kernels).
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { StepInput } from '../program.ts'
import { narrowGpuTuning, testBackends } from '../test/adapters.ts'
import { batchStep, integer, prepare, type Prepared, randomFrom, type SequencePart, worstError, oracle } from '../test/numeric.ts'
import { SMALL_VOCABULARY, smallCapacity, smallLayout, smallProgram } from '../test/small-program.ts'
import { WebGpuBackend } from './backend.ts'
import type { Tuning } from './tuning.ts'

const PROMPT_TOKENS = 100
const random = randomFrom(42)
const PROMPT = Array.from({ length: PROMPT_TOKENS }, () => integer(random, 0, SMALL_VOCABULARY - 1))
/** f16 keys and values on both sides; a value near a tie may round the other way and move a logit by this much. */
const END_TO_END_TOLERANCE = 4e-3

interface Part extends SequencePart {
  readonly tokens: readonly number[]
}

function step(parts: readonly Part[]): StepInput {
  return { ...batchStep(parts, smallLayout, smallCapacity), tokenIds: Uint32Array.from(parts.flatMap((part) => part.tokens)) }
}

/** Bits of the logits of every prompt token, fed in the given pieces. */
async function run(prepared: Prepared, sizes: readonly number[], blocks?: readonly number[]): Promise<Uint32Array> {
  const rows: Float32Array[] = []
  let past = 0
  for (const count of sizes) {
    const tokens = PROMPT.slice(past, past + count)
    await prepared.executable.step(step([{ count, past, tokens, ...(blocks === undefined ? {} : { blocks }) }]))
    rows.push(await prepared.executable.read(prepared.executable.program.logits))
    past += count
  }
  return bits(rows)
}

function bits(rows: readonly Float32Array[]): Uint32Array {
  const all = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0))
  let at = 0
  for (const row of rows) {
    all.set(row, at)
    at += row.length
  }
  return new Uint32Array(all.buffer)
}

/** Chunks of one size, the rest in the last. */
function chunks(size: number): number[] {
  const sizes = Array.from({ length: Math.floor(PROMPT_TOKENS / size) }, () => size)
  return PROMPT_TOKENS % size === 0 ? sizes : [...sizes, PROMPT_TOKENS % size]
}

/** The same device with other kernel shapes. */
function shaped(on: WebGpuBackend, tuning: Tuning): WebGpuBackend {
  return new WebGpuBackend(on.gpu, tuning, null)
}

describe.each(await testBackends())('$name', ({ open }) => {
  // The GPU's kernels with small tiles: interpreting 256 invocations takes half a minute, and linear.test.ts has the full shapes.
  const gpuShapes = narrowGpuTuning()
  let backend: WebGpuBackend
  let safe: WebGpuBackend
  beforeAll(async () => {
    backend = (await open({ profile: 'production' })) as WebGpuBackend
    safe = (await open({ profile: 'safe' })) as WebGpuBackend
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
    await safe[Symbol.asyncDispose]()
  })

  describe.each(['CPU', 'GPU'] as const)('%s shapes', (shapes) => {
    const tuning = (): Tuning => (shapes === 'GPU' ? gpuShapes : backend.tuning)

    it('gives the same bits for any chunks, batch mates and blocks, and agrees with the reference', async () => {
      using prepared = await prepare(shaped(backend, tuning()), smallProgram(), smallLayout, smallCapacity)
      const whole = await run(prepared, [PROMPT_TOKENS])
      const { logits } = await oracle(smallProgram(), smallLayout, smallCapacity, [step([{ count: PROMPT_TOKENS, tokens: PROMPT }])])
      expect(worstError(new Float32Array(whole.buffer), logits, () => 1)).toBeLessThanOrEqual(END_TO_END_TOLERANCE)

      for (const sizes of [chunks(7), chunks(17), chunks(64), [95, 1, 1, 1, 1, 1]]) expect(await run(prepared, sizes)).toEqual(whole)
      const blocks = Array.from({ length: 20 }, (_, i) => 90 - 3 * i)
      expect(await run(prepared, [60, 40], blocks)).toEqual(whole)

      // A needle of 20 tokens among others of random lengths, first, in the middle and last.
      const needle = { count: 20, tokens: PROMPT.slice(0, 20) }
      for (const place of [0, 2, 3]) {
        const others = Array.from({ length: 3 }, (): Part => {
          const count = integer(random, 1, 25)
          return { count, tokens: Array.from({ length: count }, () => integer(random, 0, SMALL_VOCABULARY - 1)) }
        })
        const parts = [...others.slice(0, place), needle, ...others.slice(place)].map((part, index) => {
          return { ...part, blocks: Array.from({ length: 4 }, (_, i) => 1 + index * 4 + i) }
        })
        await prepared.executable.step(step(parts))
        const found = await prepared.executable.read(prepared.executable.program.logits)
        const before = parts.slice(0, place).reduce((sum, part) => sum + part.count, 0)
        expect(bits([found.slice(before * SMALL_VOCABULARY, (before + 20) * SMALL_VOCABULARY)])).toEqual(
          whole.slice(0, 20 * SMALL_VOCABULARY),
        )
      }
    })

    it('gives the same bits with and without bounds checks', async () => {
      using fast = await prepare(shaped(backend, tuning()), smallProgram(), smallLayout, smallCapacity)
      using checked = await prepare(shaped(safe, tuning()), smallProgram(), smallLayout, smallCapacity)
      for (const sizes of [[PROMPT_TOKENS], [97, 3]]) expect(await run(checked, sizes)).toEqual(await run(fast, sizes))
    })
  })

  it('gives the same bits however attention is spread over workgroups, for any tile width, and in any number of submits', async () => {
    const { attention, linear } = gpuShapes
    const variants: readonly Tuning[] = [
      { ...gpuShapes, attention: { ...attention, splitPairs: 0 } },
      { ...gpuShapes, attention: { ...attention, splitPairs: 1024 } },
      { ...gpuShapes, linear: { ...linear, columns: [1] } },
      // Every dispatch in a submit of its own.
      { ...gpuShapes, submitMs: 1e-6 },
    ]
    const results: Uint32Array[] = []
    for (const variant of variants) {
      using prepared = await prepare(shaped(backend, variant), smallProgram(), smallLayout, smallCapacity)
      results.push(await run(prepared, [96, 3, 1]))
    }
    for (const result of results) expect(result).toEqual(results[0])
  })
})
