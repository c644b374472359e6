/** A one-layer decoder with weights from a fixed sequence, for tests of backends: all operations, 8 tokens of vocabulary, 2 heads over 1. */
import type { Capacity, KvLayout, Program, StepInput, Value, WeightSpec } from '../program.ts'
import { denseWeight } from './memory-weights.ts'

export const tinyCapacity: Capacity = { tokens: 4, rows: 4, sequences: 2, blocksPerSequence: 2 }
export const tinyLayout: KvLayout = { layers: 1, kvHeads: 1, headDim: 2, blockSize: 2, blocks: 5, dtype: 'f32' }

export function tinyProgram(): Program {
  const weights: WeightSpec[] = []
  const weight = (rows: number, cols: number): WeightSpec => {
    const id = weights.length
    // Quarters in −1.25 … 1.25, different for each weight, exact in every dtype.
    const values = Array.from({ length: rows * cols }, (_, i) => (((i * 7 + id * 3) % 11) - 5) / 4)
    const spec = denseWeight(id, rows, cols, values)
    weights.push(spec)
    return spec
  }
  let ids = 0
  const value = (name: string, width: number, extent: Value['extent'] = 'tokens'): Value => ({ id: ids++, name, extent, width })
  const cos = Float64Array.from({ length: 4 }, (_, position) => Math.cos(position))
  const sin = Float64Array.from({ length: 4 }, (_, position) => Math.sin(position))
  const rope = { id: 0, positions: 4, rotaryDim: 2, cos, sin }
  const [hidden, normed, qkv, q] = [value('hidden', 3), value('normed', 3), value('qkv', 8), value('q', 4)]
  const [context, gateUp, activated] = [value('context', 4), value('gateUp', 4), value('activated', 2)]
  const [last, logits] = [value('last', 3, 'rows'), value('logits', 8, 'rows')]
  const heads = { heads: 2, kvHeads: 1, headDim: 2, layer: 0 }
  const plain = { bias: null, accumulate: false, outOffset: 0 }
  return {
    operations: [
      { op: 'embed', weight: weight(8, 3), scale: 1, out: hidden },
      { op: 'rmsNorm', x: hidden, weight: weight(1, 3), epsilon: 1e-5, out: normed },
      { op: 'linear', x: normed, weight: weight(4, 3), ...plain, bias: weight(1, 4), out: qkv },
      { op: 'linear', x: normed, weight: weight(4, 3), ...plain, outOffset: 4, out: qkv },
      { op: 'ropeAppend', qkv, ...heads, qNorm: null, kNorm: weight(1, 2), normEpsilon: 1e-5, rope, q },
      { op: 'attention', q, ...heads, scale: 0.5, window: null, out: context },
      { op: 'linear', x: context, weight: weight(3, 4), ...plain, accumulate: true, out: hidden },
      { op: 'linear', x: hidden, weight: weight(4, 3), ...plain, out: gateUp },
      { op: 'swiglu', gateUp, out: activated },
      { op: 'linear', x: activated, weight: weight(3, 2), ...plain, accumulate: true, out: hidden },
      { op: 'gatherRows', x: hidden, out: last },
      { op: 'linear', x: last, weight: weight(8, 3), ...plain, out: logits },
    ],
    weights,
    ropes: [rope],
    logits,
    vocabulary: 8,
  }
}

/** The first tokens of one sequence in blocks 2, 4; the last is scored. */
export function tinyStep(tokenIds: readonly number[], change: Partial<StepInput> = {}): StepInput {
  const positions = Uint32Array.from(tokenIds.keys())
  return {
    tokenIds: Uint32Array.from(tokenIds),
    positions,
    slots: positions.map((position) => Uint32Array.of(4, 5, 8, 9)[position] ?? 0),
    sequenceOfToken: new Uint32Array(tokenIds.length),
    queryStart: Uint32Array.of(0, tokenIds.length),
    sequenceLength: Uint32Array.of(tokenIds.length),
    blockTable: Uint32Array.of(2, 4),
    logitRows: Uint32Array.of(tokenIds.length - 1),
    samplers: [null],
    targets: Uint32Array.of(0),
    topCount: 0,
    ...change,
  }
}
