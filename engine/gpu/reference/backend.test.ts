import { describe, expect, test } from 'vitest'
import type { Program } from '../program.ts'
import { tinyCapacity, tinyLayout, tinyProgram, tinyStep } from '../test/tiny-program.ts'
import { createReferenceBackend } from './backend.ts'

async function compiled(program: Program = tinyProgram()) {
  const backend = createReferenceBackend()
  const kv = await backend.createKvCache(tinyLayout, 'kv')
  const executable = await backend.compile(program, { capacity: tinyCapacity, kv, owner: 'model' })
  return { backend, kv, executable }
}

describe('reference backend', () => {
  test('accounts by owner, and releases everything on dispose', async () => {
    const { backend, kv, executable } = await compiled()
    const floats = tinyProgram().weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
    // Value widths of the tiny program, four rows each.
    const activations = 4 * (3 + 3 + 8 + 4 + 4 + 4 + 2 + 3 + 8)
    expect(Object.fromEntries(backend.usage())).toEqual({
      kv: { bytes: 2 * 5 * 2 * 2 * 4, buffers: 1 },
      model: { bytes: 8 * (floats + activations), buffers: tinyProgram().weights.length + 9 },
    })
    executable[Symbol.dispose]()
    kv[Symbol.dispose]()
    expect(backend.usage().size).toBe(0)
    await expect(executable.step(tinyStep([1]))).rejects.toThrow('disposed')
  })

  test('disposing the backend releases what is left', async () => {
    const { backend } = await compiled()
    await backend[Symbol.asyncDispose]()
    expect(backend.usage().size).toBe(0)
  })

  test('an aborted compile holds nothing; progress ends at the stored bytes', async () => {
    const backend = createReferenceBackend()
    const program = tinyProgram()
    using kv = await backend.createKvCache(tinyLayout, 'kv')
    const controller = new AbortController()
    const progress: number[] = []
    const onProgress = (doneBytes: number): void => {
      progress.push(doneBytes)
      if (progress.length === 3) controller.abort()
    }
    const options = { capacity: tinyCapacity, kv, owner: 'model', signal: controller.signal, onProgress }
    await expect(backend.compile(program, options)).rejects.toThrow('aborted')
    expect(progress).toEqual([8 * 3 * 4, 9 * 3 * 4, 13 * 3 * 4])
    expect(Array.from(backend.usage().keys())).toEqual(['kv'])
  })

  test('a step in two chunks leaves the same logits as in one', async () => {
    const { executable } = await compiled()
    const whole = await executable.step(tinyStep([1, 2, 3], { topCount: 8 }))
    const logits = await executable.read(executable.program.logits)
    expect(whole.nonFinite).toBe(false)
    expect(new Set(logits).size).toBeGreaterThan(4)
    await executable.step(tinyStep([1, 2], { logitRows: new Uint32Array(), samplers: [], targets: new Uint32Array() }))
    const rest = { positions: Uint32Array.of(2), slots: Uint32Array.of(8), sequenceLength: Uint32Array.of(3), topCount: 8 }
    expect(await executable.step(tinyStep([3], rest))).toEqual(whole)
    expect(await executable.read(executable.program.logits)).toEqual(logits)
  })

  test('profile names every operation and its cost', async () => {
    const { executable } = await compiled()
    const timings = await executable.profile(tinyStep([1, 2]))
    expect(timings.map(({ kernel, dispatches }) => [kernel, dispatches])).toEqual([
      ['embed', 1],
      ['rmsNorm', 1],
      ['linear', 6],
      ['ropeAppend', 1],
      ['attention', 1],
      ['swiglu', 1],
      ['gatherRows', 1],
      ['reduce', 1],
    ])
    const linear = timings[2]!
    expect(linear.operations).toBe(2 * (2 * (4 * 3 + 4 * 3 + 3 * 4 + 4 * 3 + 3 * 2) + 8 * 3))
  })

  test('drift compares what two models left behind', async () => {
    const { backend, kv, executable } = await compiled()
    const other = await backend.compile(tinyProgram(), { capacity: tinyCapacity, kv, owner: 'other' })
    await executable.step(tinyStep([1, 2]))
    await other.step(tinyStep([1, 3]))
    const same = await backend.drift(executable, executable, 1, Uint32Array.of(4))
    const drift = await backend.drift(executable, other, 1, Uint32Array.of(4))
    expect(same.kld[0]).toBe(0)
    expect(drift.kld[0]).toBeGreaterThan(0)
    expect(() => backend.drift(executable, other, 2, Uint32Array.of(4, 4))).toThrow('2 rows')
  })

  test.each<[string, Parameters<typeof tinyStep>[1]]>([
    ['token id 9', { tokenIds: Uint32Array.of(9, 1) }],
    ['token 1 is at position 3', { positions: Uint32Array.of(0, 3) }],
    ['slot', { slots: Uint32Array.of(4, 6) }],
    ['block 7', { blockTable: Uint32Array.of(7, 4) }],
    ['block 0', { blockTable: Uint32Array.of(0, 4) }],
    ['blockTable has 3', { blockTable: Uint32Array.of(2, 4, 1) }],
    ['logit row 2', { logitRows: Uint32Array.of(2) }],
    ['target 8', { targets: Uint32Array.of(8) }],
    ['samplers', { samplers: [] }],
    ['topCount', { topCount: 9 }],
    ['needs 3 blocks', { sequenceLength: Uint32Array.of(5) }],
  ])('refuses a step with a bad %s', async (message, change) => {
    const { executable } = await compiled()
    await expect(executable.step(tinyStep([1, 2], change))).rejects.toThrow(message)
  })

  test('refuses malformed programs', async () => {
    const good = tinyProgram()
    const changed = (index: number, change: object): Program => ({
      ...good,
      operations: good.operations.map((operation, i) => (i === index ? ({ ...operation, ...change } as typeof operation) : operation)),
    })
    const bad: [string, Program][] = [
      ['does not list', { ...good, weights: good.weights.slice(1) }],
      ['nothing has written', { ...good, operations: good.operations.slice(1) }],
      ['columns 6…10', changed(3, { outOffset: 6 })],
      ['layer 1', changed(5, { layer: 1 })],
      ['heads differ', changed(4, { headDim: 4 })],
      ['are not [rows, 9]', { ...good, vocabulary: 9 }],
    ]
    for (const [message, program] of bad) await expect(compiled(program)).rejects.toThrow(message)
  })
})
