/**
 * Linears on matrix units against the f64 reference. No software adapter has such units, so here the fragments are multiplied lane by lane and all that
 * surrounds them is what a GPU runs: halving, scaling, decoding into workgroup memory, tiles and their edges, the end of a product.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Capacity, Operation, Program, WeightFormat, WeightPart, WeightSpec } from '../../program.ts'
import { createReferenceBackend } from '../../reference/backend.ts'
import { decodeWeight } from '../../reference/decode-weight.ts'
import { testBackends } from '../../test/adapters.ts'
import { EMULATED_DIRECT, EMULATED_MATRIX_UNITS } from '../../test/emulated-matrix-units.ts'
import { denseWeight } from '../../test/memory-weights.ts'
import { NO_CACHE, normals, operationProgram, randomFrom, randomPart, sequenceStep, weightOf } from '../../test/numeric.ts'
import { WebGpuBackend } from '../backend.ts'
import type { MatrixMode } from '../matrix-units.ts'

/**
 * Of an error relative to √Σ(w·x)². Each factor is rounded to eleven bits, by 2⁻¹² at most, so a product is off by 2⁻¹¹·|w·x| at most and the errors
 * of a sum add like their squares: five times what they come to.
 */
const HALF_TOLERANCE = 5 * 2 ** -12

const dense = (dtype: 'f32' | 'f16' | 'bf16'): WeightFormat => ({ kind: 'dense', dtype })
const integers = (bits: 2 | 3 | 4 | 8, groupSize: number, hasZeroPoint = false): WeightFormat => {
  return { kind: 'packed-int', bits, groupSize, hasZeroPoint, scaleDtype: 'bf16' }
}
const floats = (element: 'e4m3' | 'e2m1', groupSize: number, scaleDtype: 'bf16' | 'e4m3' | 'e8m0'): WeightFormat => {
  return { kind: 'packed-float', element, groupSize, scaleDtype, hasGlobalScale: scaleDtype === 'e4m3' }
}

interface Case {
  readonly name: string
  readonly tokens: number
  readonly rows: number
  readonly cols: number
  readonly format: WeightFormat
  readonly tile: keyof typeof TILES
  readonly extras?: {
    readonly bias?: boolean
    readonly accumulate?: boolean
    readonly gated?: boolean
    readonly parts?: readonly number[]
    /** Factors of the inputs' rows, and of the weight. */
    readonly inputs?: readonly number[]
    readonly weights?: number
    readonly sparse?: boolean
  }
}

const TILES = { plain: EMULATED_MATRIX_UNITS, other: EMULATED_DIRECT }

/** Results are fifty wide everywhere, so that the kernels after them are compiled once. */
const CASES: readonly Case[] = [
  { name: 'bf16 with edges everywhere', tokens: 37, rows: 50, cols: 172, format: dense('bf16'), tile: 'plain', extras: { bias: true } },
  {
    name: 'bf16 from two parts, accumulated',
    tokens: 33,
    rows: 50,
    cols: 96,
    format: dense('bf16'),
    tile: 'other',
    extras: { accumulate: true, parts: [20, 30] },
  },
  { name: 'f16 as it is stored', tokens: 40, rows: 50, cols: 130, format: dense('f16'), tile: 'plain' },
  { name: 'int4 g32 asymmetric', tokens: 17, rows: 50, cols: 96, format: integers(4, 32, true), tile: 'plain' },
  { name: 'int4 g128, gate and up', tokens: 35, rows: 100, cols: 256, format: integers(4, 128), tile: 'plain', extras: { gated: true } },
  { name: 'int8 per channel', tokens: 64, rows: 50, cols: 112, format: integers(8, 112), tile: 'plain' },
  { name: 'int3 g64', tokens: 16, rows: 50, cols: 128, format: integers(3, 64), tile: 'plain' },
  { name: 'e4m3 blocks', tokens: 9, rows: 50, cols: 128, format: floats('e4m3', 64, 'bf16'), tile: 'plain' },
  { name: 'e2m1 g16', tokens: 33, rows: 50, cols: 96, format: floats('e2m1', 16, 'e4m3'), tile: 'plain' },
  {
    name: 'inputs beyond f16',
    tokens: 33,
    rows: 50,
    cols: 172,
    format: dense('bf16'),
    tile: 'plain',
    extras: { inputs: [1e6, 1, 3e-9, 1e30] },
  },
  { name: 'weights far below f16', tokens: 20, rows: 50, cols: 172, format: dense('bf16'), tile: 'plain', extras: { weights: 1e-9 } },
  { name: 'weights far above f16', tokens: 20, rows: 50, cols: 172, format: dense('bf16'), tile: 'plain', extras: { weights: 1e9 } },
]

const CAPACITY: Capacity = { tokens: 70, rows: 70, sequences: 1, blocksPerSequence: 3 }

function scaled(part: WeightPart, factor: number): WeightPart {
  if (factor === 1) return part
  const exponent = Math.round(Math.log2(factor)) << 7
  return {
    ...part,
    values: {
      byteLength: part.values.byteLength,
      async read(offset, length) {
        const bytes = await part.values.read(offset, length)
        const words = new Uint16Array(bytes.slice().buffer)
        return new Uint8Array(words.map((word) => ((word & 0x7fff) === 0 ? word : word + exponent)).buffer)
      },
    },
  }
}

function build(
  { tokens, rows, cols, format, extras = {} }: Case,
  seed: number,
): { program: Program; weight: WeightSpec; inputs: Float32Array } {
  const draw = randomFrom(seed)
  const { bias = false, accumulate = false, gated = false, parts = [rows], inputs: factors = [1], weights = 1 } = extras
  const inputs = normals(draw, tokens * cols).map((value, i) => value * (factors[Math.floor(i / cols) % factors.length] ?? 1))
  const weight = weightOf(
    1,
    parts.map((count, index) => scaled(randomPart(draw, `part ${index}`, count, cols, format), weights)),
  )
  const biasWeight = bias ? denseWeight(2, 1, rows, normals(draw, rows)) : null
  const start = denseWeight(3, tokens, rows, normals(draw, tokens * rows))
  const program = operationProgram(inputs, cols, (x) => {
    const out = { id: 2, name: 'out', extent: 'tokens', width: rows } as const
    const half = { id: 3, name: 'half', extent: 'tokens', width: rows / 2 } as const
    const operations: Operation[] = [
      ...(accumulate ? [{ op: 'embed', weight: start, scale: 0.5, out } as const] : []),
      { op: 'linear', x, weight, bias: biasWeight, accumulate, outOffset: 0, out },
      ...(gated ? [{ op: 'swiglu', gateUp: out, out: half } as const] : []),
    ]
    return {
      operations,
      result: gated ? half : out,
      weights: [weight, ...(accumulate ? [start] : []), ...(biasWeight === null ? [] : [biasWeight])],
    }
  })
  return { program, weight, inputs }
}

/** One adapter: between them they differ in nothing that the default kernels' suites do not show. */
/** LLVM takes two seconds for a kernel: every format with LATHE_THOROUGH=1, else those whose code differs most. */
const SAMPLE = ['bf16 with', 'int4 g128', 'e2m1', 'inputs', 'weights']
const RUN = process.env['LATHE_THOROUGH'] === '1' ? CASES : CASES.filter(({ name }) => SAMPLE.some((start) => name.startsWith(start)))

describe.each((await testBackends()).slice(0, 1))('$name', ({ open }) => {
  let backend: WebGpuBackend
  let backends: Record<keyof typeof TILES, WebGpuBackend>
  beforeAll(async () => {
    const opened = await open()
    if (!(opened instanceof WebGpuBackend)) throw new Error('not WebGPU')
    backend = opened
    // The default kernels run in no step here: one width of them is enough to compile.
    const tuning = { ...backend.tuning, linear: { ...backend.tuning.linear, rows: 2, columns: [1] } }
    const on = (mode: MatrixMode): WebGpuBackend => new WebGpuBackend(backend.gpu, tuning, null, mode)
    backends = { plain: on(TILES.plain), other: on(TILES.other) }
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  it.each(RUN.map((test, index) => ({ ...test, index })))('$name', async ({ index, ...test }) => {
    const { program, weight, inputs } = build(test, index + 1)
    const step = sequenceStep(test.tokens, NO_CACHE, CAPACITY)
    const on = backends[test.tile]
    const run = async (over: Pick<WebGpuBackend, 'createKvCache' | 'compile'>, matrixUnits: boolean): Promise<Float32Array> => {
      using kv = await over.createKvCache(NO_CACHE, 'test')
      using executable = await over.compile(program, { capacity: CAPACITY, kv, owner: 'test', matrixUnits })
      await executable.step(step)
      return await executable.read(program.logits)
    }
    await using reference = createReferenceBackend()
    const expected = await run(reference, false)
    const found = await run(on, true)
    const matrix = await decodeWeight(weight)
    const { cols, tokens, extras = {} } = test
    const addend = extras.bias === true || extras.accumulate === true ? 2 ** -10 : 0
    const gated = extras.gated === true
    const width = program.vocabulary
    /** √Σ(w·x)² of a row and a token. */
    const terms = (row: number, token: number): number => {
      let sum = 0
      for (let k = 0; k < cols; k++) sum += (matrix[row * cols + k]! * inputs[token * cols + k]!) ** 2
      return Math.sqrt(sum)
    }
    const sums = (row: number, token: number): number => {
      let sum = 0
      for (let k = 0; k < cols; k++) sum += matrix[row * cols + k]! * inputs[token * cols + k]!
      return sum
    }
    const worst = Array.from({ length: tokens * width }, (_, at) => {
      const [row, token] = [at % width, Math.floor(at / width)]
      const allowed = gated
        ? // silu grows by at most 1.1 times its argument's error, and both factors are off.
          1.1 * terms(row, token) * Math.abs(sums(row + width, token)) + (Math.abs(sums(row, token)) + 1) * terms(row + width, token)
        : terms(row, token)
      return Math.abs(found[at]! - expected[at]!) / (allowed + addend)
    }).reduce((a, b) => (b <= a ? a : Number.isNaN(b) ? Infinity : b), 0)
    expect(found).toHaveLength(expected.length)
    expect(worst).toBeLessThanOrEqual(HALF_TOLERANCE)
    // The mode rounds; had it not run, the deterministic kernel's error would be a thousandth of this.
    expect(worst).toBeGreaterThan(2 ** -20)
  })
})
