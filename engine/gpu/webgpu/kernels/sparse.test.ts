/** 2:4 sparse weights: found in their bytes, packed, and multiplied to the very bits of the dense kernels, from half the bytes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Backend, Capacity, IntegerBits, Program, WeightFormat, WeightPart } from '../../program.ts'
import { testConfigurations } from '../../test/adapters.ts'
import { bytesOf } from '../../test/memory-weights.ts'
import {
  integer,
  logitsOf,
  NO_CACHE,
  normals,
  operationProgram,
  prepare,
  randomFrom,
  randomPart,
  sequenceStep,
  weightOf,
} from '../../test/numeric.ts'
import { WebGpuBackend } from '../backend.ts'

const CAPACITY: Capacity = { tokens: 1, rows: 1, sequences: 1, blocksPerSequence: 1 }
const dense = (dtype: 'f16' | 'bf16'): WeightFormat => ({ kind: 'dense', dtype })
const packed = (bits: IntegerBits, groupSize: number): WeightFormat => {
  return { kind: 'packed-int', bits, groupSize, hasZeroPoint: false, scaleDtype: 'bf16' }
}

/** Clears two random columns of every four, sometimes three. */
async function prune(part: WeightPart, seed: number): Promise<WeightPart> {
  const random = randomFrom(seed)
  const { format, rows, cols, values } = part
  const data = (await values.read(0, values.byteLength)).slice()
  const bits = format.kind === 'dense' ? 16 : format.kind === 'packed-int' ? format.bits : 0
  const rowBytes = data.byteLength / rows
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < cols; first += 4) {
      const kept = [0, 1, 2, 3].sort(() => random() - 0.5).slice(0, integer(random, 0, 9) === 0 ? 1 : 2)
      for (let col = first; col < Math.min(cols, first + 4); col++) {
        if (kept.includes(col - first)) continue
        const at = row * rowBytes + Math.floor((col * bits) / 8)
        if (bits === 16) data.set([0, col % 3 === 0 ? 0x80 : 0], at)
        else if (bits === 8) data[at] = 128
        else data[at] = col % 2 === 0 ? (data[at]! & 0xf0) | 8 : (data[at]! & 0x0f) | 0x80
      }
    }
  }
  return { ...part, values: bytesOf(data) }
}

interface Case {
  readonly name: string
  readonly format: WeightFormat
  readonly cols: number
  readonly int8?: boolean
}

/** One kernel family and adapter each, in turn: compiling is what these tests spend their time on. */
const CASES: readonly Case[] = [
  { name: 'bf16', format: dense('bf16'), cols: 160 },
  { name: 'f16, ragged', format: dense('f16'), cols: 43 },
  { name: 'int4 g32', format: packed(4, 32), cols: 192 },
  { name: 'int8 channel, ragged', format: packed(8, 43), cols: 43 },
  { name: 'W8A8', format: packed(8, 172), cols: 172, int8: true },
]
const ROWS = 21
const TOKEN_SCALES = { element: 'int8', scale: 'token', groupSize: null, scaleDtype: 'f32', staticScale: null, staticDtype: 'f32' } as const

function programOf(part: WeightPart, int8: boolean): Program {
  const inputs = normals(randomFrom(2), part.cols)
  const weight = weightOf(1, [part])
  return operationProgram(inputs, part.cols, (x) => {
    const out = { id: 2, name: 'out', extent: 'tokens', width: ROWS } as const
    const linear = { op: 'linear', x, weight, bias: null, accumulate: false, outOffset: 0, out } as const
    return { operations: [int8 ? { ...linear, inputQuantization: TOKEN_SCALES } : linear], result: out, weights: [weight] }
  })
}

const CONFIGURATIONS = await testConfigurations()
describe.each(CONFIGURATIONS.map((configuration, place) => ({ ...configuration, place })))('$name', (configuration) => {
  let backend: WebGpuBackend
  beforeAll(async () => {
    const opened: Backend = await configuration.open()
    if (!(opened instanceof WebGpuBackend)) throw new Error('not WebGPU')
    backend = opened
  })
  afterAll(async () => {
    await backend[Symbol.asyncDispose]()
  })

  const mine = CASES.filter((_, index) => index % CONFIGURATIONS.length === configuration.place)
  it.each(mine)('$name: the same bits from fewer bytes', async ({ format, cols, int8 = false }) => {
    const part = await prune(randomPart(randomFrom(cols), 'w', ROWS, cols, format), cols)
    const program = programOf(part, int8)
    const results: { readonly logits: Float32Array; readonly bytes: number; readonly kernel: string }[] = []
    for (const packsSparse of [[4, 8, 16], []] as const) {
      const variant = new WebGpuBackend(backend.gpu, { ...backend.tuning, packsSparse }, null)
      using prepared = await prepare(variant, program, NO_CACHE, CAPACITY)
      const logits = await logitsOf(prepared, sequenceStep(1, NO_CACHE, CAPACITY))
      const timings = await prepared.executable.profile(sequenceStep(1, NO_CACHE, CAPACITY))
      const linear = timings.find((timing) => timing.kernel.startsWith('linear'))!
      results.push({ logits, bytes: linear.bytes, kernel: linear.kernel })
    }
    const [sparse, plain] = results
    expect(sparse!.logits).toEqual(plain!.logits)
    expect(sparse!.logits.some((value) => value !== 0)).toBe(true)
    expect(sparse!.bytes).toBeLessThan(plain!.bytes)
  })

  it.runIf(configuration.place === 0)('one group of four with three values keeps a matrix dense', async () => {
    const part = await prune(randomPart(randomFrom(1), 'w', ROWS, 64, dense('bf16')), 1)
    const data = (await part.values.read(0, part.values.byteLength)).slice()
    data.fill(0x3f, data.byteLength - 8)
    const packing = new WebGpuBackend(backend.gpu, { ...backend.tuning, packsSparse: [16] }, null)
    using prepared = await prepare(packing, programOf({ ...part, values: bytesOf(data) }, false), NO_CACHE, CAPACITY)
    const timings = await prepared.executable.profile(sequenceStep(1, NO_CACHE, CAPACITY))
    expect(timings.map(({ kernel }) => kernel).filter((kernel) => kernel.startsWith('linear'))).toEqual(['linear bf16'])
  })
})
