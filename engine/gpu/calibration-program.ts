/** Programs of one kind of work each, for timing: made-up weights in real formats, real kernels. */
import { syntheticWeight } from './bench/synthetic.ts'
import type { Operation, Program, RopeTable, StepInput, Value, WeightFormat } from './program.ts'

/** Too small to matter, large enough for every kernel's alignment. */
export const SMALL = 64
export const BLOCK_SIZE = 32
const NO_TOKEN = 0xffffffff
const DENSE: WeightFormat = { kind: 'dense', dtype: 'bf16' }
const PLAIN = { bias: null, accumulate: false, outOffset: 0 } as const

export interface Products {
  /** Out and in features of every matrix. */
  readonly rows: number
  readonly columns: number
  readonly format: WeightFormat
  /** Different matrices, so that a cache that held one does not hold them all. */
  readonly matrices: number
  /** Products in one step; the matrices take turns. */
  readonly count: number
  /** Most tokens of a step. */
  readonly tokens: number
}

/** Embeds, multiplies `count` times (each waits for the one before, as a model's do), and ends in a head of a few rows. */
export function productProgram({ rows, columns, format, matrices, count, tokens }: Products): Program {
  const made = new Builder()
  const x = made.value('x', columns)
  const y = made.value('y', rows)
  const used = Array.from({ length: Math.min(matrices, count) }, (_, index) =>
    syntheticWeight(FIRST_OWN_WEIGHT + index, rows, columns, format),
  )
  const products = Array.from({ length: count }, (_, index): Operation => {
    const weight = used[index % used.length]
    if (weight === undefined) throw new RangeError('A product needs at least one matrix')
    return { op: 'linear', x, weight, ...PLAIN, out: y }
  })
  return made.program({ start: x, operations: products, end: count > 0 ? y : x, weights: used, tokens })
}

export interface LayerWidths {
  readonly hidden: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly intermediate: number
}

/** Elements of all activations that a layer's operations other than its products go through. */
export function layerElements({ hidden, heads, kvHeads, headDim, intermediate }: LayerWidths): number {
  return 2 * hidden + (heads + 2 * kvHeads) * headDim + 3 * intermediate
}

/** `layers` decoder layers without their matrix products: two norms, rotation and cache, attention, gate. */
export function layerProgram(widths: LayerWidths, layers: number, positions: number): Program {
  const { hidden, heads, kvHeads, headDim, intermediate } = widths
  const made = new Builder()
  const x = made.value('x', hidden)
  const normed = made.value('normed', hidden)
  const qkv = made.value('qkv', (heads + 2 * kvHeads) * headDim)
  const q = made.value('q', heads * headDim)
  const context = made.value('context', heads * headDim)
  const gateUp = made.value('gateUp', 2 * intermediate)
  const activated = made.value('activated', intermediate)
  const pairs = headDim / 2
  const rope: RopeTable = {
    id: 0,
    positions,
    rotaryDim: headDim,
    cos: new Float64Array(positions * pairs).fill(1),
    sin: new Float64Array(positions * pairs),
  }
  const attends = { heads, kvHeads, headDim }
  const norms = [0, 1].map((index) => syntheticWeight(FIRST_OWN_WEIGHT + index, 1, hidden, DENSE))
  // What products would have written, written once.
  const written = [qkv, gateUp].map((out, index) => ({
    out,
    weight: syntheticWeight(FIRST_OWN_WEIGHT + norms.length + index, 1, out.width, DENSE),
  }))
  const repeated = Array.from({ length: layers }, (_, layer): Operation[] => [
    ...norms.map((weight): Operation => ({ op: 'rmsNorm', x, weight, epsilon: 1e-5, out: normed })),
    { op: 'ropeAppend', qkv, ...attends, qNorm: null, kNorm: null, normEpsilon: 1e-5, rope, layer, q },
    { op: 'attention', q, ...attends, scale: headDim ** -0.5, window: null, layer, out: context },
    { op: 'swiglu', gateUp, out: activated },
  ]).flat()
  const operations = [...written.map(({ out, weight }): Operation => ({ op: 'embed', weight, scale: 1, out })), ...repeated]
  return made.program({
    start: x,
    operations,
    end: normed,
    weights: [...norms, ...written.map(({ weight }) => weight)],
    ropes: [rope],
    tokens: 1,
  })
}

/** Nothing but a head over so many tokens of vocabulary, with few columns. */
export function headProgram(vocabulary: number): Program {
  const made = new Builder()
  const x = made.value('x', SMALL)
  return made.program({ start: x, operations: [], end: x, weights: [], tokens: 1, vocabulary })
}

/** Weights below are the embedding's and the head's. */
const FIRST_OWN_WEIGHT = 2

class Builder {
  #ids = 0

  value(name: string, width: number, extent: Value['extent'] = 'tokens'): Value {
    return { id: this.#ids++, name, extent, width }
  }

  program(parts: {
    readonly start: Value
    readonly operations: readonly Operation[]
    readonly end: Value
    readonly weights: Program['weights']
    readonly ropes?: Program['ropes']
    readonly tokens: number
    readonly vocabulary?: number
  }): Program {
    const { start, operations, end, weights, ropes = [], tokens, vocabulary = SMALL } = parts
    const embedding = syntheticWeight(0, tokens, start.width, DENSE)
    const head = syntheticWeight(1, vocabulary, end.width, DENSE)
    const last = this.value('last', end.width, 'rows')
    const logits = this.value('logits', vocabulary, 'rows')
    return {
      operations: [
        { op: 'embed', weight: embedding, scale: 1, out: start },
        ...operations,
        { op: 'gatherRows', x: end, out: last },
        { op: 'linear', x: last, weight: head, ...PLAIN, out: logits },
      ],
      weights: [embedding, head, ...weights],
      ropes,
      logits,
      vocabulary,
    }
  }
}

/** `count` tokens at the end of one sequence of `context`, whose last one is decoded greedily. */
export function lastTokens(count: number, context: number, blocks: number): StepInput {
  const index = Uint32Array.from({ length: count }, (_, token) => token)
  const positions = index.map((token) => context - count + token)
  return {
    tokenIds: index,
    positions,
    slots: positions.map((position) => position + BLOCK_SIZE),
    sequenceOfToken: new Uint32Array(count),
    queryStart: Uint32Array.of(0, count),
    sequenceLength: Uint32Array.of(context),
    blockTable: Uint32Array.from({ length: blocks }, (_, block) => block + 1),
    logitRows: Uint32Array.of(count - 1),
    samplers: [{ temperature: 0, topK: 0, topP: 1, minP: 0, seedLow: 0, seedHigh: 0, outputIndex: 0 }],
    targets: Uint32Array.of(NO_TOKEN),
    topCount: 0,
  }
}
