import { describe, expect, test } from 'vitest'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { Backend } from '../gpu/program.ts'
import { createReferenceBackend } from '../gpu/reference/backend.ts'
import { loadModel } from './load.ts'
import { activationBytes, kvBytes, kvBytesPerToken, kvLayout, programWeightBytes } from './memory.ts'
import { modelFolder } from './test/golden-data.ts'
import { memoryCheckpoint, TINY_CONFIG, tinyShapes } from './test/memory-checkpoint.ts'

const checkpoint = memoryCheckpoint(TINY_CONFIG, tinyShapes())
const options = { checkpoint, contextTokens: 40, kvDtype: 'f16', blockSize: 16, owner: 'tiny' } as const

function held(backend: Backend): readonly string[] {
  return Array.from(backend.usage().keys())
}

describe('loadModel', () => {
  test('sizes are exact', async () => {
    await using backend = createReferenceBackend()
    using model = await loadModel({ ...options, backend, capacity: { tokens: 5, rows: 3 } })
    const parameters = Object.values(tinyShapes()).reduce((sum, [, ...shape]) => sum + shape.reduce((a, b) => a * b, 1), 0)
    expect(model.weightBytes).toBe(2 * parameters)
    // 40 tokens take three blocks of 16, and block 0 is the null block: 4 · 16 slots of 2 layers · K and V · 4 values · 2 bytes.
    expect(model.kvBytes).toBe(4 * 16 * 2 * 2 * 4 * 2)
    // hidden 8, normed 8, qkv 16, q 8, context 8, gateUp 32, activated 16 for 5 tokens; 8, 8 and 10 logits for 3 rows.
    expect(model.activationBytes).toBe(4 * (5 * 96 + 3 * 26))
    expect(model.capacity).toEqual({ tokens: 5, rows: 3, sequences: 8, blocksPerSequence: 3 })
    expect(held(backend)).toEqual(['tiny'])
    model.dispose()
    expect(held(backend)).toEqual([])
  })

  test('the context never exceeds the checkpoint’s, the pool never less than one context', async () => {
    await using backend = createReferenceBackend()
    using model = await loadModel({ ...options, backend, contextTokens: 10_000, kvTokens: 20 })
    expect([model.contextTokens, model.kv.layout.blocks]).toEqual([64, 5])
  })

  test('the demo model: bytes as in its file', async () => {
    await using backend = createReferenceBackend()
    await using demo = await openCheckpoint(modelFolder('demo'))
    using model = await loadModel({ ...options, checkpoint: demo, backend })
    const stored = Array.from(demo.tensors.values()).reduce((sum, { byteLength }) => sum + byteLength, 0)
    expect([model.weightBytes, programWeightBytes(model.program)]).toEqual([stored, stored])
    expect(kvBytesPerToken(model.spec, 'f16')).toBe(6 * 2 * 2 * 64 * 2)
    expect(kvBytes(kvLayout(model.spec, { tokens: 100, dtype: 'f32', blockSize: 32 }))).toBe(
      5 * 32 * 2 * kvBytesPerToken(model.spec, 'f16'),
    )
    expect(activationBytes(model.spec, { tokens: 1, rows: 0 })).toBe(4 * (256 + 256 + 512 + 256 + 256 + 1280 + 640))
  })

  test('an abort while weights load releases everything', async () => {
    await using backend = createReferenceBackend()
    const controller = new AbortController()
    const load = loadModel({ ...options, backend, signal: controller.signal, onProgress: () => controller.abort() })
    await expect(load).rejects.toThrow('aborted')
    expect(held(backend)).toEqual([])
  })

  test('a load that was aborted before it began takes nothing', async () => {
    await using backend = createReferenceBackend()
    await expect(loadModel({ ...options, backend, signal: AbortSignal.abort() })).rejects.toThrow('aborted')
    expect(held(backend)).toEqual([])
  })

  test('a read that fails half way releases everything and passes the error on', async () => {
    await using backend = createReferenceBackend()
    const failing = {
      ...checkpoint,
      open: (name: string) =>
        name.includes('layers.1.mlp')
          ? { ...checkpoint.open(name), read: () => Promise.reject(new Error('the disk is gone')) }
          : checkpoint.open(name),
    }
    await expect(loadModel({ ...options, checkpoint: failing, backend })).rejects.toThrow('the disk is gone')
    expect(held(backend)).toEqual([])
  })

  test('a config that claims sizes the tensors do not have is refused before anything is sized by it', async () => {
    await using backend = createReferenceBackend()
    // Its rope table alone would be 40 positions × 2¹⁹ pairs × 16 bytes = 335 MB.
    const boastful = memoryCheckpoint({ ...TINY_CONFIG, head_dim: 2 ** 20 }, tinyShapes())
    const before = process.memoryUsage().arrayBuffers
    await expect(loadModel({ ...options, checkpoint: boastful, backend })).rejects.toMatchObject({ code: 'checkpoint.invalid-tensor' })
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })

  test('a missing tensor is found before any memory is taken', async () => {
    await using backend = createReferenceBackend()
    const { 'model.norm.weight': _, ...shapes } = tinyShapes()
    const incomplete = memoryCheckpoint(TINY_CONFIG, shapes)
    await expect(loadModel({ ...options, checkpoint: incomplete, backend })).rejects.toMatchObject({ code: 'checkpoint.missing-tensor' })
    expect(held(backend)).toEqual([])
  })
})
