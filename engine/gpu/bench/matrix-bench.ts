/**
 * Linears on matrix units (tensor cores) beside the kernels that run by default: `node engine/gpu/bench/matrix-bench.ts [adapter] [--tokens 64,256,1024]
 * [--shapes 14336x4096] [--formats BF16,…] [--tiles all]`. Prints what the adapter lists, then per format, shape and tile TFLOP/s by GPU timestamps (the median of
 * several, halving of inputs included) and the worst error of sampled results against f64, as a share of √Σ(w·x)², which eleven-bit factors keep below
 * 5·2⁻¹² = 0.0012. A tile that does not compile prints why, and the next one is tried. `null` as the adapter validates the kernels and times nothing.
 */
import { parseArgs } from 'node:util'
import { partBytes } from '../check-program.ts'
import type { Executable, KernelTiming, KvLayout, Program, WeightBytes, WeightFormat, WeightPart, WeightSpec } from '../program.ts'
import { decodeWeight } from '../reference/decode-weight.ts'
import { linearProgramOf } from '../linear-program.ts'
import { openNullDevice } from '../test/null-backend.ts'
import { openBackend, WebGpuBackend } from '../webgpu/backend.ts'
import { type MatrixMode, type MatrixTile, tileBytes } from '../webgpu/matrix-units.ts'
import { gpuTuning } from '../webgpu/tuning.ts'
import { repeatedBytes, stepOf } from './synthetic.ts'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '64,256,1024' },
    shapes: { type: 'string', default: '14336x4096' },
    formats: { type: 'string', default: 'BF16,W4A16 g128,F16,W8A16 g128' },
    tiles: { type: 'string', default: 'all' },
    repeats: { type: 'string', default: '5' },
  },
})
const tokenCounts = values.tokens.split(',').map(Number)
const shapes = values.shapes.split(',').map((text) => text.split('x').map(Number))
const repeats = Number(values.repeats)
const isNull = positionals[0] === 'null'
const BLOCK_SIZE = 32
/** An idle GPU lowers its clock; steps not counted raise it again. */
const FIRST_WARM_UP_MS = 1500
const WARM_UP_MS = 60
const TOLERANCE = 5 * 2 ** -12

const packed = (bits: 4 | 8): WeightFormat => ({ kind: 'packed-int', bits, groupSize: 128, hasZeroPoint: false, scaleDtype: 'bf16' })
const FORMATS: Readonly<Record<string, WeightFormat>> = {
  BF16: { kind: 'dense', dtype: 'bf16' },
  F16: { kind: 'dense', dtype: 'f16' },
  'W8A16 g128': packed(8),
  'W4A16 g128': packed(4),
}

interface Variant {
  readonly name: string
  readonly mode: MatrixMode | null
}

function shapeOf(columns: number, rows: number, grid: readonly [number, number], buffers: 1 | 2, direct = false): MatrixTile {
  return { columns, rows, gridColumns: grid[0], gridRows: grid[1], buffers, direct }
}

function variantsFor(backend: WebGpuBackend): readonly Variant[] {
  const { gpu } = backend
  const config = gpu.matrixConfigs.find(
    ({ componentType, resultComponentType }) => componentType === 'f16' && resultComponentType === 'f32',
  )
  if (config === undefined) return []
  const units = { m: config.M, n: config.N, k: config.K, lanes: gpu.subgroupSize ?? 32, emulated: false }
  const candidates: readonly (readonly [string, number, MatrixTile])[] = [
    ['128×128 k32, 4 groups', 32, shapeOf(128, 128, [2, 2], 1)],
    ['128×128 k32, 4 groups, double', 32, shapeOf(128, 128, [2, 2], 2)],
    ['128×128 k64, 8 groups', 64, shapeOf(128, 128, [2, 4], 1)],
    ['128×128 k32, 8 groups, double', 32, shapeOf(128, 128, [2, 4], 2)],
    ['128×128 k32, 4 groups, direct', 32, shapeOf(128, 128, [2, 2], 2, true)],
    ['64×128 k32, 4 groups, double', 32, shapeOf(64, 128, [1, 4], 2)],
    ['64×64 k64, 4 groups, double', 64, shapeOf(64, 64, [2, 2], 2)],
    ['128×64 k64, 4 groups, direct', 64, shapeOf(128, 64, [2, 2], 2, true)],
    ['64×64 k64, 4 groups', 64, shapeOf(64, 64, [2, 2], 1)],
    ['64×128 k64, 8 groups', 64, shapeOf(64, 128, [2, 4], 1)],
    ['128×64 k64, 8 groups', 64, shapeOf(128, 64, [4, 2], 1)],
    ['32×64 k64, 4 groups', 64, shapeOf(32, 64, [1, 4], 1)],
    ['128×128 k64, 4 groups', 64, shapeOf(128, 128, [2, 2], 1)],
  ]
  // The null device has the least workgroup memory that WebGPU allows.
  const small: typeof candidates = [
    ['64×64', 32, shapeOf(64, 64, [2, 2], 1)],
    ['32×64 double', 32, shapeOf(32, 64, [1, 2], 2)],
    ['64×64 k64 direct', 64, shapeOf(64, 64, [2, 2], 1, true)],
    ['64×64 direct, double', 32, shapeOf(64, 64, [2, 2], 2, true)],
  ]
  const all = isNull ? small : candidates
  const chosen =
    values.tiles === 'all'
      ? all
      : values.tiles.split(',').flatMap((index) => {
          const tile = all[Number(index)]
          return tile === undefined ? [] : [tile]
        })
  return chosen.map(([name, stage, tile]) => ({ name, mode: { units, leastColumns: 1, stage, tiles: [tile] } }))
}

/** Bytes of a random block that is as long as no row is, again and again. */
function randomBytes(byteLength: number, seed: number, fix: (words: Uint16Array) => void): WeightBytes {
  const block = new Uint16Array(524_309)
  let state = seed
  for (let i = 0; i < block.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    block[i] = state >>> 16
  }
  fix(block)
  return repeatedBytes(new Uint8Array(block.buffer), byteLength)
}

/** Magnitudes from 2^-12 to 2^-5 of either sign, as bf16 or f16; scales are positive. */
const smallBf16 = (words: Uint16Array): void => words.forEach((word, i) => (words[i] = (word & 0x807f) | ((((word >> 7) % 8) + 115) << 7)))
const smallF16 = (words: Uint16Array): void => words.forEach((word, i) => (words[i] = (word & 0x83ff) | ((((word >> 10) % 8) + 3) << 10)))
const scaleBf16 = (words: Uint16Array): void => words.forEach((word, i) => (words[i] = (word & 0x7f) | ((((word >> 7) % 4) + 117) << 7)))

function partOf(rows: number, cols: number, format: WeightFormat): WeightPart {
  const bytes = partBytes(rows, cols, format)
  const isDense = format.kind === 'dense'
  const fix = isDense ? (format.dtype === 'f16' ? smallF16 : smallBf16) : (): void => {}
  return {
    name: 'weight',
    rows,
    cols,
    format,
    values: randomBytes(bytes.values, 7, fix),
    scale: isDense ? null : randomBytes(bytes.scale, 11, scaleBf16),
    zeroPoint: null,
  }
}

/** One row of a part, alone. */
function rowOf(part: WeightPart, row: number): WeightSpec {
  const slice = (bytes: WeightBytes): WeightBytes => {
    const length = bytes.byteLength / part.rows
    return { byteLength: length, read: (offset, count) => bytes.read(row * length + offset, count) }
  }
  const alone = { ...part, rows: 1, values: slice(part.values), scale: part.scale === null ? null : slice(part.scale) }
  return { id: 1, name: 'row', rows: 1, cols: part.cols, format: part.format, parts: [alone] }
}

const mostTokens = Math.max(...tokenCounts)
/** Row t is normal, scaled by one of these: halves hold neither 10⁶ nor 10⁻⁹. */
const INPUT_SCALES = [1, 1, 1e6, 1e-9]

function inputsOf(cols: number): Float32Array<ArrayBuffer> {
  let state = 99
  const draw = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
  return Float32Array.from({ length: mostTokens * cols }, (_, i) => {
    return (draw() + draw() + draw() - 1.5) * 2 * (INPUT_SCALES[Math.floor(i / cols) % INPUT_SCALES.length] ?? 1)
  })
}

function programOf(part: WeightPart, inputs: Float32Array<ArrayBuffer>): Program {
  const { rows, cols, format } = part
  const bytes = new Uint8Array(inputs.buffer)
  const whole: WeightBytes = {
    byteLength: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  }
  const f32: WeightFormat = { kind: 'dense', dtype: 'f32' }
  const input: WeightSpec = {
    id: 0,
    name: 'inputs',
    rows: mostTokens,
    cols,
    format: f32,
    parts: [{ name: 'inputs', rows: mostTokens, cols, format: f32, values: whole, scale: null, zeroPoint: null }],
  }
  const weight: WeightSpec = { id: 1, name: 'weight', rows, cols, format, parts: [part] }
  return linearProgramOf(input, [weight])
}

/** Milliseconds of the linear and of what it needs before it. */
function linearMs(timings: readonly KernelTiming[]): number {
  return timings
    .filter(({ kernel }) => kernel.startsWith('linear') || kernel.startsWith('halve'))
    .reduce((sum, { milliseconds }) => sum + milliseconds, 0)
}

/** Worst |error| / √Σ(w·x)² over corners and a scattering of the results of the last step, of `tokens` tokens. */
async function worstError(executable: Executable, part: WeightPart, inputs: Float32Array, tokens: number): Promise<number> {
  const [, linear] = executable.program.operations
  if (linear?.op !== 'linear') return NaN
  const found = await executable.read(linear.out)
  let worst = 0
  for (let sample = 0; sample < 24; sample++) {
    const row = sample === 0 ? 0 : sample === 1 ? part.rows - 1 : (sample * 7919) % part.rows
    const weights = await decodeWeight(rowOf(part, row))
    for (let other = 0; other < 12; other++) {
      const token = other === 0 ? 0 : other === 1 ? tokens - 1 : (other * 104_729) % tokens
      let sum = 0
      let squares = 0
      for (let k = 0; k < part.cols; k++) {
        const term = (weights[k] ?? NaN) * (inputs[token * part.cols + k] ?? NaN)
        sum += term
        squares += term * term
      }
      const error = Math.abs((found[token * part.rows + row] ?? NaN) - sum) / Math.sqrt(squares)
      if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error
    }
  }
  return worst
}

async function open(): Promise<WebGpuBackend> {
  if (isNull) return new WebGpuBackend(await openNullDevice(), gpuTuning(), null)
  const opened = await openBackend(positionals[0] ?? null)
  if (!(opened instanceof WebGpuBackend)) throw new Error('this benchmark needs a WebGPU adapter')
  return opened
}

const backend = await open()
const { gpu } = backend
console.log(
  `${backend.id}: subgroups of ${gpu.subgroupSize ?? 'several sizes'}, workgroup memory ${gpu.limits.maxComputeWorkgroupStorageSize}`,
)
console.log(`features: ${[...gpu.features].join(' ')}`)
console.log(`matrix products: ${gpu.matrixConfigs.map((config) => Object.values(config).join(' ')).join(', ') || 'none'}`)
const matrixVariants = variantsFor(backend)
console.log(
  '\n| format | rows × cols | tile (columns × rows) | ' +
    tokenCounts.map((tokens) => `${tokens} tok ms | TFLOP/s | `).join('') +
    'worst error | compile s |',
)
console.log(`|---|---|---|${'--:|--:|'.repeat(tokenCounts.length)}--:|--:|`)
let warm = isNull
for (const [rows = 0, cols = 0] of shapes) {
  const inputs = inputsOf(cols)
  for (const name of values.formats.split(',')) {
    const format = FORMATS[name]
    if (format === undefined) throw new Error(`no format ${name}`)
    const part = partOf(rows, cols, format)
    for (const variant of [{ name: 'default kernels', mode: null }, ...matrixVariants]) {
      const label = `| ${name} | ${rows} × ${cols} | ${variant.name} |`
      try {
        const bytes = variant.mode === null ? 0 : Math.max(...variant.mode.tiles.map((tile) => tileBytes(variant.mode ?? never(), tile)))
        if (bytes > gpu.limits.maxComputeWorkgroupStorageSize && !isNull) throw new Error(`needs ${bytes} bytes of workgroup memory`)
        console.log(`${label} ${(await measure(part, inputs, variant)).join(' | ')} |`)
      } catch (thrown) {
        console.log(`${label} ${thrown instanceof Error ? thrown.message.slice(0, 400).replaceAll('\n', ' ') : String(thrown)} |`)
      }
    }
  }
}
await backend[Symbol.asyncDispose]()

function never(): never {
  throw new Error('unreachable')
}

async function measure(part: WeightPart, inputs: Float32Array<ArrayBuffer>, { mode }: Variant): Promise<readonly string[]> {
  const on = new WebGpuBackend(backend.gpu, backend.tuning, null, mode)
  const layout: KvLayout = { layers: 1, kvHeads: 1, headDim: 2, blockSize: BLOCK_SIZE, blocks: mostTokens / BLOCK_SIZE + 2, dtype: 'f32' }
  const blocksPerSequence = Math.ceil(mostTokens / BLOCK_SIZE)
  using kv = await on.createKvCache(layout, 'bench')
  const started = performance.now()
  using executable = await on.compile(programOf(part, inputs), {
    capacity: { tokens: mostTokens, rows: 1, sequences: 1, blocksPerSequence },
    kv,
    owner: 'bench',
    keepValues: true,
    matrixUnits: mode !== null,
  })
  const cells: string[] = []
  let worst = NaN
  for (const [index, tokens] of tokenCounts.entries()) {
    const input = stepOf(tokens, 0, BLOCK_SIZE, blocksPerSequence)
    await executable.step(input)
    if (index === 0) worst = isNull ? NaN : await worstError(executable, part, inputs, tokens)
    const warmUpMs = isNull ? 0 : warm ? WARM_UP_MS : FIRST_WARM_UP_MS
    for (const end = performance.now() + warmUpMs; performance.now() < end;) await executable.step(input)
    warm = true
    const times: number[] = []
    for (let i = 0; i < (isNull ? 1 : repeats); i++) times.push(linearMs(await executable.profile(input)))
    const median = times.toSorted((a, b) => a - b)[repeats >> 1] ?? NaN
    cells.push(median.toFixed(4), ((2 * part.rows * part.cols * tokens) / median / 1e9).toFixed(1))
  }
  const compiled = ((performance.now() - started) / 1000).toFixed(1)
  return [...cells, `${worst.toPrecision(2)}${worst <= TOLERANCE || isNull ? '' : ' WRONG'}`, compiled]
}
