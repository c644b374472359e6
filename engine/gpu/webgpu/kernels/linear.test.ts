/** Linear and embedding kernels against the f64 reference: every stored format, ragged shapes, fused parts, shards. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend, Capacity, IntegerBits, Program, WeightFormat, WeightPart, WeightSpec } from '../../program.ts'
import { decodeWeight } from '../../reference/decode-weight.ts'
import { casesOf, testConfigurations } from '../../test/adapters.ts'
import { denseWeight } from '../../test/memory-weights.ts'
import {
  integer,
  logitsOf,
  NO_CACHE,
  normals,
  operationProgram,
  oracle,
  prepare,
  type Random,
  randomFrom,
  randomPart,
  sequenceStep,
  weightOf,
  worstError,
} from '../../test/numeric.ts'
import { WebGpuBackend } from '../backend.ts'

/**
 * Error of an f32 dot product relative to Σ|w·x|. Partial sums keep it near a few units of 2⁻²⁴; packed formats add a factor of about four,
 * since codes are taken as 1 + q/2^b before the centre is subtracted.
 */
const DOT_TOLERANCE = 2 ** -20
const CAPACITY: Capacity = { tokens: 24, rows: 24, sequences: 1, blocksPerSequence: 1 }

const dense = (dtype: 'f32' | 'f16' | 'bf16'): WeightFormat => ({ kind: 'dense', dtype })
function packed(bits: IntegerBits, groupSize: number, hasZeroPoint = false, scaleDtype: 'f32' | 'f16' | 'bf16' = 'bf16'): WeightFormat {
  return { kind: 'packed-int', bits, groupSize, hasZeroPoint, scaleDtype }
}

function floats(element: 'e4m3' | 'e2m1', groupSize: number, scaleDtype: 'f32' | 'f16' | 'bf16' | 'e4m3' | 'e8m0' = 'bf16'): WeightFormat {
  return { kind: 'packed-float', element, groupSize, scaleDtype, hasGlobalScale: scaleDtype === 'e4m3' }
}

interface Case {
  readonly rows: number
  readonly cols: number
  readonly tokens: number
  readonly format: WeightFormat
  readonly extras?: {
    readonly bias?: boolean
    readonly accumulate?: boolean
    readonly outOffset?: number
    readonly parts?: readonly number[]
  }
}

const CASES: readonly Case[] = [
  { rows: 48, cols: 64, tokens: 1, format: dense('f32') },
  { rows: 1, cols: 1, tokens: 1, format: dense('f32') },
  { rows: 33, cols: 43, tokens: 5, format: dense('bf16'), extras: { bias: true } },
  { rows: 64, cols: 172, tokens: 9, format: dense('f32'), extras: { accumulate: true } },
  { rows: 70, cols: 172, tokens: 2, format: dense('bf16'), extras: { bias: true, accumulate: true } },
  { rows: 17, cols: 1030, tokens: 3, format: dense('f16') },
  { rows: 96, cols: 64, tokens: 24, format: dense('bf16'), extras: { parts: [64, 16, 16], bias: true } },
  { rows: 40, cols: 172, tokens: 4, format: packed(8, 172) },
  { rows: 40, cols: 640, tokens: 1, format: packed(8, 640, false, 'f16') },
  { rows: 24, cols: 640, tokens: 11, format: packed(8, 128, true, 'f32'), extras: { bias: true, outOffset: 5 } },
  { rows: 64, cols: 256, tokens: 1, format: packed(4, 128) },
  { rows: 64, cols: 256, tokens: 8, format: packed(4, 32, true), extras: { parts: [32, 16, 16], accumulate: true } },
  { rows: 40, cols: 192, tokens: 3, format: packed(4, 64, false, 'f32') },
  { rows: 20, cols: 172, tokens: 2, format: packed(4, 172, true, 'f16') },
  // Groups that straddle the kernels' 32-element units: of 86 (per element), 4 and 43 (odd).
  { rows: 20, cols: 172, tokens: 5, format: packed(4, 86, true) },
  { rows: 20, cols: 172, tokens: 1, format: packed(4, 4) },
  { rows: 9, cols: 172, tokens: 3, format: packed(8, 43, true) },
  { rows: 12, cols: 100, tokens: 1, format: packed(4, 20, true, 'f32') },
  { rows: 5, cols: 2080, tokens: 4, format: packed(4, 32) },
  // Widths that 32 bits do not hold whole, rows that end inside a unit, zero points that straddle words.
  { rows: 40, cols: 192, tokens: 3, format: packed(3, 64), extras: { parts: [24, 16] } },
  { rows: 70, cols: 160, tokens: 5, format: packed(5, 32, true), extras: { bias: true } },
  { rows: 9, cols: 90, tokens: 2, format: packed(6, 45, true, 'f16') },
  // FP8, NVFP4, MXFP4; blocks and MXFP8 meet their kernels in rounded-inputs.test.ts.
  { rows: 40, cols: 172, tokens: 3, format: floats('e4m3', 172), extras: { bias: true, accumulate: true } },
  { rows: 48, cols: 160, tokens: 5, format: floats('e2m1', 16, 'e4m3'), extras: { parts: [32, 16] } },
  { rows: 20, cols: 96, tokens: 1, format: floats('e2m1', 32, 'e8m0') },
]

/** More shapes than a person would think of; the seed makes them the same on every machine. */
function randomCase(random: Random): Case {
  const bits = random() < 0.5 ? 4 : 8
  const groups = integer(random, 1, 6)
  const groupSize = random() < 0.5 ? 32 * integer(random, 1, 4) : integer(random, 1, 90)
  const isDense = random() < 0.4
  const dtypes = ['f32', 'f16', 'bf16'] as const
  const dtype = dtypes[integer(random, 0, 2)]!
  const cols = isDense ? integer(random, 1, 700) : groups * groupSize
  return {
    rows: integer(random, 1, 90),
    cols,
    tokens: integer(random, 1, 24),
    format: isDense ? dense(dtype) : packed(bits, groupSize, random() < 0.5, dtype),
    extras: { bias: random() < 0.3, accumulate: random() < 0.3, outOffset: random() < 0.3 ? integer(random, 1, 7) : 0 },
  }
}

const SEED = 20261123
const RANDOM_CASES = 8
const random = randomFrom(SEED)
const ALL_CASES = [...CASES, ...Array.from({ length: RANDOM_CASES }, () => randomCase(random))]

function title({ rows, cols, tokens, format, extras = {} }: Case): string {
  const stored =
    format.kind === 'dense'
      ? format.dtype
      : format.kind === 'packed-float'
        ? `${format.element} g${format.groupSize} ${format.scaleDtype}`
        : `int${format.bits} g${format.groupSize}${format.hasZeroPoint ? ' asym' : ''} ${format.scaleDtype}`
  const also = Object.entries(extras).flatMap(([name, value]) => (value ? [`${name} ${String(value)}`] : []))
  return [`${tokens} × [${rows}, ${cols}] ${stored}`, ...also].join(', ')
}

function build(test: Case, seed: number): { program: Program; weight: WeightSpec; inputs: Float32Array } {
  const draw = randomFrom(seed)
  const { rows, cols, tokens, format, extras = {} } = test
  const { bias = false, accumulate = false, outOffset = 0, parts = [rows] } = extras
  const inputs = normals(draw, tokens * cols)
  const stored: WeightPart[] = parts.map((count, index) => randomPart(draw, `part ${index}`, count, cols, format))
  const weight = weightOf(1, stored)
  const width = outOffset + rows + (outOffset > 0 ? 3 : 0)
  const biasWeight = bias ? denseWeight(2, 1, rows, normals(draw, rows)) : null
  const start = denseWeight(3, tokens, width, normals(draw, tokens * width))
  const program = operationProgram(inputs, cols, (x) => {
    const out = { id: 2, name: 'out', extent: 'tokens', width } as const
    return {
      operations: [
        // Columns that the linear leaves alone, and what it accumulates to, come from here.
        { op: 'embed', weight: start, scale: 0.5, out },
        { op: 'linear', x, weight, bias: biasWeight, accumulate, outOffset, out },
      ],
      result: out,
      weights: [weight, start, ...(biasWeight === null ? [] : [biasWeight])],
    }
  })
  return { program, weight, inputs }
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

  it.each(
    casesOf(
      configuration,
      ALL_CASES.map((test, index) => ({ name: title(test), test, index })),
    ),
  )('linear $name', async ({ test, index }) => {
    const { program, weight, inputs } = build(test, index + 1)
    const step = sequenceStep(test.tokens, NO_CACHE, CAPACITY)
    const expected = await oracle(program, NO_CACHE, CAPACITY, [step])
    using prepared = await prepare(backend, program, NO_CACHE, CAPACITY)
    const found = await logitsOf(prepared, step)
    const matrix = await decodeWeight(weight)
    const width = program.vocabulary
    const offset = test.extras?.outOffset ?? 0
    const scale = (at: number): number => {
      const row = (at % width) - offset
      if (row < 0 || row >= test.rows) return 1
      const token = Math.floor(at / width)
      let sum = 2 // bias and accumulated start
      for (let k = 0; k < test.cols; k++) sum += Math.abs(matrix[row * test.cols + k]! * inputs[token * test.cols + k]!)
      return sum
    }
    expect(worstError(found, expected.logits, scale)).toBeLessThanOrEqual(DOT_TOLERANCE)
  })

  it.each(
    casesOf(configuration, [
      packed(4, 32, true),
      packed(8, 43),
      packed(4, 86),
      dense('bf16'),
      dense('f16'),
      packed(3, 32),
      floats('e2m1', 16, 'e4m3'),
    ]),
  )('embeds $kind rows exactly', async (format) => {
    const cols = format.kind !== 'dense' && format.groupSize <= 32 ? 96 : 172
    const weight = weightOf(1, [randomPart(randomFrom(7), 'table', 50, cols, format)])
    const tokens = Uint32Array.of(49, 0, 17, 17)
    const program = operationProgram(new Float32Array(50 * cols), cols, (x) => {
      return { operations: [{ op: 'embed', weight, scale: 2, out: x }], result: x, weights: [weight] }
    })
    const step = { ...sequenceStep(4, NO_CACHE, CAPACITY), tokenIds: tokens }
    using prepared = await prepare(backend, program, NO_CACHE, CAPACITY)
    const matrix = await decodeWeight(weight)
    const expected = Float32Array.from({ length: 4 * cols }, (_, at) => 2 * matrix[tokens[Math.floor(at / cols)]! * cols + (at % cols)]!)
    // One rounding of scale · (q − z): exact for dense weights.
    expect(worstError(await logitsOf(prepared, step), expected, (at) => Math.abs(expected[at]!) + 1e-30)).toBeLessThanOrEqual(
      format.kind === 'dense' ? 0 : 2 ** -22,
    )
  })

  it('gives the stored weight back for a one-hot input', async () => {
    // What an independent decoder of the stored bytes says, element by element, is what the kernel multiplies by.
    const cols = 64
    const weight = weightOf(1, [randomPart(randomFrom(11), 'w', 24, cols, packed(4, 32, true, 'f32'))])
    const oneHot = Float32Array.from({ length: 8 * cols }, (_, at) => (at % cols === Math.floor(at / cols) * 9 ? 1 : 0))
    const program = operationProgram(oneHot, cols, (x) => {
      const out = { id: 2, name: 'out', extent: 'tokens', width: 24 } as const
      return { operations: [{ op: 'linear', x, weight, bias: null, accumulate: false, outOffset: 0, out }], result: out, weights: [weight] }
    })
    using prepared = await prepare(backend, program, NO_CACHE, CAPACITY)
    const found = await logitsOf(prepared, sequenceStep(8, NO_CACHE, CAPACITY))
    const matrix = await decodeWeight(weight)
    const expected = Float32Array.from({ length: 8 * 24 }, (_, at) => matrix[(at % 24) * cols + Math.floor(at / 24) * 9]!)
    expect(worstError(found, expected, (at) => Math.abs(expected[at]!) + 1e-30)).toBeLessThanOrEqual(2 ** -22)
  })

  it('cuts a weight into shards where a binding is too small', async () => {
    if (!(backend instanceof WebGpuBackend)) throw new Error('not WebGPU')
    // 96 rows of 160 bytes in shards of 3 KiB: 19 rows each, with the parts' boundary inside one.
    const small = new WebGpuBackend(backend.gpu, { ...backend.tuning, weightShardBytes: 3072 }, null)
    const parts = [40, 56].map((rows, index) => randomPart(randomFrom(index), `part ${index}`, rows, 320, packed(4, 320, true)))
    const weight = weightOf(1, parts)
    const program = operationProgram(new Float32Array(96), 1, (x) => {
      const hidden = { id: 2, name: 'hidden', extent: 'tokens', width: 320 } as const
      const out = { id: 3, name: 'out', extent: 'tokens', width: 96 } as const
      return {
        operations: [
          { op: 'embed', weight, scale: 1, out: hidden },
          { op: 'linear', x: hidden, weight, bias: null, accumulate: false, outOffset: 0, out },
          { op: 'swiglu', gateUp: out, out: { id: 4, name: 'unused', extent: x.extent, width: 48 } },
        ],
        result: out,
        weights: [weight],
      }
    })
    const step = { ...sequenceStep(3, NO_CACHE, CAPACITY), tokenIds: Uint32Array.of(95, 3, 40) }
    const expected = await oracle(program, NO_CACHE, CAPACITY, [step])
    using prepared = await prepare(small, program, NO_CACHE, CAPACITY)
    const buffers = small.usage().get('test')?.buffers ?? 0
    expect(buffers).toBeGreaterThan(16 + 5)
    expect(worstError(await logitsOf(prepared, step), expected.logits, () => 100)).toBeLessThanOrEqual(DOT_TOLERANCE)
  })
})
