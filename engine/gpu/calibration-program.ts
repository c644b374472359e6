/** Programs whose only work is a given number of matrix products, for timing: made-up weights (all zero) in real formats, real kernels. */
import { partBytes } from './check-program.ts'
import type { Operation, Program, StepInput, Value, WeightBytes, WeightFormat, WeightSpec } from './program.ts'

/** Too small to matter, large enough for every kernel's alignment. */
export const SMALL = 64
export const BLOCK_SIZE = 32
const NO_TOKEN = 0xffffffff

function source(byteLength: number): WeightBytes {
  return { byteLength, read: async (_offset, length) => new Uint8Array(length) }
}

function valueOf(id: number, name: string, extent: Value['extent'], width: number): Value {
  return { id, name, extent, width }
}

function zeros(id: number, name: string, shape: { readonly rows: number; readonly cols: number }, format: WeightFormat): WeightSpec {
  const { rows, cols } = shape
  const stored = partBytes(rows, cols, format)
  const part = {
    name,
    rows,
    cols,
    format,
    values: source(stored.values),
    scale: stored.scale > 0 ? source(stored.scale) : null,
    zeroPoint: stored.zeroPoint > 0 ? source(stored.zeroPoint) : null,
  }
  return { id, name, rows, cols, format, parts: [part] }
}

export interface Products {
  /** In and out features of the square matrices. */
  readonly width: number
  readonly format: WeightFormat
  /** Different matrices, so that a cache that held one does not hold them all. */
  readonly matrices: number
  /** Products in one step; the matrices take turns. */
  readonly count: number
  /** Most tokens of a step. */
  readonly tokens: number
}

/** Embeds, multiplies `count` times, and ends in a head of a few rows. */
export function productProgram({ width, format, matrices, count, tokens }: Products): Program {
  const dense = { kind: 'dense', dtype: 'f32' } as const
  const embedding = zeros(0, 'rows', { rows: tokens, cols: width }, dense)
  const head = zeros(1, 'head', { rows: SMALL, cols: width }, dense)
  const used = Array.from({ length: Math.min(matrices, count) }, (_, index) =>
    zeros(index + 2, `matrix${index}`, { rows: width, cols: width }, format),
  )
  const x = valueOf(0, 'x', 'tokens', width)
  const y = valueOf(1, 'y', 'tokens', width)
  const last = valueOf(2, 'last', 'rows', width)
  const logits = valueOf(3, 'logits', 'rows', SMALL)
  const plain = { bias: null, accumulate: false, outOffset: 0 }
  const products = Array.from({ length: count }, (_, index): Operation => {
    const weight = used[index % used.length]
    if (weight === undefined) throw new RangeError('A product needs at least one matrix')
    return { op: 'linear', x, weight, ...plain, out: y }
  })
  return {
    operations: [
      { op: 'embed', weight: embedding, scale: 1, out: x },
      ...products,
      { op: 'gatherRows', x: count > 0 ? y : x, out: last },
      { op: 'linear', x: last, weight: head, ...plain, out: logits },
    ],
    weights: [embedding, head, ...used],
    ropes: [],
    logits,
    vocabulary: SMALL,
  }
}

/** `count` tokens of one sequence. */
export function productStep(count: number, blocks: number): StepInput {
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
