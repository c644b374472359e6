/**
 * A ModelSpec and its weights as a Program: the pre-norm decoder that all supported families share,
 *   hidden += Wo · attention(rope(Wqkv · norm(hidden)));  hidden += Wdown · swiglu(Wgate_up · norm(hidden)),
 * then norm and head on the rows that are asked for. Buffers are reused by every layer.
 */
import type { Checkpoint } from '../checkpoint/types.ts'
import type { Operation, Program, RopeTable, Value, WeightSpec } from '../gpu/program.ts'
import { type LayerWeights, mapDecoderWeights } from './decoder-weights.ts'
import { makeValues, type Values } from './memory.ts'
import { ropeTable } from './rope.ts'
import type { ModelSpec } from './spec.ts'
import type { StackedLinear } from './weights.ts'

/** `contextTokens` positions can be addressed. Throws what `mapDecoderWeights` does. */
export function buildProgram(spec: ModelSpec, checkpoint: Checkpoint, contextTokens: number): Program {
  const weights = mapDecoderWeights(spec, checkpoint)
  const values = makeValues(spec)
  const rope = ropeTable(spec.rope, contextTokens)
  const operations: readonly Operation[] = [
    { op: 'embed', weight: weights.embedding, scale: 1, out: values.hidden },
    ...weights.layers.flatMap((layerWeights, layer) => layerOperations(spec, layerWeights, values, { layer, rope })),
    { op: 'gatherRows', x: values.hidden, out: values.lastHidden },
    norm(spec, weights.finalNorm, values.lastHidden, values.lastNormed),
    ...linears([weights.head], values.lastNormed, values.logits),
  ]
  return { operations, weights: weights.all, ropes: [rope], logits: values.logits, vocabulary: spec.vocabulary }
}

/** `at.cacheLayer` is the layer's place in the KV cache; its own number where the cache holds all layers. */
export function layerOperations(
  spec: ModelSpec,
  weights: LayerWeights,
  values: Values,
  at: { readonly layer: number; readonly cacheLayer?: number; readonly rope: RopeTable },
): readonly Operation[] {
  const { heads, kvHeads, headDim, normEpsilon, attentionScale: scale } = spec
  const { qNorm, kNorm } = weights
  const { layer, rope } = at
  const { hidden, normed, qkv, q, context, gateUp, activated } = values
  const shape = { heads, kvHeads, headDim, layer: at.cacheLayer ?? layer }
  return [
    norm(spec, weights.attentionNorm, hidden, normed),
    ...linears(weights.qkv, normed, qkv),
    { op: 'ropeAppend', qkv, ...shape, qNorm, kNorm, normEpsilon, rope, q },
    { op: 'attention', q, ...shape, scale, window: spec.windows[layer] ?? null, out: context },
    ...linears(weights.attentionOutput, context, hidden, { accumulate: true }),
    norm(spec, weights.mlpNorm, hidden, normed),
    ...linears(weights.gateUp, normed, gateUp),
    { op: 'swiglu', gateUp, out: activated },
    ...linears(weights.down, activated, hidden, { accumulate: true }),
  ]
}

function norm(spec: ModelSpec, weight: WeightSpec, x: Value, out: Value): Operation {
  return { op: 'rmsNorm', x, weight, epsilon: spec.normEpsilon, out }
}

function linears(
  stack: readonly StackedLinear[],
  x: Value,
  out: Value,
  options: { readonly accumulate: boolean } = { accumulate: false },
): readonly Operation[] {
  return stack.map((linear) => ({ op: 'linear', x, ...linear, accumulate: options.accumulate, out }))
}
