/**
 * One decoder layer as a Program of its own: hidden states in, hidden states out, with statistics of every linear's input on the way if asked
 * for. What calibration runs, layer by layer, on models far larger than memory. The weights come from any Checkpoint, also one that holds
 * trial values in memory.
 */
import type { Checkpoint } from '../checkpoint/types.ts'
import type { Accumulator, Operation, Program, RopeTable, Value } from '../gpu/program.ts'
import { layerWeights } from './decoder-weights.ts'
import { makeValues } from './memory.ts'
import { layerOperations } from './program-builder.ts'
import type { ModelSpec } from './spec.ts'
import { WeightMap } from './weights.ts'

/** The distinct inputs of a layer's linears, in the order of the forward pass. */
export type LayerInput = 'attention' | 'context' | 'mlp' | 'activated'
export const LAYER_INPUTS: readonly LayerInput[] = ['attention', 'context', 'mlp', 'activated']

export interface InputAccumulators {
  readonly gram: Accumulator
  readonly columns: Accumulator
}

export interface LayerProgram {
  readonly program: Program
  /** Written before a step, read after it: [tokens, hidden]. */
  readonly hidden: Value
  /** Of the inputs that were asked for. */
  readonly statistics: ReadonlyMap<LayerInput, InputAccumulators>
}

export interface LayerProgramOptions {
  readonly layer: number
  /** Positions of it are the longest sample. Shared by all layers. */
  readonly rope: RopeTable
  /** Inputs whose Gram matrix and column sums are added up. */
  readonly statistics: readonly LayerInput[]
  /** `attention`: hidden states after the attention block's residual addition. */
  readonly stopAfter: 'attention' | 'layer'
  /** `attention`: hidden states after the attention block's residual addition go in; default the layer's own input. */
  readonly startAfter?: 'attention' | null
}

/** Columns of each input. */
export function inputWidths(spec: ModelSpec): Readonly<Record<LayerInput, number>> {
  const { hiddenSize, heads, headDim, intermediateSize } = spec
  return { attention: hiddenSize, context: heads * headDim, mlp: hiddenSize, activated: intermediateSize }
}

/** The KV cache of the program has one layer. Throws what `mapDecoderWeights` does. */
export function buildLayerProgram(spec: ModelSpec, checkpoint: Checkpoint, options: LayerProgramOptions): LayerProgram {
  const { layer, rope, stopAfter } = options
  const weights = new WeightMap(checkpoint)
  const values = makeValues(spec)
  const { hidden, lastHidden } = values
  const all = layerOperations(spec, layerWeights(spec, weights, `model.layers.${layer}`), values, { layer, cacheLayer: 0, rope })
  // The second norm begins the MLP.
  const norms = all.flatMap((operation, i) => (operation.op === 'rmsNorm' ? [i] : []))
  const first = (options.startAfter ?? null) === null ? 0 : norms[1]
  const used = all.slice(first, stopAfter === 'layer' ? undefined : norms[1])
  const widths = inputWidths(spec)
  const statistics = new Map<LayerInput, InputAccumulators>()
  for (const [index, input] of LAYER_INPUTS.entries()) {
    if (!options.statistics.includes(input)) continue
    const width = widths[input]
    statistics.set(input, {
      gram: { id: 2 * index, name: `gram of ${input}`, kind: 'gram', width },
      columns: { id: 2 * index + 1, name: `columns of ${input}`, kind: 'columns', width },
    })
  }
  const operations: Operation[] = [{ op: 'input', out: hidden }]
  let normsSeen = first === 0 ? 0 : 1
  for (const operation of used) {
    operations.push(operation)
    const produced = inputProducedBy(operation, normsSeen)
    if (operation.op === 'rmsNorm') normsSeen++
    const accumulators = produced === null ? undefined : statistics.get(produced)
    if (accumulators === undefined || !('out' in operation) || !('extent' in operation.out)) continue
    operations.push(
      { op: 'gram', x: operation.out, out: accumulators.gram },
      { op: 'columnSums', x: operation.out, out: accumulators.columns },
    )
  }
  // A program ends in rows of numbers; a step that asks for no rows skips them.
  operations.push({ op: 'gatherRows', x: hidden, out: lastHidden })
  const program: Program = {
    operations,
    weights: weights.weights.filter((weight) => used.some((operation) => uses(operation, weight))),
    ropes: first === 0 ? [rope] : [],
    logits: lastHidden,
    vocabulary: spec.hiddenSize,
  }
  return { program, hidden, statistics }
}

function inputProducedBy(operation: Operation, normsSeen: number): LayerInput | null {
  switch (operation.op) {
    case 'rmsNorm':
      return normsSeen === 0 ? 'attention' : 'mlp'
    case 'attention':
      return 'context'
    case 'swiglu':
      return 'activated'
    default:
      return null
  }
}

function uses(operation: Operation, weight: Program['weights'][number]): boolean {
  switch (operation.op) {
    case 'rmsNorm':
      return operation.weight === weight
    case 'linear':
      return operation.weight === weight || operation.bias === weight
    case 'ropeAppend':
      return operation.qNorm === weight || operation.kNorm === weight
    default:
      return false
  }
}
