/**
 * How fast an adapter copies, reads weights and multiplies with Lathe's own kernels, measured through the numeric seam (engine/gpu/program.ts) on a
 * program of three operations. Each figure is the difference of two steps that differ in one thing only, so that launches and readback cancel
 * out; the best of several runs counts, as with any bandwidth. A few seconds; no claim about other software.
 */
import type { HardwareBenchmark } from '../../contract/index.ts'
import type { Backend, Program, StepInput, WeightSpec } from '../../gpu/program.ts'
import type { CurrentAdapter } from '../ports.ts'

interface Sizes {
  /** Square matrix of the read and multiply tests, bf16. */
  readonly width: number
  /** Rows multiplied and copied at once. */
  readonly tokens: number
  readonly repeats: number
}

/** A matrix well beyond caches, and enough rows to fill the units, within a second a run on each kind of adapter. */
const SIZES: Readonly<Record<'hardware' | 'software' | 'reference', Sizes>> = {
  hardware: { width: 8192, tokens: 256, repeats: 10 },
  software: { width: 4096, tokens: 32, repeats: 5 },
  reference: { width: 256, tokens: 8, repeats: 1 },
}

const OWNER = 'hardware-benchmark'
const BLOCK_SIZE = 32
/** Too small to matter, large enough for every kernel's alignment. */
const SMALL = 64
const NO_TOKEN = 0xffffffff

export async function benchmarkHardware(backend: Backend, adapter: CurrentAdapter, signal: AbortSignal): Promise<HardwareBenchmark> {
  const sizes = SIZES[backend.kind === 'reference' ? 'reference' : backend.software ? 'software' : 'hardware']
  const { width, tokens, repeats } = sizes
  const small = await timesOf(backend, smallProgram(tokens), tokens, repeats, signal)
  const copy = await timesOf(backend, copyProgram(tokens, width), tokens, repeats, signal)
  const linear = await timesOf(backend, linearProgram(tokens, width), tokens, repeats, signal)
  // of what a step costs, only the differing part: rows copied, the matrix read, the products
  const copySeconds = positive(copy.many - copy.one)
  const readSeconds = positive(linear.one - small.one)
  const multiplySeconds = positive(linear.many - linear.one)
  return {
    copyGigabytesPerSecond: ((tokens - 1) * width * 4 * 2) / copySeconds / 1e9,
    readGigabytesPerSecond: (width * width * 2) / readSeconds / 1e9,
    matmulGigaflops: ((tokens - 1) * width * width * 2) / multiplySeconds / 1e9,
    submitRoundTripMs: small.one * 1000,
    adapter: adapter.name,
    software: backend.software,
    measuredAt: new Date().toISOString(),
  }
}

/** Below the clock's resolution the difference of two runs may come out as nothing or less. */
function positive(seconds: number): number {
  return Math.max(seconds, 1e-7)
}

/** Least seconds of a step of one token and of `tokens`. */
async function timesOf(
  backend: Backend,
  program: Program,
  tokens: number,
  repeats: number,
  signal: AbortSignal,
): Promise<{ readonly one: number; readonly many: number }> {
  const blocks = Math.ceil(tokens / BLOCK_SIZE)
  const layout = { layers: 1, kvHeads: 1, headDim: SMALL, blockSize: BLOCK_SIZE, blocks: blocks + 1, dtype: 'f32' } as const
  using kv = await backend.createKvCache(layout, OWNER)
  const capacity = { tokens, rows: 1, sequences: 1, blocksPerSequence: blocks }
  using executable = await backend.compile(program, { capacity, kv, owner: OWNER, signal })
  const least = async (count: number): Promise<number> => {
    const input = stepOf(count, blocks)
    await executable.step(input)
    let best = Infinity
    for (let run = 0; run < repeats; run++) {
      signal.throwIfAborted()
      const began = performance.now()
      await executable.step(input)
      best = Math.min(best, (performance.now() - began) / 1000)
    }
    return best
  }
  return { one: await least(1), many: await least(tokens) }
}

function stepOf(count: number, blocks: number): StepInput {
  const index = Uint32Array.from({ length: count }, (_, token) => token)
  return {
    tokenIds: index,
    positions: index,
    slots: index.map((token) => token + BLOCK_SIZE),
    sequenceOfToken: new Uint32Array(count),
    queryStart: Uint32Array.of(0, count),
    sequenceLength: Uint32Array.of(count),
    blockTable: Uint32Array.from({ length: blocks }, (_, block) => block + 1),
    logitRows: Uint32Array.of(count - 1),
    samplers: [null],
    targets: Uint32Array.of(NO_TOKEN),
    topCount: 0,
  }
}

/** Embedding row, last row, a small head: what every other program here costs besides its subject. */
function smallProgram(tokens: number): Program {
  return programOf(tokens, SMALL, null)
}

/** The embedding of `tokens` different rows is a copy of them. */
function copyProgram(tokens: number, width: number): Program {
  return programOf(tokens, width, null)
}

function linearProgram(tokens: number, width: number): Program {
  return programOf(tokens, width, zeros('matrix', 2, width, width, 'bf16'))
}

function programOf(tokens: number, width: number, matrix: WeightSpec | null): Program {
  const embedding = zeros('rows', 0, tokens, width, 'f32')
  const head = zeros('head', 1, SMALL, width, 'f32')
  const x = { id: 0, name: 'x', extent: 'tokens', width } as const
  const y = { id: 1, name: 'y', extent: 'tokens', width } as const
  const last = { id: 2, name: 'last', extent: 'rows', width } as const
  const logits = { id: 3, name: 'logits', extent: 'rows', width: SMALL } as const
  const product = matrix === null ? [] : [{ op: 'linear', x, weight: matrix, bias: null, accumulate: false, outOffset: 0, out: y } as const]
  return {
    operations: [
      { op: 'embed', weight: embedding, scale: 1, out: x },
      ...product,
      { op: 'gatherRows', x: matrix === null ? x : y, out: last },
      { op: 'linear', x: last, weight: head, bias: null, accumulate: false, outOffset: 0, out: logits },
    ],
    weights: matrix === null ? [embedding, head] : [embedding, head, matrix],
    ropes: [],
    logits,
    vocabulary: SMALL,
  }
}

function zeros(name: string, id: number, rows: number, cols: number, dtype: 'f32' | 'bf16'): WeightSpec {
  const format = { kind: 'dense', dtype } as const
  const values = {
    byteLength: rows * cols * (dtype === 'f32' ? 4 : 2),
    read: async (_offset: number, length: number) => new Uint8Array(length),
  }
  return { id, name, rows, cols, format, parts: [{ name, rows, cols, format, values, scale: null, zeroPoint: null }] }
}
