/** Programs with made-up weights, for timing: shapes and formats are real, the numbers are one repeated block of small values. */
import type { Operation, Program, RopeTable, StepInput, Value, WeightBytes, WeightFormat, WeightSpec } from '../program.ts'
import { partBytes } from '../check-program.ts'
import { linearProgramOf } from '../linear-program.ts'

/** Read again and again: larger than a chunk of upload would be, made once. */
const BLOCK_BYTES = 2 ** 20
const block = new Uint8Array(BLOCK_BYTES + 8)
for (let i = 0; i < block.length; i += 2) {
  // As bf16 0.0078…0.03, as f16 0.0005…0.005, as f32 0.01…0.03: sums of products of any length stay finite; as integers, anything.
  block[i] = (i * 37) & 0xff
  block[i + 1] = 0x3c
}

/** So many bytes of a block, which begins again at its end. */
export function repeatedBytes(bytes: Uint8Array, byteLength: number): WeightBytes {
  return {
    byteLength,
    read(offset, length) {
      const out = new Uint8Array(length)
      for (let at = 0; at < length;) {
        const from = (offset + at) % bytes.length
        const piece = bytes.subarray(from, Math.min(bytes.length, from + length - at))
        out.set(piece, at)
        at += piece.length
      }
      return Promise.resolve(out)
    },
  }
}

/** So many bytes of the block. */
export function syntheticBytes(byteLength: number): WeightBytes {
  return {
    byteLength,
    read(offset, length) {
      const data = new Uint8Array(length)
      for (let at = 0; at < length; at += BLOCK_BYTES) {
        data.set(block.subarray(offset & 1, (offset & 1) + Math.min(BLOCK_BYTES, length - at)), at)
      }
      return Promise.resolve(data)
    },
  }
}

export function syntheticWeight(id: number, rows: number, cols: number, format: WeightFormat): WeightSpec {
  const stored = partBytes(rows, cols, format)
  const name = `w${id}`
  const part = {
    name,
    rows,
    cols,
    format,
    values: syntheticBytes(stored.values),
    scale: stored.scale > 0 ? syntheticBytes(stored.scale) : null,
    zeroPoint: stored.zeroPoint > 0 ? syntheticBytes(stored.zeroPoint) : null,
    ...(format.kind === 'packed-float' && format.hasGlobalScale ? { globalScale: syntheticBytes(4) } : {}),
  }
  return { id, name, rows, cols, format, parts: [part] }
}

/** `count` different matrices against the same inputs: more bytes together than any cache holds. */
export function linearProgram(count: number, rows: number, cols: number, format: WeightFormat, tokens: number): Program {
  const input = syntheticWeight(0, tokens, cols, { kind: 'dense', dtype: 'f32' })
  const weights = Array.from({ length: count }, (_, index) => syntheticWeight(index + 1, rows, cols, format))
  return linearProgramOf(input, weights)
}

export interface DecoderShape {
  readonly layers: number
  readonly hidden: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly intermediate: number
  readonly vocabulary: number
}

/** A Llama of this shape: linears in `format`, embedding and head in bf16. */
export function decoderProgram(shape: DecoderShape, format: WeightFormat, positions: number): Program {
  const { hidden, heads, kvHeads, headDim, intermediate, vocabulary } = shape
  const bf16: WeightFormat = { kind: 'dense', dtype: 'bf16' }
  const weights: WeightSpec[] = []
  const weight = (rows: number, cols: number, stored: WeightFormat): WeightSpec => {
    const made = syntheticWeight(weights.length, rows, cols, stored)
    weights.push(made)
    return made
  }
  let ids = 0
  const value = (name: string, width: number, extent: Value['extent'] = 'tokens'): Value => ({ id: ids++, name, extent, width })
  const pairs = headDim / 2
  const angles = Float64Array.from({ length: positions * pairs }, (_, i) => Math.floor(i / pairs) / 10000 ** ((i % pairs) / pairs))
  const rope: RopeTable = { id: 0, positions, rotaryDim: headDim, cos: angles.map(Math.cos), sin: angles.map(Math.sin) }
  const x = value('hidden', hidden)
  const normed = value('normed', hidden)
  const qkv = value('qkv', (heads + 2 * kvHeads) * headDim)
  const q = value('q', heads * headDim)
  const context = value('context', heads * headDim)
  const gateUp = value('gateUp', 2 * intermediate)
  const activated = value('activated', intermediate)
  const plain = { bias: null, accumulate: false, outOffset: 0 }
  const attends = { heads, kvHeads, headDim }
  const operations: Operation[] = [{ op: 'embed', weight: weight(vocabulary, hidden, bf16), scale: 1, out: x }]
  for (let layer = 0; layer < shape.layers; layer++) {
    operations.push(
      { op: 'rmsNorm', x, weight: weight(1, hidden, bf16), epsilon: 1e-5, out: normed },
      { op: 'linear', x: normed, weight: weight(qkv.width, hidden, format), ...plain, out: qkv },
      { op: 'ropeAppend', qkv, ...attends, qNorm: null, kNorm: null, normEpsilon: 1e-5, rope, layer, q },
      { op: 'attention', q, ...attends, scale: headDim ** -0.5, window: null, layer, out: context },
      { op: 'linear', x: context, weight: weight(hidden, context.width, format), ...plain, accumulate: true, out: x },
      { op: 'rmsNorm', x, weight: weight(1, hidden, bf16), epsilon: 1e-5, out: normed },
      { op: 'linear', x: normed, weight: weight(gateUp.width, hidden, format), ...plain, out: gateUp },
      { op: 'swiglu', gateUp, out: activated },
      { op: 'linear', x: activated, weight: weight(hidden, intermediate, format), ...plain, accumulate: true, out: x },
    )
  }
  const last = value('last', hidden, 'rows')
  const final = value('final', hidden, 'rows')
  const logits = value('logits', vocabulary, 'rows')
  operations.push(
    { op: 'gatherRows', x, out: last },
    { op: 'rmsNorm', x: last, weight: weight(1, hidden, bf16), epsilon: 1e-5, out: final },
    { op: 'linear', x: final, weight: weight(vocabulary, hidden, bf16), ...plain, out: logits },
  )
  return { operations, weights, ropes: [rope], logits, vocabulary }
}

/** One sequence of `count` new tokens after `past`, last row decoded greedily. */
export function stepOf(count: number, past: number, blockSize: number, blocksPerSequence: number): StepInput {
  return batchStep(1, count, past, blockSize, blocksPerSequence)
}

/** The same of `sequences` sequences, each in blocks of its own. */
export function batchStep(sequences: number, count: number, past: number, blockSize: number, blocksPerSequence: number): StepInput {
  const tokens = sequences * count
  const sequenceOfToken = Uint32Array.from({ length: tokens }, (_, i) => Math.floor(i / count))
  const positions = Uint32Array.from({ length: tokens }, (_, i) => past + (i % count))
  const blocks = Math.ceil((past + count) / blockSize)
  const firstBlock = (sequence: number): number => 1 + sequence * blocks
  const each = Array.from({ length: sequences }, (_, sequence) => sequence)
  return {
    tokenIds: Uint32Array.from({ length: tokens }, (_, i) => i),
    positions,
    slots: positions.map((position, i) => firstBlock(sequenceOfToken[i] ?? 0) * blockSize + position),
    sequenceOfToken,
    queryStart: Uint32Array.from({ length: sequences + 1 }, (_, sequence) => sequence * count),
    sequenceLength: new Uint32Array(sequences).fill(past + count),
    blockTable: Uint32Array.from({ length: sequences * blocksPerSequence }, (_, i) => {
      const [sequence, place] = [Math.floor(i / blocksPerSequence), i % blocksPerSequence]
      return place < blocks ? firstBlock(sequence) + place : 0
    }),
    logitRows: Uint32Array.from(each, (sequence) => (sequence + 1) * count - 1),
    samplers: each.map(() => ({ temperature: 0, topK: 0, topP: 1, minP: 0, seedLow: 0, seedHigh: 0, outputIndex: 0 })),
    targets: new Uint32Array(sequences).fill(0xffffffff),
    topCount: 0,
  }
}
