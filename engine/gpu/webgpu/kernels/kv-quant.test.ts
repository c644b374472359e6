/** Quantized caches on the device: what is stored, against the f64 reference's own rounding; attention over it; and NaN that must not vanish. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kvRowBytes, valueDtypeOf } from '../../kv-format.ts'
import type { Backend, Capacity, KvDtype, KvLayout, Operation, Program, RopeTable } from '../../program.ts'
import { testBackends } from '../../test/adapters.ts'
import { gpuTuning } from '../tuning.ts'
import { normals, operationProgram, oracle, prepare, randomFrom, sequenceStep, worstError } from '../../test/numeric.ts'

interface Case {
  readonly key: KvDtype
  readonly value: KvDtype
  readonly headDim: number
  readonly heads?: number
  readonly window?: number
}

const CASES: readonly Case[] = [
  { key: 'int8', value: 'int4', headDim: 16 },
  { key: 'int8', value: 'int8', headDim: 64 },
  { key: 'int4', value: 'int4', headDim: 16, heads: 3 },
  { key: 'fp8', value: 'fp8', headDim: 10 },
  { key: 'fp8', value: 'int4', headDim: 32, window: 20 },
  { key: 'f16', value: 'int4', headDim: 20 },
  { key: 'int8', value: 'f32', headDim: 128 },
]
const TOKENS = 45
const KV_HEADS = 2
/** Of 45 · 2 · headDim codes, those within an f32 rounding of a tie may differ by one step from the f64 reference's. */
const TIES = 0.01

const ropeTable = (rotaryDim: number): RopeTable => {
  const pairs = rotaryDim / 2
  const angle = (i: number): number => Math.floor(i / pairs) / 10000 ** ((i % pairs) / pairs)
  const make = (of: (x: number) => number): Float64Array => Float64Array.from({ length: 64 * pairs }, (_, i) => of(angle(i)))
  return { id: 0, positions: 64, rotaryDim, cos: make(Math.cos), sin: make(Math.sin) }
}

function build({ key, value, headDim, heads = 4, window }: Case, rows: Float32Array | null) {
  const headCount = heads % KV_HEADS === 0 ? heads : heads * KV_HEADS
  const layout: KvLayout = { layers: 1, kvHeads: KV_HEADS, headDim, blockSize: 8, blocks: 9, dtype: key, valueDtype: value }
  const width = (headCount + 2 * KV_HEADS) * headDim
  const rope = ropeTable(headDim)
  const at = { heads: headCount, kvHeads: KV_HEADS, headDim, layer: 0 }
  const values = rows ?? normals(randomFrom(headDim), TOKENS * width)
  const program: Program = operationProgram(values, width, (qkv) => {
    const q = { id: 2, name: 'q', extent: 'tokens', width: headCount * headDim } as const
    const out = { id: 3, name: 'out', extent: 'tokens', width: headCount * headDim } as const
    const operations: readonly Operation[] = [
      { op: 'ropeAppend', qkv, ...at, qNorm: null, kNorm: null, normEpsilon: 1e-6, rope, q },
      { op: 'attention', q, ...at, scale: 1 / Math.sqrt(headDim), window: window ?? null, out },
    ]
    return { operations, result: out, weights: [], ropes: [rope] }
  })
  const capacity: Capacity = { tokens: TOKENS, rows: TOKENS, sequences: 1, blocksPerSequence: 8 }
  return { layout, program, capacity, width }
}

const slots = Uint32Array.from({ length: TOKENS }, (_, i) => 8 + i)

// LLVM takes seconds for each of these kernels, so llvmpipe compiles one pair in its own shapes; SwiftShader runs them all in the GPU's.
describe.each(await testBackends())('$name', ({ adapter, open }) => {
  const swiftshader = adapter === 'swiftshader'
  let backend: Backend
  beforeAll(async () => {
    backend = await open(swiftshader ? { tuning: gpuTuning() } : {})
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  it.each(swiftshader ? CASES : CASES.slice(0, 1))('$key keys and $value values of $headDim', async (shape) => {
    const { layout, program, capacity } = build(shape, null)
    const input = sequenceStep(TOKENS, layout, capacity)
    const { createReferenceBackend } = await import('../../reference/backend.ts')
    await using reference = createReferenceBackend()
    using exact = await prepare(reference, program, layout, capacity)
    using found = await prepare(backend, program, layout, capacity)
    expect(found.kv.bytes).toBe(72 * KV_HEADS * [shape.key, shape.value].reduce((sum, dtype) => sum + kvRowBytes(dtype, padded(layout)), 0))
    await exact.executable.step(input)
    await found.executable.step(input)
    for (const which of ['k', 'v'] as const) {
      const [stored, expected] = [await found.kv.read(0, which, slots), await exact.kv.read(0, which, slots)]
      const dtype = which === 'k' ? layout.dtype : valueDtypeOf(layout)
      // A step of the coarsest code, of rows whose greatest element is below 5.
      const step = { f32: 1e-5, f16: 4e-3, fp8: 0.4, int8: 0.05, int4: 0.75 }[dtype]
      expect(worstError(stored, expected, () => 1)).toBeLessThanOrEqual(step)
      const different = stored.filter((value, i) => Math.abs(value - expected[i]!) > 1e-4 * Math.max(1, Math.abs(value))).length
      expect(different).toBeLessThanOrEqual(TIES * stored.length)
    }
    // The attention is that of what the device itself stored; against the reference only ties differ.
    const { logits } = await oracle(program, layout, capacity, [input])
    const attended = await found.executable.read(program.logits)
    expect(worstError(attended, logits, () => 1)).toBeLessThanOrEqual(shape.key === 'int4' || shape.value === 'int4' ? 0.2 : 0.05)
    // The same bits in any pieces.
    const whole = new Uint32Array(attended.slice(-7 * program.logits.width).buffer)
    await found.executable.step(sequenceStep(TOKENS - 7, layout, capacity))
    await found.executable.step(sequenceStep(7, layout, capacity, { past: TOKENS - 7, first: TOKENS - 7 }))
    expect(new Uint32Array((await found.executable.read(program.logits)).buffer)).toEqual(whole)
  })

  it('lets a value that is not finite be seen, and stores rows of zeros', async () => {
    const shape: Case = { key: 'int8', value: 'int4', headDim: 16 }
    const { width } = build(shape, null)
    const rows = new Float32Array(TOKENS * width)
    const { layout, program, capacity } = build(shape, rows)
    using zeros = await prepare(backend, program, layout, capacity)
    await zeros.executable.step(sequenceStep(TOKENS, layout, capacity))
    expect(await zeros.executable.read(program.logits)).toEqual(new Float32Array(TOKENS * program.logits.width))
    // A value of the last token.
    rows[rows.length - 1] = Number.NaN
    const broken = build(shape, rows)
    using run = await prepare(backend, broken.program, layout, capacity)
    expect((await run.executable.step(sequenceStep(TOKENS, layout, capacity))).nonFinite).toBe(true)
  })
})

function padded({ headDim }: KvLayout): number {
  return Math.ceil(headDim / 8) * 8
}
