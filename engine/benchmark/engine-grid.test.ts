import { describe, expect, test } from 'vitest'
import { createFakeRuntime } from '../runtime/test/fake-runtime.ts'
import { bandwidthShare, gridCells, measureGrid } from './engine-grid.ts'

const OPTIONS = { prefillTokens: [8, 32, 4096], batches: [1, 2, 16], contexts: [16, 4096], decodeTokens: 6, warmups: 1, repeats: 2 }

describe('the grid', () => {
  test('has the cells that fit, and leaves the others out', () => {
    expect(gridCells({ ...OPTIONS, batches: [1, 2, 3, 16] }, { contextLimit: 256, maxSequences: 4, kvBlocks: 2 })).toEqual([
      { kind: 'prefill', batch: 1, context: 8 },
      { kind: 'prefill', batch: 1, context: 32 },
      { kind: 'decode', batch: 1, context: 16 },
      { kind: 'decode', batch: 2, context: 16 },
    ])
  })

  test('is measured on all subjects in turn, warm-ups not counted', async () => {
    const subjects = ['a', 'b'].map((modelId) => ({ modelId, runtime: createFakeRuntime({ modelId }).runtime }))
    const progress: number[] = []
    const points = await measureGrid(subjects, { ...OPTIONS, onProgress: (done, total) => progress.push(done / total) })
    expect(points.map((own) => own.map(({ kind, batch, context, tokensPerSecond }) => [kind, batch, context, tokensPerSecond.n]))).toEqual(
      ['a', 'b'].map(() => [
        ['prefill', 1, 8, 2],
        ['prefill', 1, 32, 2],
        ['decode', 1, 16, 2],
        ['decode', 2, 16, 2],
      ]),
    )
    expect(points.flat().every(({ tokensPerSecond }) => tokensPerSecond.min > 0)).toBe(true)
    expect(progress).toHaveLength(2 * 4 * 3)
    expect(progress.at(-1)).toBe(1)
    for (const { runtime } of subjects) await runtime[Symbol.asyncDispose]()
  })
})

test('the share of the read speed: 50 MB a step, 100 steps a second, of 10 GB/s', () => {
  const kernel = { kernel: 'linear', share: 1, gigaflops: null, dispatches: 1 }
  const decode = [
    { ...kernel, milliseconds: 4, gigabytesPerSecond: 10 },
    { ...kernel, milliseconds: 2, gigabytesPerSecond: 5 },
  ]
  expect(bandwidthShare(decode, 100, 10)).toBeCloseTo(0.5, 12)
  expect(bandwidthShare([], 100, 10)).toBeNull()
})
