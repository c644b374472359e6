/**
 * What this adapter does with Lathe's own kernels, in a few seconds: the calibration that estimates start from (specs/benchmark.md §7.4). Matrix
 * products per stored format, for one token (bound by reading weights) and for many (bound by arithmetic), the fixed cost of one more layer, and
 * the round trip of a step; on WebGPU also the plain limits of bandwidth.ts. Each figure is the difference of two steps that differ in
 * one thing, and medians of several runs: estimates are to be of this machine as it is, other programs included. No claim about other software.
 */
import type { HardwareBenchmark, LinearRate } from '../contract/hardware.ts'
import { BLOCK_SIZE, SMALL, productProgram, productStep } from './calibration-program.ts'
import type { Products } from './calibration-program.ts'
import { type DecoderShape, decoderProgram, stepOf } from './bench/synthetic.ts'
import { measureLimits } from './bandwidth.ts'
import type { Backend, Program, StepInput, WeightFormat } from './program.ts'
import { WebGpuBackend } from './webgpu/backend.ts'

interface Sizes {
  readonly width: number
  /** Bytes of different matrices: well beyond the caches of most adapters. */
  readonly matrixBytes: number
  /** Bytes read in one timed step of one token. */
  readonly stepBytes: number
  /** Tokens multiplied at once, and how many such products make a step. */
  readonly tokens: number
  readonly products: number
  /** A small decoder, what its layers cost beyond reading their weights being what any model's layers cost. */
  readonly decoder: Omit<DecoderShape, 'layers'>
  readonly layers: number
  readonly runs: number
}

/** The size of the smallest models that people run on a GPU, and of the sample model, which a software adapter can run. */
const SMALL_MODEL = { hidden: 1024, heads: 16, kvHeads: 8, headDim: 64, intermediate: 2816, vocabulary: 4096 } as const
const TINY_MODEL = { hidden: 256, heads: 4, kvHeads: 2, headDim: 64, intermediate: 640, vocabulary: 2048 } as const

const SIZES: Readonly<Record<'hardware' | 'software' | 'reference', Sizes>> = {
  hardware: { width: 8192, matrixBytes: 250e6, stepBytes: 4e9, tokens: 256, products: 3, decoder: SMALL_MODEL, layers: 12, runs: 7 },
  software: { width: 1024, matrixBytes: 16e6, stepBytes: 32e6, tokens: 32, products: 2, decoder: TINY_MODEL, layers: 6, runs: 7 },
  reference: { width: 256, matrixBytes: 1e5, stepBytes: 8e5, tokens: 8, products: 2, decoder: TINY_MODEL, layers: 2, runs: 3 },
}

const packed = (bits: 4 | 8, groupSize: number): WeightFormat => ({
  kind: 'packed-int',
  bits,
  groupSize,
  hasZeroPoint: false,
  scaleDtype: 'bf16',
})

/** The formats whose kernels differ; a scheme is estimated by the nearest of them. */
const FORMATS: readonly {
  readonly format: LinearRate['format']
  readonly weight: (width: number) => WeightFormat
  readonly bytes: number
}[] = [
  { format: 'bf16', weight: () => DENSE, bytes: 2 },
  { format: 'int8', weight: (width) => packed(8, width), bytes: 1 },
  { format: 'int4', weight: () => packed(4, 128), bytes: 0.5 },
]

const DENSE: WeightFormat = { kind: 'dense', dtype: 'bf16' }
/** Tokens that the small decoder's attention looks back on. */
const CONTEXT = 128
const OWNER = 'calibration'

/** Takes a few seconds; rejects with the signal's reason when aborted. `name` is the adapter's, for the record. */
export async function benchmarkHardware(
  backend: Backend,
  { name = backend.id, signal }: { readonly name?: string; readonly signal?: AbortSignal } = {},
): Promise<HardwareBenchmark> {
  const sizes = SIZES[backend.kind === 'reference' ? 'reference' : backend.software ? 'software' : 'hardware']
  const { width, tokens, products, decoder, layers, runs } = sizes
  const timing = { kvHeads: 1, headDim: SMALL, runs, signal }
  const layered = (count: number): Promise<number> =>
    secondsOf(
      backend,
      decoderProgram({ ...decoder, layers: count }, DENSE, CONTEXT),
      { ...timing, ...decoder, layers: count, tokens: CONTEXT },
      (blocks) => stepOf(1, CONTEXT - 1, BLOCK_SIZE, blocks),
    )
  const one = await layered(1)
  const layer = difference(await layered(1 + layers), one) / layers
  const seconds = (timed: Products, count: number): Promise<number> =>
    secondsOf(backend, productProgram(timed), { ...timing, layers: 1, tokens: timed.tokens }, (blocks) => productStep(count, blocks))
  const linear: LinearRate[] = []
  for (const { format, weight, bytes } of FORMATS) {
    const matrix = { width, format: weight(width), tokens }
    const matrices = Math.max(1, Math.ceil(sizes.matrixBytes / (width * width * bytes)))
    const count = Math.max(matrices, Math.ceil(sizes.stepBytes / (width * width * bytes)))
    const single = difference(
      await seconds({ ...matrix, matrices, count: 1 + count }, 1),
      await seconds({ ...matrix, matrices: 1, count: 1 }, 1),
    )
    const base = await seconds({ ...matrix, matrices: 1, count: 1 }, tokens)
    const many = difference(await seconds({ ...matrix, matrices: 1, count: 1 + products }, tokens), base)
    linear.push({
      format,
      readGigaweightsPerSecond: (count * width * width) / single / 1e9,
      multiplyGigaflops: (products * tokens * width * width * 2) / many / 1e9,
    })
  }
  const limits = backend instanceof WebGpuBackend ? await measureLimits(backend, signal) : null
  const dense = linear[0]
  if (dense === undefined) throw new Error('No format was measured.')
  const read = dense.readGigaweightsPerSecond * 2
  const reading = (weights: number): number => weights / (dense.readGigaweightsPerSecond * 1e9)
  const fixed = Math.max(layer - reading(layerWeights(decoder)), layer * LEAST_FIXED_SHARE)
  const step = Math.max(one - layer - reading(decoder.vocabulary * decoder.hidden), one * LEAST_FIXED_SHARE)
  return {
    copyGigabytesPerSecond: limits?.copyGigabytesPerSecond ?? read,
    readGigabytesPerSecond: limits?.readGigabytesPerSecond ?? read,
    matmulGigaflops: dense.multiplyGigaflops,
    multiplyAddGigaflops: limits?.multiplyAddGigaflops ?? null,
    submitRoundTripMs: step * 1000,
    layerMicroseconds: fixed * 1e6,
    linear,
    adapter: name,
    software: backend.software,
    measuredAt: new Date().toISOString(),
  }
}

/** Noise may make reading the weights look dearer than the whole layer. */
const LEAST_FIXED_SHARE = 0.05

function layerWeights({ hidden, heads, kvHeads, headDim, intermediate }: Omit<DecoderShape, 'layers'>): number {
  return hidden * (2 * heads * headDim + 2 * kvHeads * headDim + 3 * intermediate)
}

/** What the longer step took beyond the shorter one; noise may make that nothing or less, so it counts as a twentieth of the step at least. */
function difference(more: number, less: number): number {
  return Math.max(more - less, more / 20, 1e-7)
}

interface Timing {
  readonly layers: number
  readonly kvHeads: number
  readonly headDim: number
  /** Most tokens of a step, and the length of the sequence. */
  readonly tokens: number
  readonly runs: number
  readonly signal: AbortSignal | undefined
}

/** Median seconds of one step. */
async function secondsOf(
  backend: Backend,
  program: Program,
  { layers, kvHeads, headDim, tokens, runs, signal }: Timing,
  stepFor: (blocks: number) => StepInput,
): Promise<number> {
  signal?.throwIfAborted()
  const blocks = Math.ceil(tokens / BLOCK_SIZE)
  const layout = { layers, kvHeads, headDim, blockSize: BLOCK_SIZE, blocks: blocks + 1, dtype: 'f32' } as const
  using kv = await backend.createKvCache(layout, OWNER)
  const capacity = { tokens, rows: 1, sequences: 1, blocksPerSequence: blocks }
  using executable = await backend.compile(program, { capacity, kv, owner: OWNER, ...(signal === undefined ? {} : { signal }) })
  const input = stepFor(blocks)
  await executable.step(input)
  const times: number[] = []
  for (let run = 0; run < runs; run++) {
    signal?.throwIfAborted()
    const began = performance.now()
    await executable.step(input)
    times.push((performance.now() - began) / 1000)
  }
  return times.toSorted((a, b) => a - b)[times.length >> 1] ?? 0
}
