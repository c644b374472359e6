/**
 * Tile shapes of the linear kernels for steps of several tokens, to choose tuning.ts by: one matrix, GPU timestamps, every shape beside the
 * adapter's own. `node engine/gpu/bench/tile-sweep.ts [adapter] [--rows 14336] [--cols 4096] [--tokens 8,32,512] [--formats bf16,int4]`. How many
 * lanes share a row stays, since it is part of the definition of a result's bits.
 */
import { parseArgs } from 'node:util'
import { measureLimits } from '../bandwidth.ts'
import type { KvLayout, WeightFormat } from '../program.ts'
import { openBackend, WebGpuBackend } from '../webgpu/backend.ts'
import type { Tuning } from '../webgpu/tuning.ts'
import { linearProgram, stepOf } from './synthetic.ts'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string' },
    cols: { type: 'string' },
    tokens: { type: 'string' },
    formats: { type: 'string', default: 'bf16,int4' },
    repeats: { type: 'string', default: '5' },
  },
})
const opened = await openBackend(positionals[0] ?? null)
if (!(opened instanceof WebGpuBackend)) throw new Error('this benchmark needs a WebGPU adapter')
const backend = opened
const { software, tuning } = backend
const rows = Number(values.rows ?? (software ? 1280 : 14336))
const cols = Number(values.cols ?? (software ? 256 : 4096))
const tokenCounts = (values.tokens ?? (software ? '1,8,64' : '8,32,512')).split(',').map(Number)
const repeats = Number(values.repeats)
const BLOCK_SIZE = 32
/** An idle GPU lowers its clock; steps not counted raise it again. */
const WARM_UP_MS = software ? 0 : 150

const packed = (bits: 4 | 8, groupSize: number): WeightFormat => {
  return { kind: 'packed-int', bits, groupSize, hasZeroPoint: false, scaleDtype: 'bf16' }
}
const FORMATS: Readonly<Record<string, WeightFormat>> = {
  bf16: { kind: 'dense', dtype: 'bf16' },
  int8: packed(8, cols),
  int4: packed(4, 128),
  nvfp4: { kind: 'packed-float', element: 'e2m1', groupSize: 16, scaleDtype: 'e4m3', hasGlobalScale: true },
}

/** The adapter's own shapes, then one tile width at a time. */
function variants(): readonly (readonly [string, Tuning['linear']])[] {
  const { linear } = tuning
  const own = ['own', linear] as const
  if (linear.family === 'rows') {
    const shapes = [1, 2, 4, 8].flatMap((tileRows) => [4, 8, 16, 32].map((columns) => ({ tileRows, columns })))
    return [
      own,
      ...shapes.map(
        ({ tileRows, columns }) =>
          [`${linear.workgroup} × ${tileRows} × ${columns}`, { ...linear, rows: tileRows, columns: [columns], wide: null }] as const,
      ),
    ]
  }
  const shapes = [128, 256].flatMap((workgroup) =>
    [4, 8].flatMap((tileRows) =>
      [4, 8].flatMap((columns) => [256, 512, 1024].map((stageElements) => ({ workgroup, tileRows, columns, stageElements }))),
    ),
  )
  return [
    own,
    ...shapes.map(
      ({ workgroup, tileRows, columns, stageElements }) =>
        [
          `${workgroup} × ${tileRows} × ${columns} / ${stageElements}`,
          { ...linear, workgroup, rows: tileRows, stageElements, columns: [columns], wide: null },
        ] as const,
    ),
  ]
}

function layoutFor(tokens: number): KvLayout {
  return { layers: 1, kvHeads: 1, headDim: 2, blockSize: BLOCK_SIZE, blocks: Math.ceil(tokens / BLOCK_SIZE) + 1, dtype: 'f32' }
}

/** Milliseconds of GPU time of the matrix, median. */
async function measure(on: WebGpuBackend, format: WeightFormat, tokens: number): Promise<number> {
  const layout = layoutFor(tokens)
  const blocksPerSequence = layout.blocks - 1
  using kv = await on.createKvCache(layout, 'sweep')
  using executable = await on.compile(linearProgram(1, rows, cols, format, tokens), {
    capacity: { tokens, rows: 1, sequences: 1, blocksPerSequence },
    kv,
    owner: 'sweep',
  })
  const input = stepOf(tokens, 0, BLOCK_SIZE, blocksPerSequence)
  await executable.step(input)
  for (const end = performance.now() + WARM_UP_MS; performance.now() < end;) await executable.step(input)
  const times: number[] = []
  for (let i = 0; i < repeats; i++) {
    const timings = await executable.profile(input)
    times.push(timings.filter(({ kernel }) => kernel.startsWith('linear')).reduce((sum, { milliseconds }) => sum + milliseconds, 0))
  }
  return times.toSorted((a, b) => a - b)[repeats >> 1] ?? NaN
}

const limits = await measureLimits(backend)
console.log(
  `${backend.id}: ${rows} × ${cols}, median of ${repeats}; reads ${limits.readGigabytesPerSecond.toFixed(0)} GB/s, multiplies ${limits.multiplyAddGigaflops.toFixed(0)} GFLOP/s`,
)
const names = values.formats.split(',')
console.log(
  `| workgroup × rows × columns | ${names.flatMap((name) => tokenCounts.map((tokens) => `${name}, ${tokens} tok`)).join(' | ')} |`,
)
console.log(`|---|${names.flatMap(() => tokenCounts.map(() => '--:|')).join('')}  GFLOP/s`)
for (const [label, linear] of variants()) {
  const on = new WebGpuBackend(backend.gpu, { ...tuning, linear }, null)
  const cells: string[] = []
  for (const name of names) {
    const format = FORMATS[name]
    if (format === undefined) throw new Error(`--formats knows ${Object.keys(FORMATS).join(', ')}`)
    for (const tokens of tokenCounts) {
      try {
        const milliseconds = await measure(on, format, tokens)
        cells.push(((2 * rows * cols * tokens) / milliseconds / 1e6).toFixed(software ? 1 : 0))
      } catch (error) {
        // A tile that needs more workgroup memory than the adapter has.
        cells.push(error instanceof Error ? error.message.slice(0, 40) : String(error))
      }
    }
  }
  console.log(`| ${label} | ${cells.join(' | ')} |`)
}
await backend[Symbol.asyncDispose]()
