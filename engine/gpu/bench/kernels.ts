/**
 * Kernel benchmark: matrix-vector products per stored format against this adapter's own streaming-read speed, wider steps, and whole decode
 * steps of a model's shape with made-up weights. Prints tables; `node engine/gpu/bench/kernels.ts [adapter] [--sweep]`.
 * With --sweep, also tries other tile shapes of the linear kernels, to choose tuning.ts by.
 */
import { parseArgs } from 'node:util'
import { measureLimits } from '../bandwidth.ts'
import type { KernelTiming, KvLayout, Program, WeightFormat } from '../program.ts'
import { partBytes } from '../check-program.ts'
import { openBackend, WebGpuBackend } from '../webgpu/backend.ts'
import type { Tuning } from '../webgpu/tuning.ts'
import { decoderProgram, type DecoderShape, linearProgram, stepOf } from './synthetic.ts'

const { positionals, values } = parseArgs({ allowPositionals: true, options: { sweep: { type: 'boolean', default: false } } })

const dense = (dtype: 'f32' | 'f16' | 'bf16'): WeightFormat => ({ kind: 'dense', dtype })
const packed = (bits: 4 | 8, groupSize: number, hasZeroPoint = false): WeightFormat => ({
  kind: 'packed-int',
  bits,
  groupSize,
  hasZeroPoint,
  scaleDtype: 'bf16',
})

function formats(cols: number): readonly (readonly [string, WeightFormat])[] {
  return [
    ['bf16', dense('bf16')],
    ['f16', dense('f16')],
    ['f32', dense('f32')],
    ['int8 channel', packed(8, cols)],
    ['int8 g128', packed(8, 128)],
    ['int4 g128', packed(4, 128)],
    ['int4 g32 asymmetric', packed(4, 32, true)],
  ]
}

/** Enough different matrices that none is still in a cache when its turn comes again (the largest GPUs cache 256 MiB). */
const HARDWARE_BYTES = 600e6
const SOFTWARE_BYTES = 30e6
const RUNS = 7
const BLOCK_SIZE = 32

const HARDWARE_SHAPES = [
  [4096, 4096],
  [14336, 4096],
  [4096, 14336],
] as const
const SOFTWARE_SHAPES = [[2048, 2048]] as const

/** Layers of Llama 3.1 8B, fewer of them. */
const HARDWARE_DECODER: DecoderShape = {
  layers: 8,
  hidden: 4096,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  intermediate: 14336,
  vocabulary: 32000,
}
const SOFTWARE_DECODER: DecoderShape = { layers: 6, hidden: 256, heads: 4, kvHeads: 2, headDim: 64, intermediate: 640, vocabulary: 2048 }

const opened = await openBackend(positionals[0] ?? null)
if (!(opened instanceof WebGpuBackend)) throw new Error('this benchmark needs a WebGPU adapter')
const backend = opened
const { software } = backend

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? NaN
}

function table(title: string, header: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]): string =>
    cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  ')
  console.log(`\n${title}\n${line(header)}`)
  for (const row of rows) console.log(line(row))
}

interface Measured {
  /** Median milliseconds of GPU time in kernels whose name starts so, per step. */
  readonly kernelMs: (prefix: string) => number
  /** Median wall milliseconds of a whole step. */
  readonly stepMs: number
  readonly timings: readonly KernelTiming[]
}

function millisecondsIn(timings: readonly KernelTiming[], prefix: string): number {
  return timings.filter(({ kernel }) => kernel.startsWith(prefix)).reduce((total, { milliseconds }) => total + milliseconds, 0)
}

async function measure(on: WebGpuBackend, program: Program, layout: KvLayout, tokens: number, past: number): Promise<Measured> {
  const blocksPerSequence = layout.blocks - 1
  using kv = await on.createKvCache(layout, 'bench')
  using executable = await on.compile(program, { capacity: { tokens, rows: 1, sequences: 1, blocksPerSequence }, kv, owner: 'bench' })
  const input = stepOf(tokens, past, layout.blockSize, blocksPerSequence)
  await executable.step(input)
  const walls: number[] = []
  for (let run = 0; run < RUNS; run++) {
    const started = performance.now()
    await executable.step(input)
    walls.push(performance.now() - started)
  }
  const profiles: (readonly KernelTiming[])[] = []
  for (let run = 0; run < RUNS; run++) profiles.push(await executable.profile(input))
  const kernelMs = (prefix: string): number => median(profiles.map((timings) => millisecondsIn(timings, prefix)))
  const middle = profiles.toSorted((a, b) => millisecondsIn(a, '') - millisecondsIn(b, ''))[RUNS >> 1] ?? []
  return { kernelMs, stepMs: median(walls), timings: middle }
}

const plainLayout = (tokens: number): KvLayout => {
  return { layers: 1, kvHeads: 1, headDim: 2, blockSize: BLOCK_SIZE, blocks: Math.ceil(tokens / BLOCK_SIZE) + 1, dtype: 'f32' }
}

/** Matrices of a shape, as many as make `bytes`. */
function countFor(rows: number, cols: number, format: WeightFormat): number {
  return Math.max(2, Math.ceil((software ? SOFTWARE_BYTES : HARDWARE_BYTES) / partBytes(rows, cols, format).values))
}

async function gemv(on: WebGpuBackend, readGigabytesPerSecond: number): Promise<void> {
  for (const [rows, cols] of software ? SOFTWARE_SHAPES : HARDWARE_SHAPES) {
    const lines: string[][] = []
    let baseline = NaN
    for (const [name, format] of formats(cols)) {
      const count = countFor(rows, cols, format)
      const { kernelMs, timings } = await measure(on, linearProgram(count, rows, cols, format, 1), plainLayout(1), 1, 0)
      const each = kernelMs('linear') / count
      if (name === 'bf16') baseline = each
      const bytes = timings.filter(({ kernel }) => kernel.startsWith('linear')).reduce((sum, timing) => sum + timing.bytes, 0) / count
      const rate = bytes / each / 1e6
      lines.push([
        name,
        (each * 1000).toFixed(1),
        rate.toFixed(1),
        `${((100 * rate) / readGigabytesPerSecond).toFixed(0)} %`,
        `${(baseline / each).toFixed(2)}×`,
      ])
    }
    table(`Decode: [${rows}, ${cols}] · one token`, ['format', 'µs', 'GB/s', 'of read speed', 'against bf16'], lines)
  }
}

async function gemm(on: WebGpuBackend): Promise<void> {
  const [rows, cols] = software ? [1024, 1024] : [4096, 4096]
  const widths = software ? [4, 16, 64] : [4, 16, 64, 256]
  const lines: string[][] = []
  for (const [name, format] of formats(cols)) {
    const cells = [name]
    for (const tokens of widths) {
      const { kernelMs } = await measure(on, linearProgram(2, rows, cols, format, tokens), plainLayout(tokens), tokens, 0)
      cells.push(((2 * rows * cols * tokens * 2) / kernelMs('linear') / 1e6).toFixed(0))
    }
    lines.push(cells)
  }
  table(`Prefill: [${rows}, ${cols}] · tokens, GFLOP/s`, ['format', ...widths.map(String)], lines)
}

async function decoder(on: WebGpuBackend): Promise<void> {
  const shape = software ? SOFTWARE_DECODER : HARDWARE_DECODER
  const context = software ? 512 : 4096
  const prompt = software ? 64 : 256
  const layout: KvLayout = {
    layers: shape.layers,
    kvHeads: shape.kvHeads,
    headDim: shape.headDim,
    blockSize: BLOCK_SIZE,
    blocks: context / BLOCK_SIZE + 1,
    dtype: 'f16',
  }
  const lines: string[][] = []
  let shares: readonly KernelTiming[] = []
  for (const [name, format] of formats(0).filter(([label]) => ['bf16', 'int8 g128', 'int4 g128'].includes(label))) {
    const program = decoderProgram(shape, format, context)
    const short = await measure(on, program, layout, 1, 16)
    const long = await measure(on, program, layout, 1, context - 1)
    const prefill = await measure(on, program, layout, prompt, 0)
    shares = short.timings
    const all = (measured: Measured): string => measured.kernelMs('').toFixed(2)
    lines.push([
      name,
      short.stepMs.toFixed(2),
      all(short),
      long.stepMs.toFixed(2),
      all(long),
      ((1000 * prompt) / prefill.stepMs).toFixed(0),
    ])
  }
  table(
    `Whole steps: ${shape.layers} layers of ${shape.hidden}, ${shape.heads}/${shape.kvHeads} heads`,
    ['format', 'decode ms', 'kernels ms', `at ${context} ms`, 'kernels ms', `prefill ${prompt} tok/s`],
    lines,
  )
  const total = shares.reduce((sum, { milliseconds }) => sum + milliseconds, 0)
  table(
    'Shares of one int4 g128 decode step',
    ['kernel', 'ms', 'share', 'GB/s', 'dispatches'],
    shares.map(({ kernel, milliseconds, bytes, dispatches }) => [
      kernel,
      milliseconds.toFixed(3),
      `${((100 * milliseconds) / total).toFixed(0)} %`,
      (bytes / milliseconds / 1e6).toFixed(1),
      String(dispatches),
    ]),
  )
}

async function sweep(): Promise<void> {
  const { linear } = backend.tuning
  const lanes = [8, 16, 32, 64]
  const variants: Tuning['linear'][] =
    linear.family === 'rows'
      ? [1, 2, 4, 8].flatMap((rows) => [8, 16, 32].map((workgroup) => ({ ...linear, rows, workgroup })))
      : [64, 128, 256].flatMap((workgroup) =>
          [2, 4, 8].flatMap((rows) =>
            lanes
              .filter((count) => count <= workgroup)
              .flatMap((count) => [1024, 2048].map((stageElements) => ({ ...linear, workgroup, rows, lanes: count, stageElements }))),
          ),
        )
  const [rows, cols] = software ? [2048, 2048] : [4096, 4096]
  const picked = formats(cols).filter(([name]) => ['bf16', 'int8 channel', 'int4 g128'].includes(name))
  const lines: string[][] = []
  for (const variant of variants) {
    const on = new WebGpuBackend(backend.gpu, { ...backend.tuning, linear: { ...variant, columns: [1] } }, null)
    const cells = [`${variant.workgroup} / ${variant.rows} / ${variant.lanes} / ${variant.stageElements}`]
    try {
      for (const [, format] of picked) {
        const count = countFor(rows, cols, format)
        const { kernelMs } = await measure(on, linearProgram(count, rows, cols, format, 1), plainLayout(1), 1, 0)
        cells.push(((kernelMs('linear') / count) * 1000).toFixed(1))
      }
    } catch (error) {
      cells.push(error instanceof Error ? error.message.slice(0, 60) : String(error))
    }
    lines.push(cells)
  }
  const names = picked.map(([name]) => `${name} µs`)
  table(`Sweep: [${rows}, ${cols}] · one token`, ['workgroup / rows / lanes / stage', ...names], lines)
}

const limits = await measureLimits(backend)
console.log(`${backend.id}${software ? ' (software: says nothing about a GPU)' : ''}, profile ${backend.gpu.profile}`)
console.log(
  `copy ${limits.copyGigabytesPerSecond.toFixed(1)} GB/s, read ${limits.readGigabytesPerSecond.toFixed(1)} GB/s, ` +
    `multiply-add ${limits.multiplyAddGigaflops.toFixed(0)} GFLOP/s, empty submit ${limits.submitRoundTripMs.toFixed(3)} ms`,
)
await gemv(backend, limits.readGigabytesPerSecond)
await gemm(backend)
await decoder(backend)
if (values.sweep) await sweep()
await backend[Symbol.asyncDispose]()
