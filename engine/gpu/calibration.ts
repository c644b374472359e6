/**
 * What this adapter does with Lathe's own kernels, in a few seconds: the calibration that estimates start from (specs/benchmark.md §7.4). Matrix
 * products per stored format, for one token (bound by reading weights) and for many (bound by arithmetic), the fixed cost of one more layer, and
 * the round trip of a step; on WebGPU also the plain limits of bandwidth.ts. Each figure is the difference of two steps that differ in
 * one thing, the best of several runs counting: interference only ever slows a run down. No claim about other software.
 */
import type { HardwareBenchmark, LinearRate } from '../contract/hardware.ts'
import { BLOCK_SIZE, SMALL, productProgram, productStep } from './calibration-program.ts'
import type { Products } from './calibration-program.ts'
import { decoderProgram, stepOf } from './bench/synthetic.ts'
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
  /** Of the tiny decoder whose layers cost next to nothing but their launches. */
  readonly layers: number
  readonly runs: number
}

const SIZES: Readonly<Record<'hardware' | 'software' | 'reference', Sizes>> = {
  hardware: { width: 8192, matrixBytes: 250e6, stepBytes: 4e9, tokens: 256, products: 3, layers: 12, runs: 5 },
  software: { width: 1024, matrixBytes: 16e6, stepBytes: 32e6, tokens: 32, products: 2, layers: 6, runs: 6 },
  reference: { width: 256, matrixBytes: 1e5, stepBytes: 8e5, tokens: 8, products: 2, layers: 4, runs: 4 },
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
const TINY = { hidden: SMALL, heads: 1, kvHeads: 1, headDim: SMALL, intermediate: SMALL, vocabulary: SMALL } as const
/** Tokens that the tiny decoder's attention looks back on. */
const CONTEXT = 64
const OWNER = 'calibration'

/** Takes a few seconds; rejects with the signal's reason when aborted. `name` is the adapter's, for the record. */
export async function benchmarkHardware(
  backend: Backend,
  { name = backend.id, signal }: { readonly name?: string; readonly signal?: AbortSignal } = {},
): Promise<HardwareBenchmark> {
  const sizes = SIZES[backend.kind === 'reference' ? 'reference' : backend.software ? 'software' : 'hardware']
  const { width, tokens, products, layers, runs } = sizes
  const timing = { runs, signal }
  const layered = (count: number): Promise<number> =>
    secondsOf(
      backend,
      decoderProgram({ ...TINY, layers: count }, DENSE, CONTEXT),
      { ...timing, layers: count, tokens: CONTEXT },
      (blocks) => stepOf(1, CONTEXT - 1, BLOCK_SIZE, blocks),
    )
  const one = await layered(1)
  const layer = difference(await layered(1 + layers), one) / layers
  const step = Math.max(one - layer, 0)
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
  return {
    copyGigabytesPerSecond: limits?.copyGigabytesPerSecond ?? read,
    readGigabytesPerSecond: limits?.readGigabytesPerSecond ?? read,
    matmulGigaflops: dense.multiplyGigaflops,
    multiplyAddGigaflops: limits?.multiplyAddGigaflops ?? null,
    submitRoundTripMs: step * 1000,
    layerMicroseconds: layer * 1e6,
    linear,
    adapter: name,
    software: backend.software,
    measuredAt: new Date().toISOString(),
  }
}

/** What the longer step took beyond the shorter one; noise may make that nothing or less, so it counts as a twentieth of the step at least. */
function difference(more: number, less: number): number {
  return Math.max(more - less, more / 20, 1e-7)
}

interface Timing {
  readonly layers: number
  /** Most tokens of a step, and the length of the sequence. */
  readonly tokens: number
  readonly runs: number
  readonly signal: AbortSignal | undefined
}

/** Least seconds of one step. */
async function secondsOf(
  backend: Backend,
  program: Program,
  { layers, tokens, runs, signal }: Timing,
  stepFor: (blocks: number) => StepInput,
): Promise<number> {
  signal?.throwIfAborted()
  const blocks = Math.ceil(tokens / BLOCK_SIZE)
  const layout = { layers, kvHeads: 1, headDim: SMALL, blockSize: BLOCK_SIZE, blocks: blocks + 1, dtype: 'f32' } as const
  using kv = await backend.createKvCache(layout, OWNER)
  const capacity = { tokens, rows: 1, sequences: 1, blocksPerSequence: blocks }
  using executable = await backend.compile(program, { capacity, kv, owner: OWNER, ...(signal === undefined ? {} : { signal }) })
  const input = stepFor(blocks)
  await executable.step(input)
  let best = Infinity
  for (let run = 0; run < runs; run++) {
    signal?.throwIfAborted()
    const began = performance.now()
    await executable.step(input)
    best = Math.min(best, (performance.now() - began) / 1000)
  }
  return best
}
