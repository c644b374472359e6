/**
 * How fast the linear kernels read packed weights: one matrix of a memory-bound shape per stored format, timed by GPU timestamps, beside the
 * adapter's own streaming-read rate measured in the same run. Prints a table. Usage: node engine/gpu/bench/linear-bench.ts [adapter]
 * [--rows 14336] [--cols 4096] [--tokens 1,8,64]. Weights are a repeated pattern of ordinary values: speed does not depend on them.
 */
import { parseArgs } from 'node:util'
import { partBytes } from '../check-program.ts'
import { openBackend } from '../webgpu/backend.ts'
import { repeatedBytes } from './synthetic.ts'
import type {
  InputQuantization,
  IntegerBits,
  KernelTiming,
  Program,
  StepInput,
  Value,
  WeightBytes,
  WeightFormat,
  WeightPart,
  WeightSpec,
} from '../program.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string', default: '14336' },
    cols: { type: 'string', default: '4096' },
    tokens: { type: 'string', default: '1,8,64,256' },
    repeats: { type: 'string', default: '7' },
  },
})
const rows = Number(values.rows)
const cols = Number(values.cols)
const tokenCounts = values.tokens.split(',').map(Number)
const repeats = Number(values.repeats)
/** Between formats the host packs and compiles, and an idle GPU lowers its clock to a sixth: steps not counted raise it again. */
const warmUpMs = 400
const firstWarmUpMs = 1500

const dense = (dtype: 'f32' | 'f16' | 'bf16'): WeightFormat => ({ kind: 'dense', dtype })
function integers(bits: IntegerBits, groupSize: number, hasZeroPoint = false): WeightFormat {
  return { kind: 'packed-int', bits, groupSize, hasZeroPoint, scaleDtype: 'bf16' }
}
function floats(element: 'e4m3' | 'e2m1', groupSize: number, scaleDtype: 'bf16' | 'e4m3' | 'e8m0'): WeightFormat {
  return { kind: 'packed-float', element, groupSize, scaleDtype, hasGlobalScale: scaleDtype === 'e4m3' }
}
function perToken(element: 'int8' | 'e4m3'): InputQuantization {
  return { element, scale: 'token', groupSize: null, scaleDtype: 'f32', staticScale: null, staticDtype: 'f32' }
}

interface Row {
  readonly name: string
  readonly format: WeightFormat
  /** How inputs are rounded; that pass is not part of the time. */
  readonly input?: InputQuantization
  /** Two of every four weights are zero. */
  readonly sparse?: boolean
}

const FORMATS: readonly Row[] = [
  { name: 'F32', format: dense('f32') },
  { name: 'BF16', format: dense('bf16') },
  { name: 'F16', format: dense('f16') },
  { name: 'BF16 2:4', format: dense('bf16'), sparse: true },
  { name: 'W8A16 channel', format: integers(8, cols) },
  { name: 'W8A8', format: integers(8, cols), input: perToken('int8') },
  { name: 'W8A8 2:4', format: integers(8, cols), input: perToken('int8'), sparse: true },
  { name: 'W4A16 g128', format: integers(4, 128) },
  { name: 'W4A16 g128 2:4', format: integers(4, 128), sparse: true },
  { name: 'W4A16 g32 asym', format: integers(4, 32, true) },
  { name: 'W2A16 g128', format: integers(2, 128) },
  { name: 'W3A16 g128', format: integers(3, 128) },
  { name: 'W6A16 g128', format: integers(6, 128) },
  { name: 'FP8 weight only', format: floats('e4m3', cols, 'bf16') },
  { name: 'FP8_DYNAMIC', format: floats('e4m3', cols, 'bf16'), input: perToken('e4m3') },
  { name: 'FP8_BLOCK weights', format: floats('e4m3', 128, 'bf16') },
  { name: 'NVFP4A16', format: floats('e2m1', 16, 'e4m3') },
  { name: 'MXFP4A16', format: floats('e2m1', 32, 'e8m0') },
  { name: 'MXFP8A16', format: floats('e4m3', 32, 'e8m0') },
]

/** 1 MiB of a 4-byte pattern, handed out again and again. */
function pattern(byteLength: number, word: number, wordAt = (i: number): number => word + (i & 7)): WeightBytes {
  const block = new Uint8Array(Uint32Array.from({ length: 2 ** 18 }, (_, i) => wordAt(i) >>> 0).buffer)
  return repeatedBytes(block, byteLength)
}

const BF16_PAIR = 0x3c003c00
const F16_PAIR = 0x20002000
const F32_ONE = 0x3c000000

/** Words of weights of which two in four are zero: half of each quad of 16-, 8- or 4-bit codes. */
function sparseWord(format: WeightFormat): (i: number) => number {
  if (format.kind === 'dense') return (i) => (i % 2 === 0 ? BF16_PAIR + (i & 6) : 0)
  return format.kind === 'packed-int' && format.bits === 4 ? () => 0x88768856 : (i) => 0x80807050 + (i & 7)
}

function partOf(name: string, format: WeightFormat, partRows: number, partCols: number, sparse = false): WeightPart {
  const base = { name, rows: partRows, cols: partCols, format }
  if (format.kind === 'dense') {
    const word = format.dtype === 'f32' ? F32_ONE : format.dtype === 'f16' ? F16_PAIR : BF16_PAIR
    const bytes = partRows * partCols * (format.dtype === 'f32' ? 4 : 2)
    return { ...base, values: pattern(bytes, word, sparse ? sparseWord(format) : undefined), scale: null, zeroPoint: null }
  }
  const bytes = partBytes(partRows, partCols, format)
  // The same pattern is a scale near 1 in BF16, 1 in E4M3 and 1 in E8M0.
  const scaleWord = format.scaleDtype === 'e4m3' ? 0x38383838 : format.scaleDtype === 'e8m0' ? 0x7f7f7f7f : BF16_PAIR
  return {
    ...base,
    values: pattern(bytes.values, 0x76543210, sparse ? sparseWord(format) : undefined),
    scale: pattern(bytes.scale, scaleWord),
    zeroPoint: bytes.zeroPoint === 0 ? null : pattern(bytes.zeroPoint, 0x88888888),
    ...(format.kind === 'packed-float' && format.hasGlobalScale ? { globalScale: pattern(4, F32_ONE) } : {}),
  }
}

function value(id: number, name: string, width: number, extent: Value['extent']): Value {
  return { id, name, extent, width }
}

function programOf({ format, input, sparse = false }: Row): Program {
  const spec = (id: number, name: string, weightFormat: WeightFormat, r: number): WeightSpec => ({
    id,
    name,
    rows: r,
    cols,
    format: weightFormat,
    parts: [partOf(name, weightFormat, r, cols, sparse && id === 1)],
  })
  const embedding = spec(0, 'embedding', { kind: 'dense', dtype: 'f32' }, 8)
  const weight = spec(1, 'weight', format, rows)
  const head = spec(2, 'head', { kind: 'dense', dtype: 'f32' }, 8)
  const [x, out, last, logits] = [
    value(0, 'x', cols, 'tokens'),
    value(1, 'out', rows, 'tokens'),
    value(2, 'last', cols, 'rows'),
    value(3, 'logits', 8, 'rows'),
  ]
  const plain = { bias: null, accumulate: false, outOffset: 0 }
  return {
    operations: [
      { op: 'embed', weight: embedding, scale: 1, out: x },
      { op: 'linear', x, weight, ...plain, out, ...(input === undefined ? {} : { inputQuantization: input }) },
      { op: 'gatherRows', x, out: last },
      { op: 'linear', x: last, weight: head, ...plain, out: logits },
    ],
    weights: [embedding, weight, head],
    ropes: [],
    logits,
    vocabulary: 8,
  }
}

function stepOf(tokens: number): StepInput {
  return {
    tokenIds: Uint32Array.from({ length: tokens }, (_, i) => i % 8),
    positions: Uint32Array.from({ length: tokens }, (_, i) => i),
    slots: Uint32Array.from({ length: tokens }, (_, i) => 16 + i),
    sequenceOfToken: new Uint32Array(tokens),
    queryStart: Uint32Array.of(0, tokens),
    sequenceLength: Uint32Array.of(tokens),
    blockTable: Uint32Array.from({ length: blocksPerSequence }, (_, i) => i + 1),
    logitRows: Uint32Array.of(tokens - 1),
    samplers: [null],
    targets: Uint32Array.of(0),
    topCount: 0,
  }
}

const capacityTokens = Math.max(...tokenCounts)
const blocksPerSequence = Math.ceil(capacityTokens / 16)

function linearMilliseconds(timings: readonly KernelTiming[]): KernelTiming | undefined {
  // The 8-row head is a linear too; the matrix under test moves all the bytes.
  return timings.filter((timing) => timing.kernel.includes('linear')).toSorted((a, b) => b.bytes - a.bytes)[0]
}

await using backend = await openBackend(positionals[0] ?? null, { profile: 'production' })
console.log(`${backend.id}${backend.software ? ' (software)' : ''}: ${rows} × ${cols}, median of ${repeats} profiled steps\n`)
console.log(`| format | MB | ${tokenCounts.map((tokens) => `${tokens} tok ms | GB/s | TFLOP/s`).join(' | ')} | decode vs BF16 |`)
console.log(`|---|--:|${tokenCounts.map(() => '--:|--:|--:').join('|')}|--:|`)
let bf16Decode: number | null = null
for (const row of FORMATS) {
  const { name } = row
  using kv = await backend.createKvCache(
    { layers: 1, kvHeads: 1, headDim: 2, blockSize: 16, blocks: blocksPerSequence + 1, dtype: 'f32' },
    'bench',
  )
  using executable = await backend.compile(programOf(row), {
    capacity: { tokens: capacityTokens, rows: 1, sequences: 1, blocksPerSequence },
    kv,
    owner: 'bench',
  })
  const cells: string[] = []
  let decodeMs = Number.NaN
  let megabytes = 0
  for (const tokens of tokenCounts) {
    const step = stepOf(tokens)
    await executable.step(step)
    const warm = tokens === tokenCounts[0] && !backend.software ? firstWarmUpMs : warmUpMs
    for (const end = performance.now() + warm; performance.now() < end;) await executable.step(step)
    const times: number[] = []
    let bytes = 0
    for (let i = 0; i < repeats; i++) {
      const timing = linearMilliseconds(await executable.profile(step))
      if (timing === undefined) throw new Error('the profile names no linear kernel')
      times.push(timing.milliseconds)
      bytes = timing.bytes
    }
    const median = times.toSorted((a, b) => a - b)[repeats >> 1] ?? Number.NaN
    if (tokens === tokenCounts[0]) {
      decodeMs = median
      megabytes = bytes / 1e6
    }
    cells.push(`${median.toFixed(4)} | ${(bytes / median / 1e6).toFixed(0)} | ${((2 * rows * cols * tokens) / median / 1e9).toFixed(2)}`)
  }
  if (name === 'BF16') bf16Decode = decodeMs
  console.log(
    `| ${name} | ${megabytes.toFixed(1)} | ${cells.join(' | ')} | ${bf16Decode === null ? '—' : (bf16Decode / decodeMs).toFixed(2)} |`,
  )
}
