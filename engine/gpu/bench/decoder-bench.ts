/**
 * `node engine/gpu/bench/decoder-bench.ts [adapter] [--layers N] [--formats BF16,…] [--shares] [--tile …] [--matrix-units]`: whole steps of a decoder with the shapes of Llama 3.1 8B and made-up weights, per
 * stored format: decode of 1, 8 and 32 sequences at a context of 1024 tokens, and prefill of 2048 tokens in steps of 512. Prints a table.
 *
 * A decode step must read every weight and every cached key and value once; the bytes of that, divided by the wall time of the step, against the
 * streaming-read speed of the same adapter in the same run are the share printed. Times are wall times of runs of steps in
 * a row, host included, per step, medians over rounds in which batches take turns; before them comes a second and a half of steps not counted, since
 * an idle GPU lowers its clock to a sixth. Prefill counts two operations per weight and token, attention left out. With --shares, also what each
 * kernel takes of each step by GPU timestamps, one pass per dispatch. --tile 1,4,8:256,8,256 tries other tiles: column tiles, then workgroup, rows and staged
 * inputs of all but the first (tuning.ts).
 */
import { parseArgs } from 'node:util'
import { measureLimits } from '../bandwidth.ts'
import { weightBytes } from '../check-program.ts'
import type { Executable, KernelTiming, KvCache, KvLayout, Program, StepInput, WeightFormat } from '../program.ts'
import { openBackend, WebGpuBackend } from '../webgpu/backend.ts'
import type { Tuning } from '../webgpu/tuning.ts'
import { batchStep, decoderProgram, type DecoderShape } from './synthetic.ts'

const CONTEXT = 1024
const BLOCK_SIZE = 32
const BATCHES = [1, 8, 32] as const
const PROMPT = 2048
const PROMPT_STEP = 512
const ROUNDS = 5
/** Decode steps timed together, the last at the full context: enough that the GPU keeps its clock. */
const RUN_STEPS = 24
const WARM_UP_MS = 1500

const packed = (bits: 4 | 8, groupSize: number): WeightFormat => ({
  kind: 'packed-int',
  bits,
  groupSize,
  hasZeroPoint: false,
  scaleDtype: 'bf16',
})
const FORMATS: readonly (readonly [string, WeightFormat])[] = [
  ['BF16', { kind: 'dense', dtype: 'bf16' }],
  ['W8A16 g128', packed(8, 128)],
  ['W4A16 g128', packed(4, 128)],
  ['FP8 g128', { kind: 'packed-float', element: 'e4m3', groupSize: 128, scaleDtype: 'bf16', hasGlobalScale: false }],
  ['NVFP4A16', { kind: 'packed-float', element: 'e2m1', groupSize: 16, scaleDtype: 'e4m3', hasGlobalScale: true }],
]
const DEFAULT_FORMATS = 'BF16,W8A16 g128,W4A16 g128'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    layers: { type: 'string', default: '32' },
    formats: { type: 'string', default: DEFAULT_FORMATS },
    shares: { type: 'boolean', default: false },
    tile: { type: 'string' },
    'matrix-units': { type: 'boolean', default: false },
  },
})
const chosen = values.formats.split(',')
const matrixUnits = values['matrix-units']
const opened = await openBackend(positionals[0] ?? null)
if (!(opened instanceof WebGpuBackend)) throw new Error('this benchmark needs a WebGPU adapter')
await using backend = values.tile === undefined ? opened : new WebGpuBackend(opened.gpu, tiled(opened.tuning, values.tile), null)

function tiled(tuning: Tuning, text: string): Tuning {
  const [columns = [], [workgroup = 0, rows = 0, stageElements = 0] = []] = text.split(':').map((part) => part.split(',').map(Number))
  return { ...tuning, linear: { ...tuning.linear, columns, wide: { workgroup, rows, stageElements } } }
}
const shape: DecoderShape = backend.software
  ? { layers: 2, hidden: 256, heads: 4, kvHeads: 2, headDim: 64, intermediate: 640, vocabulary: 2048 }
  : { layers: Number(values.layers), hidden: 4096, heads: 32, kvHeads: 8, headDim: 128, intermediate: 14336, vocabulary: 128256 }

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? NaN
}

/** Bytes that a step reads whatever its tokens are: all weights but the embedding, of which it reads a row a token. */
function streamedBytes(program: Program): number {
  const embedding = program.operations.find(({ op }) => op === 'embed')
  const skipped = embedding?.op === 'embed' ? embedding.weight.id : -1
  return program.weights.filter(({ id }) => id !== skipped).reduce((sum, weight) => sum + weightBytes(weight), 0)
}

const linearWeights = (program: Program): number =>
  program.operations.reduce((sum, operation) => sum + (operation.op === 'linear' ? operation.weight.rows * operation.weight.cols : 0), 0)

interface Loaded extends Disposable {
  readonly program: Program
  readonly executable: Executable
  readonly kv: KvCache
}

const most = Math.max(...BATCHES)
const blocksPerSequence = PROMPT / BLOCK_SIZE
const layout: KvLayout = {
  layers: shape.layers,
  kvHeads: shape.kvHeads,
  headDim: shape.headDim,
  blockSize: BLOCK_SIZE,
  blocks: most * (CONTEXT / BLOCK_SIZE) + 1,
  dtype: 'f16',
}

async function load(format: WeightFormat): Promise<Loaded> {
  const program = decoderProgram(shape, format, PROMPT)
  const kv = await backend.createKvCache(layout, 'bench')
  const capacity = { tokens: PROMPT_STEP, rows: most, sequences: most, blocksPerSequence }
  const executable = await backend.compile(program, { capacity, kv, owner: 'bench', matrixUnits })
  return {
    program,
    executable,
    kv,
    [Symbol.dispose]() {
      executable[Symbol.dispose]()
      kv[Symbol.dispose]()
    },
  }
}

/** Milliseconds for one pass over `inputs`. */
async function timed(executable: Executable, inputs: readonly StepInput[]): Promise<number> {
  const started = performance.now()
  for (const input of inputs) await executable.step(input)
  return performance.now() - started
}

const limits = await measureLimits(backend)
const decodes = BATCHES.map((batch) =>
  Array.from({ length: RUN_STEPS }, (_, i) => batchStep(batch, 1, CONTEXT - RUN_STEPS + i, BLOCK_SIZE, blocksPerSequence)),
)
const prefill = Array.from({ length: PROMPT / PROMPT_STEP }, (_, i) =>
  batchStep(1, PROMPT_STEP, i * PROMPT_STEP, BLOCK_SIZE, blocksPerSequence),
)
const kvBytes = (batch: number): number => batch * CONTEXT * 2 * shape.kvHeads * shape.headDim * 2 * shape.layers

console.log(
  `${backend.id}: ${shape.layers} layers of ${shape.hidden}, context ${CONTEXT}, KV f16; reads ${limits.readGigabytesPerSecond.toFixed(0)} GB/s, ` +
    `multiplies ${(limits.multiplyAddGigaflops / 1000).toFixed(1)} TFLOP/s; median of ${ROUNDS}${matrixUnits ? '; WITH MATRIX UNITS' : ''}`,
)
console.log(
  `| format | weights read GB | ${BATCHES.map((batch) => `batch ${batch} tok/s | of read speed | `).join('')}prefill tok/s | TFLOP/s |`,
)
console.log(`|---|--:|${'--:|--:|'.repeat(BATCHES.length)}--:|--:|`)
const details: string[] = []
for (const [name, format] of FORMATS.filter(([known]) => chosen.includes(known))) {
  using loaded = await load(format)
  const { executable, program } = loaded
  const cases = [...decodes, prefill]
  const times = cases.map((): number[] => [])
  for (const inputs of cases) await timed(executable, inputs) // the driver compiles at the first dispatch
  for (const end = performance.now() + WARM_UP_MS; performance.now() < end;) await timed(executable, prefill)
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, inputs] of cases.entries()) times[i]?.push(await timed(executable, inputs))
  }
  const seconds = times.map((list, i) => median(list) / 1000 / (cases[i] === prefill ? 1 : RUN_STEPS))
  const bytes = streamedBytes(program)
  const cells = BATCHES.flatMap((batch, i) => {
    const each = seconds[i] ?? NaN
    const share = (bytes + kvBytes(batch)) / each / 1e9 / limits.readGigabytesPerSecond
    return [(batch / each).toFixed(0), `${(100 * share).toFixed(0)} %`]
  })
  const prompt = seconds.at(-1) ?? NaN
  const operations = 2 * (linearWeights(program) - shape.vocabulary * shape.hidden) * PROMPT
  console.log(
    `| ${[name, (bytes / 1e9).toFixed(2), ...cells, (PROMPT / prompt).toFixed(0), (operations / prompt / 1e12).toFixed(1)].join(' | ')} |`,
  )
  if (values.shares) {
    const labels = [...BATCHES.map((batch) => `batch ${batch}`), `prefill ${PROMPT_STEP}`]
    const inputs = [...decodes.map(([input]) => input), prefill.at(-1)]
    for (const [i, input] of inputs.entries())
      if (input !== undefined) details.push(...(await shares(executable, `${name}, ${labels[i] ?? ''}`, input)))
  }
}
for (const line of details) console.log(line)

/** Lines of a table: median milliseconds of each kernel over a few profiled steps. */
async function shares(executable: Executable, title: string, input: StepInput): Promise<readonly string[]> {
  const profiles: (readonly KernelTiming[])[] = []
  for (let i = 0; i < ROUNDS; i++) profiles.push(await executable.profile(input))
  const rows = (profiles[0] ?? []).map((timing) => {
    const milliseconds = median(profiles.map((profile) => profile.find(({ kernel }) => kernel === timing.kernel)?.milliseconds ?? NaN))
    return { ...timing, milliseconds }
  })
  const total = rows.reduce((sum, { milliseconds }) => sum + milliseconds, 0)
  return [
    `\n${title}: ${total.toFixed(2)} ms in kernels, ${rows.reduce((sum, { dispatches }) => sum + dispatches, 0)} dispatches`,
    '| kernel | dispatches | ms | share | µs each | GB/s | TFLOP/s |',
    '|---|--:|--:|--:|--:|--:|--:|',
    ...rows.map(({ kernel, dispatches, milliseconds, bytes, operations }) => {
      const cells = [
        milliseconds.toFixed(3),
        `${((100 * milliseconds) / total).toFixed(1)} %`,
        ((1000 * milliseconds) / dispatches).toFixed(1),
      ]
      return `| ${[kernel, dispatches, ...cells, (bytes / milliseconds / 1e6).toFixed(0), (operations / milliseconds / 1e9).toFixed(2)].join(' | ')} |`
    }),
  ]
}
