/**
 * Rotated models compute what they computed before: log-probabilities of a prompt on the f64 backend, rotated against not, for the models
 * whose weights differ in what rotation has to handle (shared heads, biases, fused projections, tied heads, norms of q and k, sizes that are
 * no powers of two).
 */
import { afterAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../checkpoint/open.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { createReferenceBackend } from '../../gpu/reference/backend.ts'
import { loadModel } from '../../model/load.ts'
import { hasSharedData, MISSING_DATA, modelFolder } from '../../model/test/golden-data.ts'
import { memoryCheckpoint, TINY_CONFIG, tinyShapes } from '../../model/test/memory-checkpoint.ts'
import { scorePrompt } from '../../model/test/steps.ts'
import type { RotationStep } from '../recipe.ts'
import { rotateCheckpoint } from './rotated-checkpoint.ts'

const PROMPT = [1, 17, 42, 5, 99, 3, 250, 7, 8, 201, 64, 33]
const BOTH: RotationStep = { kind: 'rotation', transform: 'random-hadamard', r1: true, r2: true }

const backend = createReferenceBackend()
afterAll(() => backend[Symbol.asyncDispose]())

async function logprobs(checkpoint: Checkpoint): Promise<readonly number[]> {
  using model = await loadModel({ checkpoint, backend, contextTokens: 32, kvDtype: 'f32', owner: 'rotation test' })
  const scored = await scorePrompt(model, PROMPT)
  return [...scored.logprobs, ...scored.lastLogits]
}

function worst(a: readonly number[], b: readonly number[]): number {
  expect(a.length).toBe(b.length)
  return a.reduce((max, value, i) => Math.max(max, Math.abs(value - b[i]!)), 0)
}

if (!hasSharedData) process.stderr.write(`rotated-checkpoint.test.ts ${MISSING_DATA}\n`)
const MODELS = [
  'demo',
  ...(hasSharedData ? ['stories260k', 'tinystories-656k', 'random-qwen2', 'random-qwen3', 'random-phi3', 'random-llama3'] : []),
]

describe('rotated checkpoints', () => {
  it.each(MODELS)('compute the same: %s', async (name) => {
    await using source = await openCheckpoint(modelFolder(name))
    const plain = await logprobs(source)
    const rotated = rotateCheckpoint(source, BOTH, { seed: 5, dtype: 'F32' })
    expect(worst(plain, await logprobs(rotated.checkpoint))).toBeLessThan(2e-4)
  })

  it('differ only by the rounding of their dtype where stored as the source is', async () => {
    await using source = await openCheckpoint(modelFolder('demo'))
    const plain = await logprobs(source)
    for (const step of [BOTH, { ...BOTH, r1: false }, { ...BOTH, r2: false, transform: 'hadamard' as const }]) {
      const { checkpoint } = rotateCheckpoint(source, step, { seed: 5 })
      const difference = worst(plain, await logprobs(checkpoint))
      expect(difference).toBeLessThan(0.3)
      expect(difference).toBeGreaterThan(0)
    }
  })

  it('give a tied head its own tensor, say so, and make the same bytes from the same seed', async () => {
    await using source = await openCheckpoint(modelFolder('demo'))
    const { checkpoint, configChanges, notes } = rotateCheckpoint(source, BOTH, { seed: 5 })
    expect(source.config['tie_word_embeddings']).toBe(true)
    expect(configChanges).toEqual({ tie_word_embeddings: false })
    expect(checkpoint.tensors.size).toBe(source.tensors.size + 1)
    expect(checkpoint.tensors.get('lm_head.weight')?.shape).toEqual(source.tensors.get('model.embed_tokens.weight')?.shape)
    expect(notes.join(' ')).toMatch(/output head was tied .* MB more/)
    const again = rotateCheckpoint(source, BOTH, { seed: 5 }).checkpoint
    const other = rotateCheckpoint(source, BOTH, { seed: 6 }).checkpoint
    const name = 'model.layers.0.self_attn.o_proj.weight'
    const bytes = async (from: Checkpoint): Promise<Uint8Array> => from.open(name).read(0, from.tensors.get(name)!.byteLength)
    expect(await bytes(again)).toEqual(await bytes(checkpoint))
    expect(await bytes(other)).not.toEqual(await bytes(checkpoint))
  })

  it('read in any ranges as in one', async () => {
    await using source = await openCheckpoint(modelFolder('demo'))
    const { checkpoint } = rotateCheckpoint(source, BOTH, { seed: 5 })
    for (const name of ['model.layers.1.mlp.up_proj.weight', 'model.layers.1.mlp.down_proj.weight', 'model.norm.weight']) {
      const { byteLength } = checkpoint.tensors.get(name)!
      const whole = await checkpoint.open(name).read(0, byteLength)
      const pieces = checkpoint.open(name)
      for (const [offset, length] of [
        [0, 1],
        [byteLength - 3, 3],
        [101, Math.min(byteLength - 101, 1501)],
      ] as const) {
        expect(await pieces.read(offset, length)).toEqual(whole.slice(offset, offset + length))
      }
      await expect(pieces.read(byteLength - 1, 2)).rejects.toThrow(RangeError)
    }
  })

  it('are refused with a reason where the architecture is not known', () => {
    const gemma = memoryCheckpoint({ ...TINY_CONFIG, model_type: 'gemma2', architectures: ['Gemma2ForCausalLM'] }, tinyShapes())
    expect(() => rotateCheckpoint(gemma, BOTH, { seed: 0 })).toThrow(/cannot be rotated: GeGLU activation; norm weights offset by one/)
  })
})
