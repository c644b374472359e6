/** A two-layer decoder with random weights that uses every operation and most stored formats; small enough for many runs on software adapters. */
import type { Capacity, KvLayout, Operation, Program, RopeTable, Value, WeightFormat, WeightSpec } from '../program.ts'
import { denseWeight } from './memory-weights.ts'
import { normals, type Random, randomFrom, randomPart, weightOf } from './numeric.ts'

const HIDDEN = 64
const HEADS = 4
const KV_HEADS = 2
const HEAD_DIM = 16
/** Not a multiple of 32, a kernel's unit; of 8, so that fused zero points fill whole words. */
const INTERMEDIATE = 168
const LAYERS = 2
export const SMALL_VOCABULARY = 500
const POSITIONS = 256

export const smallLayout: KvLayout = { layers: LAYERS, kvHeads: KV_HEADS, headDim: HEAD_DIM, blockSize: 8, blocks: 100, dtype: 'f16' }
export const smallCapacity: Capacity = { tokens: 128, rows: 128, sequences: 8, blocksPerSequence: POSITIONS / smallLayout.blockSize }

const BF16: WeightFormat = { kind: 'dense', dtype: 'bf16' }
const INT4: WeightFormat = { kind: 'packed-int', bits: 4, groupSize: 32, hasZeroPoint: true, scaleDtype: 'bf16' }
const INT8: WeightFormat = { kind: 'packed-int', bits: 8, groupSize: 64, hasZeroPoint: false, scaleDtype: 'f16' }
/** Channel-wise over all columns. */
const INT4_CHANNEL: WeightFormat = { kind: 'packed-int', bits: 4, groupSize: INTERMEDIATE, hasZeroPoint: false, scaleDtype: 'bf16' }

function ropeTable(): RopeTable {
  const pairs = HEAD_DIM / 2
  const angles = Array.from({ length: POSITIONS * pairs }, (_, i) => Math.floor(i / pairs) / 10000 ** ((i % pairs) / pairs))
  return {
    id: 0,
    positions: POSITIONS,
    rotaryDim: HEAD_DIM,
    cos: Float64Array.from(angles, Math.cos),
    sin: Float64Array.from(angles, Math.sin),
  }
}

/** `seed` changes the weights and nothing else. */
export function smallProgram(seed = 1): Program {
  const random: Random = randomFrom(seed)
  const weights: WeightSpec[] = []
  const matrix = (rows: readonly number[], cols: number, format: WeightFormat): WeightSpec => {
    const parts = rows.map((count, index) => randomPart(random, `part ${index}`, count, cols, format))
    weights.push(weightOf(weights.length, parts))
    return weights.at(-1)!
  }
  const vector = (length: number): WeightSpec => {
    weights.push(
      denseWeight(
        weights.length,
        1,
        length,
        normals(random, length, 0.3).map((value) => 1 + value),
        'bf16',
      ),
    )
    return weights.at(-1)!
  }
  let ids = 0
  const value = (name: string, width: number, extent: Value['extent'] = 'tokens'): Value => ({ id: ids++, name, extent, width })
  const rope = ropeTable()
  const table = matrix([SMALL_VOCABULARY], HIDDEN, BF16)
  const hidden = value('hidden', HIDDEN)
  const operations: Operation[] = [{ op: 'embed', weight: table, scale: 1, out: hidden }]
  const heads = { heads: HEADS, kvHeads: KV_HEADS, headDim: HEAD_DIM }
  const plain = { bias: null, accumulate: false, outOffset: 0 }
  const kv = KV_HEADS * HEAD_DIM
  for (let layer = 0; layer < LAYERS; layer++) {
    const odd = layer % 2 === 1
    const [normed, qkv, q] = [value('normed', HIDDEN), value('qkv', HEADS * HEAD_DIM + 2 * kv), value('q', HEADS * HEAD_DIM)]
    const [context, gateUp, activated] = [
      value('context', HEADS * HEAD_DIM),
      value('gateUp', 2 * INTERMEDIATE),
      value('activated', INTERMEDIATE),
    ]
    const stored = odd ? INT8 : INT4
    operations.push(
      { op: 'rmsNorm', x: hidden, weight: vector(HIDDEN), epsilon: 1e-5, out: normed },
      { op: 'linear', x: normed, weight: matrix([HEADS * HEAD_DIM, kv, kv], HIDDEN, stored), ...plain, bias: vector(qkv.width), out: qkv },
      {
        op: 'ropeAppend',
        qkv,
        ...heads,
        qNorm: odd ? vector(HEAD_DIM) : null,
        kNorm: odd ? vector(HEAD_DIM) : null,
        normEpsilon: 1e-5,
        rope,
        layer,
        q,
      },
      { op: 'attention', q, ...heads, scale: HEAD_DIM ** -0.5, window: odd ? 37 : null, layer, out: context },
      { op: 'linear', x: context, weight: matrix([HIDDEN], HEADS * HEAD_DIM, odd ? BF16 : INT8), ...plain, accumulate: true, out: hidden },
      { op: 'rmsNorm', x: hidden, weight: vector(HIDDEN), epsilon: 1e-5, out: normed },
      { op: 'linear', x: normed, weight: matrix([INTERMEDIATE, INTERMEDIATE], HIDDEN, stored), ...plain, out: gateUp },
      { op: 'swiglu', gateUp, out: activated },
      {
        op: 'linear',
        x: activated,
        weight: matrix([HIDDEN], INTERMEDIATE, odd ? BF16 : INT4_CHANNEL),
        ...plain,
        accumulate: true,
        out: hidden,
      },
    )
  }
  const [last, normed, logits] = [value('last', HIDDEN, 'rows'), value('final', HIDDEN, 'rows'), value('logits', SMALL_VOCABULARY, 'rows')]
  operations.push(
    { op: 'gatherRows', x: hidden, out: last },
    { op: 'rmsNorm', x: last, weight: vector(HIDDEN), epsilon: 1e-5, out: normed },
    { op: 'linear', x: normed, weight: table, ...plain, out: logits },
  )
  return { operations, weights, ropes: [rope], logits, vocabulary: SMALL_VOCABULARY }
}
