/**
 * One operation at a time as a program: rows of numbers go in through an f32 embedding (token t = row t), the result comes out as the logits.
 * The same program runs on a device and on the f64 reference. Also random matrices in every stored format.
 */
import { createReferenceBackend } from '../reference/backend.ts'
import { encodeF16 } from '../reference/float16.ts'
import type {
  Backend,
  Capacity,
  Executable,
  KvCache,
  KvLayout,
  Operation,
  Program,
  RopeTable,
  StepInput,
  StepOutput,
  Value,
  WeightFormat,
  WeightPart,
  WeightSpec,
} from '../program.ts'
import { bytesOf, densePart, denseWeight } from './memory-weights.ts'

/** Uniform in [0, 1): mulberry32, so that a printed seed reproduces a case. */
export type Random = () => number

export function randomFrom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export function integer(random: Random, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1))
}

/** Roughly normal, f32 values. */
export function normals(random: Random, count: number, deviation = 1): Float32Array {
  return Float32Array.from({ length: count }, () => (random() + random() + random() + random() - 2) * 1.73 * deviation)
}

function upperHalf(value: number): number {
  return (new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0) >>> 16
}

/** A part of random weights in any format. */
export function randomPart(random: Random, name: string, rows: number, cols: number, format: WeightFormat): WeightPart {
  if (format.kind === 'dense') return densePart(name, rows, cols, normals(random, rows * cols, 0.5), format.dtype)
  if (format.kind === 'packed-float') return randomFloatPart(random, name, rows, cols, format)
  const { bits, groupSize, hasZeroPoint, scaleDtype } = format
  const groups = cols / groupSize
  const rowWords = Math.ceil((cols * bits) / 32)
  const values = new Uint32Array(rows * rowWords)
  const levels = 2 ** bits
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const bit = col * bits
      const code = integer(random, 0, levels - 1)
      values[row * rowWords + (bit >>> 5)]! |= code << (bit & 31)
      if ((bit & 31) + bits > 32) values[row * rowWords + (bit >>> 5) + 1]! |= code >>> (32 - (bit & 31))
    }
  }
  const scales = Float32Array.from({ length: rows * groups }, () => (0.01 + random()) / levels)
  const scale =
    scaleDtype === 'f32'
      ? bytesOf(scales)
      : bytesOf(Uint16Array.from(scales, scaleDtype === 'f16' ? (value) => encodeF16(value) : (value) => upperHalf(value)))
  const zeros = new Uint32Array(Math.ceil((rows * bits) / 32) * groups)
  for (let row = 0; row < rows; row++) {
    for (let group = 0; group < groups; group++) {
      const bit = row * bits
      const code = integer(random, 0, levels - 1)
      zeros[(bit >>> 5) * groups + group]! |= code << (bit & 31)
      if ((bit & 31) + bits > 32) zeros[((bit >>> 5) + 1) * groups + group]! |= code >>> (32 - (bit & 31))
    }
  }
  return { name, rows, cols, format, values: bytesOf(values), scale, zeroPoint: hasZeroPoint ? bytesOf(zeros) : null }
}

type FloatFormat = Extract<WeightFormat, { kind: 'packed-float' }>

/** Any code but E4M3's NaN; scales around 1/8, so that rows of both elements stay near 1. */
function randomFloatPart(random: Random, name: string, rows: number, cols: number, format: FloatFormat): WeightPart {
  const { element, groupSize, scaleDtype, hasGlobalScale } = format
  const values = Uint8Array.from({ length: (rows * cols) / (element === 'e4m3' ? 1 : 2) }, () => integer(random, 0, 255))
  if (element === 'e4m3') for (const [i, byte] of values.entries()) if ((byte & 0x7f) === 0x7f) values[i] = byte & 0x80
  const count = rows * Math.ceil(cols / groupSize)
  const bytes = {
    e4m3: () => bytesOf(Uint8Array.from({ length: count }, () => integer(random, 0, 0x7e))),
    e8m0: () => bytesOf(Uint8Array.from({ length: count }, () => integer(random, 118, 128))),
    f32: () => bytesOf(Float32Array.from({ length: count }, () => 0.01 + random() / 8)),
    f16: () => bytesOf(Uint16Array.from({ length: count }, () => encodeF16(0.01 + random() / 8))),
    bf16: () => bytesOf(Uint16Array.from({ length: count }, () => upperHalf(0.01 + random() / 8))),
  }
  const part = { name, rows, cols, format, values: bytesOf(values), scale: bytes[scaleDtype](), zeroPoint: null }
  return hasGlobalScale ? { ...part, globalScale: bytesOf(Float32Array.of(100 + 1000 * random())) } : part
}

export function weightOf(id: number, parts: readonly WeightPart[]): WeightSpec {
  const [first] = parts
  if (first === undefined) throw new Error('no parts')
  const rows = parts.reduce((sum, part) => sum + part.rows, 0)
  return { id, name: `weight ${id}`, parts, rows, cols: first.cols, format: first.format }
}

/** The id of the embedding that feeds a program; other weights take higher ones. */
export const INPUT_WEIGHT = 0

/** A program that feeds `rows` (each `width` long) to `operate` and reports `result` of it as logits. */
export function operationProgram(
  rows: Float32Array,
  width: number,
  operate: (x: Value) => { operations: readonly Operation[]; result: Value; weights: readonly WeightSpec[]; ropes?: readonly RopeTable[] },
): Program {
  const x: Value = { id: 0, name: 'x', extent: 'tokens', width }
  const input = denseWeight(INPUT_WEIGHT, rows.length / width, width, rows)
  const { operations, result, weights, ropes = [] } = operate(x)
  const logits: Value = { id: 1, name: 'logits', extent: 'rows', width: result.width }
  return {
    operations: [{ op: 'embed', weight: input, scale: 1, out: x }, ...operations, { op: 'gatherRows', x: result, out: logits }],
    weights: [input, ...weights],
    ropes,
    logits,
    vocabulary: result.width,
  }
}

/** One sequence of `count` new tokens after `past` cached ones, in blocks 1, 2, …; every row reported. Token t reads input row `first + t`. */
export function sequenceStep(
  count: number,
  layout: KvLayout,
  capacity: Capacity,
  options: { past?: number; first?: number; blocks?: readonly number[] } = {},
): StepInput {
  return batchStep([{ count, ...options }], layout, capacity)
}

export interface SequencePart {
  readonly count: number
  readonly past?: number
  /** Input row of its first token. */
  readonly first?: number
  readonly blocks?: readonly number[]
}

/** Several sequences in one ragged batch; every row reported, nothing sampled. */
export function batchStep(sequences: readonly SequencePart[], layout: KvLayout, capacity: Capacity): StepInput {
  const tokenIds: number[] = []
  const positions: number[] = []
  const slots: number[] = []
  const sequenceOfToken: number[] = []
  const queryStart = [0]
  const blockTable = new Uint32Array(sequences.length * capacity.blocksPerSequence)
  for (const [index, { count, past = 0, first = 0, blocks }] of sequences.entries()) {
    const needed = Math.ceil((past + count) / layout.blockSize)
    const table = blocks?.slice(0, needed) ?? Array.from({ length: needed }, (_, i) => i + 1)
    blockTable.set(table, index * capacity.blocksPerSequence)
    for (let i = 0; i < count; i++) {
      const position = past + i
      tokenIds.push(first + i)
      positions.push(position)
      slots.push(table[Math.floor(position / layout.blockSize)]! * layout.blockSize + (position % layout.blockSize))
      sequenceOfToken.push(index)
    }
    queryStart.push(tokenIds.length)
  }
  return {
    tokenIds: Uint32Array.from(tokenIds),
    positions: Uint32Array.from(positions),
    slots: Uint32Array.from(slots),
    sequenceOfToken: Uint32Array.from(sequenceOfToken),
    queryStart: Uint32Array.from(queryStart),
    sequenceLength: Uint32Array.from(sequences, ({ count, past = 0 }) => past + count),
    blockTable,
    logitRows: Uint32Array.from(tokenIds.keys()),
    samplers: tokenIds.map(() => null),
    targets: new Uint32Array(tokenIds.length).fill(0xffffffff),
    topCount: 0,
  }
}

/** A cache for programs without attention. */
export const NO_CACHE: KvLayout = { layers: 1, kvHeads: 1, headDim: 2, blockSize: 32, blocks: 9, dtype: 'f32' }

export interface Prepared extends Disposable {
  readonly executable: Executable
  readonly kv: KvCache
}

/** Compiles with memory of its own; disposing releases both. */
export async function prepare(backend: Backend, program: Program, layout: KvLayout, capacity: Capacity): Promise<Prepared> {
  const kv = await backend.createKvCache(layout, 'test')
  try {
    const executable = await backend.compile(program, { capacity, kv, owner: 'test', keepValues: true })
    const dispose = (): void => {
      executable[Symbol.dispose]()
      kv[Symbol.dispose]()
    }
    return { executable, kv, [Symbol.dispose]: dispose }
  } catch (error) {
    kv[Symbol.dispose]()
    throw error
  }
}

/** The logits, [rows, vocabulary], of one step. */
export async function logitsOf(prepared: Prepared, input: StepInput): Promise<Float32Array> {
  await prepared.executable.step(input)
  return prepared.executable.read(prepared.executable.program.logits)
}

export interface OracleResult {
  readonly logits: Float32Array
  readonly output: StepOutput
}

/** The same steps on the f64 reference; logits of the last. */
export async function oracle(program: Program, layout: KvLayout, capacity: Capacity, inputs: readonly StepInput[]): Promise<OracleResult> {
  await using reference = createReferenceBackend()
  using prepared = await prepare(reference, program, layout, capacity)
  let output: StepOutput | null = null
  for (const input of inputs) output = await prepared.executable.step(input)
  if (output === null) throw new Error('no steps')
  return { logits: await prepared.executable.read(program.logits), output }
}

/** Largest |a − b| / (scale of element), where `scale` says how large the terms of that element's sum are. */
export function worstError(found: Float32Array, expected: Float32Array, scale: (index: number) => number): number {
  if (found.length !== expected.length) return Infinity
  let worst = 0
  for (const [index, value] of found.entries()) {
    const error = Math.abs(value - (expected[index] ?? NaN)) / scale(index)
    if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error
  }
  return worst
}
