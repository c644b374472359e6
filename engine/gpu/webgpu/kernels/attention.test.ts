/** Rotation, cache and attention against the f64 reference: head shapes, grouping, windows, block orders, both cache types, long contexts. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend, Capacity, KvLayout, Operation, Program, RopeTable, WeightSpec } from '../../program.ts'
import { casesOf, testConfigurations } from '../../test/adapters.ts'
import { denseWeight } from '../../test/memory-weights.ts'
import {
  batchStep,
  logitsOf,
  normals,
  operationProgram,
  oracle,
  prepare,
  randomFrom,
  sequenceStep,
  worstError,
} from '../../test/numeric.ts'

/** Softmax weights are good to about 2⁻²⁰; values are averages of the cache's. f16 caches round the same in both. */
const ATTENTION_TOLERANCE = 2 ** -18
/** A value that lies within an f32 rounding of a tie between two f16 values may go either way: one unit of f16 in one key's value. */
const F16_TIE_TOLERANCE = 2 ** -11

interface Shape {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly rotaryDim?: number
  readonly window?: number
  readonly norms?: boolean
  readonly dtype?: 'f32' | 'f16'
  readonly blockSize?: number
  readonly tokens?: number
}

const SHAPES: readonly Shape[] = [
  { heads: 4, kvHeads: 2, headDim: 64, tokens: 70 },
  { heads: 4, kvHeads: 2, headDim: 64, dtype: 'f16', tokens: 70 },
  { heads: 8, kvHeads: 1, headDim: 16, norms: true, tokens: 20 },
  { heads: 3, kvHeads: 3, headDim: 10, dtype: 'f16', blockSize: 4, tokens: 13 },
  { heads: 6, kvHeads: 2, headDim: 80, rotaryDim: 32, window: 9, blockSize: 8, tokens: 40 },
  { heads: 2, kvHeads: 1, headDim: 256, dtype: 'f16', tokens: 5 },
  { heads: 2, kvHeads: 1, headDim: 128, norms: true, window: 70, dtype: 'f16', tokens: 150 },
  { heads: 1, kvHeads: 1, headDim: 2, blockSize: 1, tokens: 3 },
]

function ropeTable(positions: number, rotaryDim: number): RopeTable {
  const pairs = rotaryDim / 2
  const angle = (i: number): number => Math.floor(i / pairs) / 10000 ** ((i % pairs) / pairs)
  const length = positions * pairs
  return {
    id: 0,
    positions,
    rotaryDim,
    cos: Float64Array.from({ length }, (_, i) => Math.cos(angle(i))),
    sin: Float64Array.from({ length }, (_, i) => Math.sin(angle(i))),
  }
}

function build(shape: Shape, rows: number, deviation = 1): { program: Program; layout: KvLayout; capacity: Capacity } {
  const { heads, kvHeads, headDim, rotaryDim = headDim, window = null, norms = false, dtype = 'f32', blockSize = 32 } = shape
  const blocksPerSequence = Math.ceil(256 / blockSize)
  const layout: KvLayout = { layers: 2, kvHeads, headDim, blockSize, blocks: 2 * blocksPerSequence + 1, dtype }
  const random = randomFrom(heads * 1000 + headDim)
  const width = (heads + 2 * kvHeads) * headDim
  const rope = ropeTable(256, rotaryDim)
  const norm = (id: number): WeightSpec => denseWeight(id, 1, headDim, normals(random, headDim))
  const [qNorm, kNorm] = norms ? [norm(1), norm(2)] : [null, null]
  const at = { heads, kvHeads, headDim, layer: 1 }
  const program = operationProgram(normals(random, rows * width, deviation), width, (qkv) => {
    const q = { id: 2, name: 'q', extent: 'tokens', width: heads * headDim } as const
    const out = { id: 3, name: 'out', extent: 'tokens', width: heads * headDim } as const
    const operations: readonly Operation[] = [
      { op: 'ropeAppend', qkv, ...at, qNorm, kNorm, normEpsilon: 1e-6, rope, q },
      { op: 'attention', q, ...at, scale: 1 / Math.sqrt(headDim), window, out },
    ]
    return { operations, result: out, weights: [qNorm, kNorm].filter((weight) => weight !== null), ropes: [rope] }
  })
  return { program, layout, capacity: { tokens: rows, rows, sequences: 2, blocksPerSequence } }
}

describe.each(await testConfigurations())('$name', (configuration) => {
  const { open } = configuration
  let backend: Backend
  beforeAll(async () => {
    backend = await open()
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  it.each(casesOf(configuration, SHAPES).map((shape) => ({ name: JSON.stringify(shape), shape })))('$name', async ({ shape }) => {
    const tokens = shape.tokens ?? 20
    const { program, layout, capacity } = build(shape, tokens)
    const tolerance = layout.dtype === 'f16' ? F16_TIE_TOLERANCE : ATTENTION_TOLERANCE
    const blocks = Array.from({ length: capacity.blocksPerSequence }, (_, i) => layout.blocks - 1 - 2 * i).filter((block) => block > 0)
    blocks.push(...Array.from({ length: capacity.blocksPerSequence }, (_, i) => 2 * i + 1).filter((block) => !blocks.includes(block)))
    // Most of the sequence at once, then its last token alone: prefill and decode, over blocks in falling order.
    const steps = [
      sequenceStep(tokens - 1, layout, capacity, { blocks }),
      sequenceStep(1, layout, capacity, { past: tokens - 1, first: tokens - 1, blocks }),
    ]
    using prepared = await prepare(backend, program, layout, capacity)
    for (let count = 1; count <= steps.length; count++) {
      const { logits } = await oracle(program, layout, capacity, steps.slice(0, count))
      expect(worstError(await logitsOf(prepared, steps[count - 1]!), logits, () => 1)).toBeLessThanOrEqual(tolerance)
    }
    // The cache holds what the reference's holds, to the rounding of its type.
    const slots = Uint32Array.from(steps.flatMap((step) => [...step.slots]))
    const keys = await prepared.kv.read(1, 'k', slots)
    expect(keys.length).toBe(tokens * layout.kvHeads * layout.headDim)
    expect(keys.some((value) => value !== 0)).toBe(true)
  })

  it('keeps two sequences of one batch apart, each in its own blocks', async () => {
    const { program, layout, capacity } = build({ heads: 4, kvHeads: 2, headDim: 32, blockSize: 4 }, 21)
    const step = batchStep(
      [
        { count: 12, first: 0, blocks: [7, 3, 9] },
        { count: 9, first: 12, blocks: [2, 8, 1] },
      ],
      layout,
      capacity,
    )
    const { logits } = await oracle(program, layout, capacity, [step])
    using prepared = await prepare(backend, program, layout, capacity)
    expect(worstError(await logitsOf(prepared, step), logits, () => 1)).toBeLessThanOrEqual(ATTENTION_TOLERANCE)
  })

  it('survives scores that span hundreds of nats', async () => {
    const { program, layout, capacity } = build({ heads: 2, kvHeads: 1, headDim: 32 }, 80, 30)
    const step = sequenceStep(80, layout, capacity)
    const { logits } = await oracle(program, layout, capacity, [step])
    using prepared = await prepare(backend, program, layout, capacity)
    // Scores reach thousands, where f32 resolves 1e-4: weights, and so outputs of size 30, are good to about that.
    expect(worstError(await logitsOf(prepared, step), logits, () => 60)).toBeLessThanOrEqual(1e-3)
  })

  it('clamps what f16 cannot hold, and says so when scores overflow', async () => {
    const shape: Shape = { heads: 1, kvHeads: 1, headDim: 4, dtype: 'f16' }
    const { program, layout, capacity } = build(shape, 2, 1)
    const rows = Float32Array.from([0, 0, 0, 0, 1e6, 0, 0, 0, 1e5, -1e5, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
    const { operations, ropes } = program
    const [embedding, ...rest] = operations
    if (embedding?.op !== 'embed') throw new Error('no embedding')
    const input = denseWeight(0, 2, 12, rows)
    const changed: Program = { ...program, weights: [input], ropes, operations: [{ ...embedding, weight: input }, ...rest] }
    using prepared = await prepare(backend, changed, layout, capacity)
    const output = await prepared.executable.step(sequenceStep(2, layout, capacity))
    expect(output.nonFinite).toBe(false)
    expect([...(await prepared.kv.read(1, 'k', Uint32Array.of(32)))]).toEqual([65504, 0, 0, 0])
    expect([...(await prepared.kv.read(1, 'v', Uint32Array.of(32)))]).toEqual([65504, -65504, 7, 0])

    const huge = denseWeight(
      0,
      2,
      12,
      Float32Array.from({ length: 24 }, () => 3e30),
    )
    const overflowing: Program = { ...changed, weights: [huge], operations: [{ ...embedding, weight: huge }, ...rest] }
    using second = await prepare(backend, overflowing, { ...layout, dtype: 'f32' }, capacity)
    expect((await second.executable.step(sequenceStep(2, layout, capacity))).nonFinite).toBe(true)
  })
})
