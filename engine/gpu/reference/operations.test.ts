import { describe, expect, test } from 'vitest'
import type { Operation, StepInput } from '../program.ts'
import { denseWeight } from '../test/memory-weights.ts'
import { ReferenceKvCache } from './kv-cache.ts'
import { attention, linear, rmsNorm, ropeAppend, swiglu } from './operations.ts'

/** Two sequences: one with positions 0…2 in blocks 3, 1 (size 2), one with position 0 in block 2. Expected values worked by hand. */
const step: StepInput = {
  tokenIds: Uint32Array.of(0, 0, 0, 0),
  positions: Uint32Array.of(0, 1, 2, 0),
  slots: Uint32Array.of(6, 7, 2, 4),
  sequenceOfToken: Uint32Array.of(0, 0, 0, 1),
  queryStart: Uint32Array.of(0, 3, 4),
  sequenceLength: Uint32Array.of(3, 1),
  blockTable: Uint32Array.of(3, 1, 2, 0),
  logitRows: new Uint32Array(),
  samplers: [],
  targets: new Uint32Array(),
  topCount: 0,
}
const layout = { layers: 2, kvHeads: 1, headDim: 2, blockSize: 2, blocks: 4, dtype: 'f32' } as const
const unused = { id: 0, name: 'unused', extent: 'tokens', width: 0 } as const

function attentionOperation(change: { window?: number; scale?: number } = {}): Extract<Operation, { op: 'attention' }> {
  const { window = null, scale = 1 } = change
  return { op: 'attention', q: unused, heads: 2, kvHeads: 1, headDim: 2, scale, window, layer: 1, out: unused }
}

function runAttention(queries: readonly number[], change: { window?: number; scale?: number } = {}): number[] {
  const cache = new ReferenceKvCache(layout, () => {})
  const keys = [
    [0, 0],
    [1, 0],
    [0, 1],
    [5, 5],
  ]
  const values = [
    [1, 10],
    [2, 20],
    [3, 30],
    [4, 40],
  ]
  for (const [t, slot] of step.slots.entries()) {
    cache.write(1, 'k', slot, Float64Array.from(keys[t]!))
    cache.write(1, 'v', slot, Float64Array.from(values[t]!))
  }
  const out = new Float64Array(16)
  attention(attentionOperation(change), step, { q: Float64Array.from(queries), out, cache })
  return Array.from(out)
}

describe('attention', () => {
  test('a zero query averages the visible positions of its own sequence', () => {
    const averages = [1, 10, 1, 10, 1.5, 15, 1.5, 15, 2, 20, 2, 20, 4, 40, 4, 40]
    expect(runAttention(Array.from({ length: 16 }, () => 0))).toEqual(averages)
  })

  test('a window of two sees this position and the one before', () => {
    expect(
      runAttention(
        Array.from({ length: 16 }, () => 0),
        { window: 2 },
      ).slice(8, 12),
    ).toEqual([2.5, 25, 2.5, 25])
  })

  test('scores are scaled before softmax, heads are independent', () => {
    const queries = Array.from({ length: 16 }, () => 0)
    queries[8] = 2 * Math.log(3) // token 2, head 0: scores ½·2·ln 3·(0, 1, 0) weigh 1 : 3 : 1
    const out = runAttention(queries, { scale: 0.5 })
    expect(out[8]).toBeCloseTo((1 + 3 * 2 + 3) / 5, 14)
    expect(out.slice(10, 12)).toEqual([2, 20])
  })
})

describe('ropeAppend', () => {
  const rope = { id: 0, positions: 3, rotaryDim: 2, cos: Float64Array.of(1, 0, -1), sin: Float64Array.of(0, 1, 0) }
  const base = { op: 'ropeAppend', qkv: unused, heads: 1, kvHeads: 1, headDim: 2, normEpsilon: 0, rope, layer: 0, q: unused } as const

  test('turns q and k by 0, 90 and 180 degrees, leaves v, writes to the slots', async () => {
    const cache = new ReferenceKvCache(layout, () => {})
    const qkv = Float64Array.from(Array.from({ length: 4 }, () => [1, 2, 3, 4, 5, 6]).flat())
    const q = new Float64Array(8)
    ropeAppend({ ...base, qNorm: null, kNorm: null }, step, { q: null, k: null }, { qkv, q, cache })
    expect(Array.from(q)).toEqual([1, 2, -2, 1, -1, -2, 1, 2])
    expect(Array.from(await cache.read(0, 'k', step.slots))).toEqual([3, 4, -4, 3, -3, -4, 3, 4])
    expect(Array.from(await cache.read(0, 'v', step.slots))).toEqual([5, 6, 5, 6, 5, 6, 5, 6])
  })

  test('dimensions beyond rotaryDim stay; q and k are normalised first', async () => {
    const wide = { ...layout, headDim: 4 }
    const cache = new ReferenceKvCache(wide, () => {})
    const qkv = new Float64Array(4 * 12)
    qkv.set([2, 2, -2, 2, 4, 4, 4, 4, 9, 9, 9, 9], 12)
    const q = new Float64Array(16)
    const norm = denseWeight(0, 1, 4, [1, 1, 1, 1])
    const operation = { ...base, headDim: 4, qNorm: norm, kNorm: norm, normEpsilon: 1e-30 }
    ropeAppend(operation, step, { q: Float64Array.of(1, 1, 2, 1), k: Float64Array.of(1, 1, 1, 1) }, { qkv, q, cache })
    expect(Array.from(q.subarray(4, 8))).toEqual([-1, 1, -2, 1])
    expect(Array.from(await cache.read(0, 'k', Uint32Array.of(7)))).toEqual([-1, 1, 1, 1])
  })

  test('an f16 cache holds f16 values', async () => {
    const cache = new ReferenceKvCache({ ...layout, dtype: 'f16' }, () => {})
    cache.write(0, 'k', 7, Float64Array.of(0.1, 1e6))
    expect(Array.from(await cache.read(0, 'k', Uint32Array.of(7)))).toEqual([0.0999755859375, 65504])
    expect(cache.bytes).toBe(2 * 2 * 4 * 2 * 2 * 2)
  })
})

test('rmsNorm divides by the root mean square', () => {
  const out = new Float64Array(4)
  rmsNorm(Float64Array.of(3, 4, 0, 0), Float64Array.of(1, 2), 0, out)
  const root = Math.sqrt(12.5)
  expect(Array.from(out.subarray(0, 2), (value) => value * root)).toEqual([3, 8])
  rmsNorm(Float64Array.of(0, 0, 0, 0), Float64Array.of(1, 2), 1e-6, out)
  expect(Array.from(out)).toEqual([0, 0, 0, 0])
})

test('swiglu applies silu to the gate, the first half of each row', () => {
  const out = new Float64Array(4)
  swiglu(Float64Array.of(0, Math.log(3), 5, 8, 40, -800, 2, 1), out, 2)
  expect(Array.from(out)).toEqual([0, expect.closeTo(6 * Math.log(3), 13), 80, -0])
})

test('linear adds bias, accumulates, and leaves other columns alone', () => {
  const out = Float64Array.of(7, 7, 7, 7, 7, 7, 7, 7)
  const x = Float64Array.of(1, 2, 3, 4)
  const weight = Float64Array.of(1, 0, 0, 1)
  linear(x, weight, Float64Array.of(10, 20), out, { rows: 2, cols: 2, outOffset: 1, outWidth: 4, accumulate: false })
  expect(Array.from(out)).toEqual([7, 11, 22, 7, 7, 13, 24, 7])
  linear(x, weight, null, out, { rows: 2, cols: 2, outOffset: 1, outWidth: 4, accumulate: true })
  expect(Array.from(out)).toEqual([7, 12, 24, 7, 7, 16, 28, 7])
})
