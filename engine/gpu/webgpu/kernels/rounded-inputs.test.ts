/** Linears whose inputs are rounded first, or gathered in the order of a weight's groups, against the f64 reference. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend, Capacity, InputQuantization, Program, WeightFormat, WeightPart } from '../../program.ts'
import { decodeWeight } from '../../reference/decode-weight.ts'
import { testConfigurations } from '../../test/adapters.ts'
import { bytesOf } from '../../test/memory-weights.ts'
import {
  logitsOf,
  NO_CACHE,
  normals,
  operationProgram,
  oracle,
  prepare,
  randomFrom,
  randomPart,
  sequenceStep,
  weightOf,
  worstError,
} from '../../test/numeric.ts'
import { WebGpuBackend } from '../backend.ts'

/** As for linears without rounding: the codes are the very same ones, and what remains is the order of additions. */
const DOT_TOLERANCE = 2 ** -19
const CAPACITY: Capacity = { tokens: 8, rows: 8, sequences: 1, blocksPerSequence: 1 }

const f32 = (value: number) => bytesOf(Float32Array.of(value))
const DYNAMIC = { scale: 'token', groupSize: null, scaleDtype: 'f32', staticScale: null, staticDtype: 'f32' } as const
const int8 = (groupSize: number): WeightFormat => ({ kind: 'packed-int', bits: 8, groupSize, hasZeroPoint: false, scaleDtype: 'bf16' })
const fp8 = (groupSize: number): WeightFormat => {
  return { kind: 'packed-float', element: 'e4m3', groupSize, scaleDtype: 'bf16', hasGlobalScale: false }
}

interface Case {
  readonly name: string
  readonly cols: number
  readonly tokens: number
  readonly format: WeightFormat
  readonly quantization: InputQuantization
}

const CASES: readonly Case[] = [
  { name: 'W8A8', cols: 256, tokens: 5, format: int8(256), quantization: { ...DYNAMIC, element: 'int8' } },
  { name: 'W8A8, ragged', cols: 43, tokens: 1, format: int8(43), quantization: { ...DYNAMIC, element: 'int8' } },
  {
    name: 'W8A8 static',
    cols: 172,
    tokens: 3,
    format: int8(172),
    quantization: { ...DYNAMIC, element: 'int8', scale: 'tensor', staticScale: f32(0.02) },
  },
  { name: 'int8 inputs with groups of weights', cols: 128, tokens: 2, format: int8(32), quantization: { ...DYNAMIC, element: 'int8' } },
  { name: 'FP8_DYNAMIC', cols: 172, tokens: 4, format: fp8(172), quantization: { ...DYNAMIC, element: 'e4m3' } },
  {
    name: 'FP8 static',
    cols: 96,
    tokens: 1,
    format: fp8(96),
    quantization: { ...DYNAMIC, element: 'e4m3', scale: 'tensor', staticScale: f32(0.004) },
  },
  {
    name: 'FP8_BLOCK',
    cols: 200,
    tokens: 2,
    format: fp8(128),
    quantization: { ...DYNAMIC, element: 'e4m3', scale: 'group', groupSize: 128 },
  },
  {
    name: 'NVFP4',
    cols: 96,
    tokens: 3,
    format: { kind: 'packed-float', element: 'e2m1', groupSize: 16, scaleDtype: 'e4m3', hasGlobalScale: true },
    quantization: { ...DYNAMIC, element: 'e2m1', scale: 'group', groupSize: 16, scaleDtype: 'e4m3', staticScale: f32(600) },
  },
  {
    name: 'MXFP4',
    cols: 96,
    tokens: 2,
    format: { kind: 'packed-float', element: 'e2m1', groupSize: 32, scaleDtype: 'e8m0', hasGlobalScale: false },
    quantization: { ...DYNAMIC, element: 'e2m1', scale: 'group', groupSize: 32, scaleDtype: 'e8m0' },
  },
  {
    name: 'MXFP8',
    cols: 64,
    tokens: 2,
    format: { kind: 'packed-float', element: 'e4m3', groupSize: 32, scaleDtype: 'e8m0', hasGlobalScale: false },
    quantization: { ...DYNAMIC, element: 'e4m3', scale: 'group', groupSize: 32, scaleDtype: 'e8m0' },
  },
]

const ROWS = 24

/** Ordinary inputs, with a group of zeros, ties of every element format and a spike among them. */
function inputsOf({ cols, tokens }: Case): Float32Array {
  const inputs = normals(randomFrom(cols), tokens * cols)
  inputs.fill(0, 0, Math.min(32, cols))
  for (const [i, value] of [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.25, 2 ** -10].entries())
    inputs[(inputs.length - 1 - i) % inputs.length] = value
  inputs[inputs.length >> 1] = 7.5
  return inputs
}

function build(test: Case, part?: WeightPart): { program: Program; inputs: Float32Array; part: WeightPart } {
  const stored = part ?? randomPart(randomFrom(9), 'w', ROWS, test.cols, test.format)
  const inputs = inputsOf(test)
  const weight = weightOf(1, [stored])
  const program = operationProgram(inputs, test.cols, (x) => {
    const out = { id: 2, name: 'out', extent: 'tokens', width: ROWS } as const
    const linear = {
      op: 'linear',
      x,
      weight,
      bias: null,
      accumulate: false,
      outOffset: 0,
      out,
      inputQuantization: test.quantization,
    } as const
    return { operations: [linear], result: out, weights: [weight] }
  })
  return { program, inputs, part: stored }
}

/** Each case on one kernel family of both adapters, in turn: compiling is what these tests spend their time on. */
const CONFIGURATIONS = await testConfigurations()
describe.each(CONFIGURATIONS.map((configuration, place) => ({ ...configuration, place })))('$name', (configuration) => {
  let backend: Backend
  beforeAll(async () => {
    backend = await configuration.open()
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  const mine = CASES.filter((_, index) => index % 2 === configuration.place % 2)
  it.each(mine)('$name', async (test) => {
    const { program, inputs, part } = build(test)
    const step = sequenceStep(test.tokens, NO_CACHE, CAPACITY)
    const expected = await oracle(program, NO_CACHE, CAPACITY, [step])
    using prepared = await prepare(backend, program, NO_CACHE, CAPACITY)
    const found = await logitsOf(prepared, step)
    const matrix = await decodeWeight(weightOf(1, [part]))
    const scale = (at: number): number => {
      const [row, token] = [at % ROWS, Math.floor(at / ROWS)]
      let sum = 1e-3
      for (let k = 0; k < test.cols; k++) sum += Math.abs(matrix[row * test.cols + k]! * inputs[token * test.cols + k]!)
      return sum
    }
    expect(worstError(found, expected.logits, scale)).toBeLessThanOrEqual(DOT_TOLERANCE)
    // A token alone has the same bits as among others.
    const last = test.tokens - 1
    const alone = await logitsOf(prepared, sequenceStep(1, NO_CACHE, CAPACITY, { first: last }))
    expect(alone).toEqual(found.slice(last * ROWS, (last + 1) * ROWS))
  })

  it.runIf(configuration.thorough)('gives the same bits with and without a packed dot product', async () => {
    if (!(backend instanceof WebGpuBackend)) throw new Error('not WebGPU')
    const [test] = CASES
    const { program } = build(test!)
    const step = sequenceStep(test!.tokens, NO_CACHE, CAPACITY)
    const results: Float32Array[] = []
    for (const packedDot of [true, false]) {
      const variant = new WebGpuBackend({ ...backend.gpu, packedDot }, backend.tuning, null)
      using prepared = await prepare(variant, program, NO_CACHE, CAPACITY)
      results.push(await logitsOf(prepared, step))
    }
    expect(results[0]).toEqual(results[1])
  })

  it.runIf(configuration.place === 1)('multiplies columns whose groups are in an order of their own', async () => {
    const cols = 160
    const format: WeightFormat = { kind: 'packed-int', bits: 4, groupSize: 32, hasZeroPoint: true, scaleDtype: 'f16' }
    const plain = randomPart(randomFrom(3), 'w', ROWS, cols, format)
    // 7 and 160 share no factor: every group gets 32 columns.
    const groups = Int32Array.from({ length: cols }, (_, column) => ((column * 7) % cols) % 5)
    const part = { ...plain, groupIndex: bytesOf(groups) }
    const test: Case = { name: '', cols, tokens: 3, format, quantization: { ...DYNAMIC, element: 'int8' } }
    for (const quantization of [null, test.quantization]) {
      const { program, inputs } = build({ ...test, quantization: quantization as InputQuantization }, part)
      const step = sequenceStep(3, NO_CACHE, CAPACITY)
      const expected = await oracle(program, NO_CACHE, CAPACITY, [step])
      using prepared = await prepare(backend, program, NO_CACHE, CAPACITY)
      const found = await logitsOf(prepared, step)
      const bound = cols * Math.max(...inputs.map(Math.abs))
      expect(worstError(found, expected.logits, () => bound)).toBeLessThanOrEqual(DOT_TOLERANCE)
      const inOrder = build({ ...test, quantization: quantization as InputQuantization }, plain).program
      using other = await prepare(backend, inOrder, NO_CACHE, CAPACITY)
      expect(found).not.toEqual(await logitsOf(other, step))
    }
  })
})
