/**
 * What this adapter does with Lathe's own kernels, in a few seconds: the calibration that estimates start from (specs/benchmark.md §7.4). The parts
 * that a step is made of, each timed by itself: products of one token by stored format and size of matrix, a layer's other operations by width and
 * context, what follows the head, the empty step; products of many tokens; on WebGPU also the plain limits of bandwidth.ts. All programs take
 * turns. Steps are as long as small models' steps are, so that what interrupts one interrupts the other. No claim about other software.
 */
import type { HardwareBenchmark, LinearRate, StepCosts } from '../contract/hardware.ts'
import { SMALL, headProgram, layerElements, layerProgram, productProgram } from './calibration-program.ts'
import type { LayerWidths, Products } from './calibration-program.ts'
import { measureLimits } from './bandwidth.ts'
import { partBytes } from './check-program.ts'
import type { Backend, Program, WeightFormat } from './program.ts'
import { productSeconds } from './step-costs.ts'
import { StepTimer } from './step-timer.ts'
import { WebGpuBackend } from './webgpu/backend.ts'

interface Sizes {
  /** Matrices [rows, columns] of one token's products, and how many a step has. */
  readonly products: readonly { readonly rows: number; readonly columns: number; readonly count: number }[]
  /** Bytes of different matrices: well beyond the caches of most adapters. */
  readonly matrixBytes: number
  /** Products of many tokens. */
  readonly many: { readonly width: number; readonly tokens: number; readonly count: number }
  /** Two layers of which models' layers lie between or beyond, and the contexts that their attention looks back on. */
  readonly layers: readonly [LayerWidths, LayerWidths]
  readonly layerCount: number
  readonly contexts: readonly [number, number]
  readonly vocabulary: number
  /** Rounds that don't count: an idle GPU lowers its clock to a sixth and takes a second to raise it. */
  readonly warmups: number
  readonly rounds: number
}

/** The shapes of the sample model, of the smallest models that people run on a GPU, and of 8-billion-parameter ones. */
const TINY = { hidden: 256, heads: 4, kvHeads: 2, headDim: 64, intermediate: 640 } as const
const SMALL_MODEL = { hidden: 1024, heads: 16, kvHeads: 8, headDim: 64, intermediate: 2816 } as const
const LARGE_MODEL = { hidden: 4096, heads: 32, kvHeads: 8, headDim: 128, intermediate: 14336 } as const

const SIZES: Readonly<Record<'hardware' | 'software' | 'reference', Sizes>> = {
  hardware: {
    products: [
      { rows: 512, columns: 512, count: 64 },
      { rows: 2048, columns: 2048, count: 64 },
      { rows: 8192, columns: 8192, count: 12 },
    ],
    matrixBytes: 128e6,
    many: { width: 4096, tokens: 256, count: 4 },
    layers: [SMALL_MODEL, LARGE_MODEL],
    layerCount: 16,
    contexts: [64, 4096],
    vocabulary: 131_072,
    warmups: 4,
    rounds: 9,
  },
  software: {
    products: [
      { rows: 128, columns: 128, count: 96 },
      { rows: 512, columns: 256, count: 64 },
      // More than a processor's last cache holds, as a model of such matrices is, too: from the cache they would take two thirds of the time.
      { rows: 1024, columns: 1024, count: 32 },
    ],
    matrixBytes: 8e6,
    many: { width: 512, tokens: 32, count: 2 },
    layers: [TINY, SMALL_MODEL],
    layerCount: 16,
    contexts: [32, 512],
    vocabulary: 8192,
    warmups: 1,
    rounds: 7,
  },
  reference: {
    products: [
      { rows: 64, columns: 64, count: 2 },
      { rows: 128, columns: 128, count: 2 },
    ],
    matrixBytes: 1e5,
    many: { width: 128, tokens: 8, count: 2 },
    layers: [
      { hidden: 64, heads: 2, kvHeads: 1, headDim: 32, intermediate: 128 },
      { hidden: 128, heads: 4, kvHeads: 2, headDim: 32, intermediate: 256 },
    ],
    layerCount: 2,
    contexts: [4, 32],
    vocabulary: 512,
    warmups: 0,
    rounds: 3,
  },
}

const packed = (bits: 4 | 8, groupSize: number): WeightFormat => ({
  kind: 'packed-int',
  bits,
  groupSize,
  hasZeroPoint: false,
  scaleDtype: 'bf16',
})

/** The formats whose kernels differ; a scheme is estimated by the nearest of them. */
const FORMATS: readonly { readonly format: LinearRate['format']; readonly weight: (columns: number) => WeightFormat }[] = [
  { format: 'bf16', weight: () => ({ kind: 'dense', dtype: 'bf16' }) },
  { format: 'int8', weight: (columns) => packed(8, columns) },
  { format: 'int4', weight: (columns) => packed(4, Math.min(128, columns)) },
]

const OWNER = 'calibration'

/** Programs compiled once and timed in rounds, which a caller may take in turn with steps of its own. Holds memory until disposed. */
export class Calibration implements Disposable {
  readonly #backend: Backend
  readonly #sizes: Sizes
  readonly #timer = new StepTimer()

  private constructor(backend: Backend) {
    this.#backend = backend
    this.#sizes = SIZES[backend.kind === 'reference' ? 'reference' : backend.software ? 'software' : 'hardware']
  }

  /** Rejects with the signal's reason when aborted; everything taken is released then. */
  static async open(backend: Backend, signal?: AbortSignal): Promise<Calibration> {
    const calibration = new Calibration(backend)
    try {
      await calibration.#prepare(signal)
      return calibration
    } catch (error) {
      calibration[Symbol.dispose]()
      throw error
    }
  }

  /** All rounds of a calibration by itself. */
  async measure(signal?: AbortSignal): Promise<void> {
    for (let round = 0; round < this.#sizes.warmups; round++) await this.round(signal)
    this.#timer.forget()
    for (let round = 0; round < this.#sizes.rounds; round++) await this.round(signal)
  }

  /** What was measured so far does not count. */
  forget(): void {
    this.#timer.forget()
  }

  async round(signal?: AbortSignal): Promise<void> {
    await this.#timer.round(signal)
  }

  /** From the rounds so far. */
  costs(): StepCosts {
    const { products, layers, layerCount, contexts, vocabulary } = this.#sizes
    const empty = this.#timer.seconds('empty')
    const each = (name: string, count: number): number => difference(this.#timer.seconds(name), empty) / count
    const points = (format: string): StepCosts['linear'][number]['points'] =>
      products.map(({ rows, columns, count }, index) => ({
        weights: rows * columns,
        microseconds: each(`${format} ${index}`, count) * MICRO,
      }))
    const linear = FORMATS.map(({ format }) => ({ format, points: points(format) }))
    const [near, far] = contexts
    // The head of that program is a product, too.
    const logits = Math.max(each('head', 1) - productSeconds({ linear }, 'bf16', vocabulary * SMALL), 0)
    return {
      stepMicroseconds: empty * MICRO,
      logitNanoseconds: (logits / vocabulary) * NANO,
      linear,
      layers: layers.map((widths, index) => {
        const atNear = each(`layer ${index} ${near}`, layerCount)
        const perToken = Math.max(each(`layer ${index} ${far}`, layerCount) - atNear, 0) / (far - near)
        return {
          elements: layerElements(widths),
          headElements: widths.heads * widths.headDim,
          microseconds: Math.max(atNear - near * perToken, atNear * LEAST_SHARE) * MICRO,
          contextNanoseconds: perToken * NANO,
        }
      }),
    }
  }

  /** Multiplications and additions of many tokens at once, per second. */
  operationsPerSecond(format: LinearRate['format']): number {
    const { width, tokens, count } = this.#sizes.many
    const seconds = difference(this.#timer.seconds(`${format} many`), this.#timer.seconds(`${format} one of many`))
    return (count * tokens * width * width * 2) / seconds
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]()
  }

  async #prepare(signal: AbortSignal | undefined): Promise<void> {
    const { products, matrixBytes, many, layers, layerCount, contexts, vocabulary } = this.#sizes
    const add = (
      program: Program,
      tokens: number,
      steps: readonly (readonly [name: string, context: number])[],
      widths?: LayerWidths,
    ): Promise<void> =>
      this.#timer.add(
        this.#backend,
        {
          program,
          cache: widths === undefined ? { layers: 1, kvHeads: 1, headDim: SMALL } : { layers: layerCount, ...widths },
          tokens,
          steps: steps.map(([name, context]) => ({ name, context })),
        },
        { owner: OWNER, signal },
      )
    const product = (rows: number, columns: number, format: WeightFormat, more: Pick<Products, 'count' | 'tokens'>): Program => {
      const { values } = partBytes(rows, columns, format)
      return productProgram({ rows, columns, format, matrices: Math.ceil(matrixBytes / values), ...more })
    }
    await add(headProgram(SMALL), 1, [['empty', 1]])
    await add(headProgram(vocabulary), 1, [['head', 1]])
    for (const [index, widths] of layers.entries()) {
      const program = layerProgram(widths, layerCount, Math.max(...contexts))
      const steps = contexts.map((context) => [`layer ${index} ${context}`, context] as const)
      await add(program, 1, steps, widths)
    }
    for (const { format, weight } of FORMATS) {
      for (const [index, { rows, columns, count }] of products.entries())
        await add(product(rows, columns, weight(columns), { count, tokens: 1 }), 1, [[`${format} ${index}`, 1]])
      const { width, tokens, count } = many
      await add(product(width, width, weight(width), { count: 1, tokens }), tokens, [[`${format} one of many`, tokens]])
      await add(product(width, width, weight(width), { count: 1 + count, tokens }), tokens, [[`${format} many`, tokens]])
    }
  }
}

const MICRO = 1e6
const NANO = 1e9
/** Noise may make a part look like nothing or less. */
const LEAST_SHARE = 0.05

function difference(more: number, less: number): number {
  return Math.max(more - less, more * LEAST_SHARE, 1e-7)
}

/** Takes a few seconds; rejects with the signal's reason when aborted. `name` is the adapter's, for the record. */
export async function benchmarkHardware(
  backend: Backend,
  { name = backend.id, signal }: { readonly name?: string; readonly signal?: AbortSignal } = {},
): Promise<HardwareBenchmark> {
  using calibration = await Calibration.open(backend, signal)
  await calibration.measure(signal)
  const limits = backend instanceof WebGpuBackend ? await measureLimits(backend, signal) : null
  return benchmarkOf(calibration, { limits, backend, name })
}

/** The record of a calibration whose rounds are done. */
export function benchmarkOf(
  calibration: Calibration,
  about: { readonly limits: Awaited<ReturnType<typeof measureLimits>> | null; readonly backend: Backend; readonly name: string },
): HardwareBenchmark {
  const { limits, backend, name } = about
  const stepCosts = calibration.costs()
  const linear = stepCosts.linear.map(({ format, points }): LinearRate => {
    const largest = points.at(-1)
    if (largest === undefined) throw new Error('No product was measured.')
    return {
      format,
      readGigaweightsPerSecond: largest.weights / largest.microseconds / 1e3,
      multiplyGigaflops: calibration.operationsPerSecond(format) / 1e9,
    }
  })
  const dense = linear[0]
  if (dense === undefined) throw new Error('No format was measured.')
  const read = dense.readGigaweightsPerSecond * 2
  return {
    copyGigabytesPerSecond: limits?.copyGigabytesPerSecond ?? read,
    readGigabytesPerSecond: limits?.readGigabytesPerSecond ?? read,
    matmulGigaflops: dense.multiplyGigaflops,
    multiplyAddGigaflops: limits?.multiplyAddGigaflops ?? null,
    submitRoundTripMs: stepCosts.stepMicroseconds / 1e3,
    layerMicroseconds: stepCosts.layers[0]?.microseconds ?? 0,
    linear,
    stepCosts,
    adapter: name,
    software: backend.software,
    measuredAt: new Date().toISOString(),
  }
}
