/**
 * A ModelSpec and its weights as a Program: the pre-norm decoder that all supported families share,
 *   hidden += Wo · attention(rope(Wqkv · norm(hidden)));  hidden += Wdown · swiglu(Wgate_up · norm(hidden)),
 * then norm and head on the rows that are asked for. Buffers are reused by every layer.
 */
import { LatheError } from '../contract/errors.ts'
import type { Checkpoint } from '../checkpoint/types.ts'
import type { Operation, Program, RopeTable, Value, WeightSpec } from '../gpu/program.ts'
import { activationShapes } from './memory.ts'
import { ropeTable } from './rope.ts'
import type { ModelSpec } from './spec.ts'
import { type Projection, type StackedLinear, WeightMap } from './weights.ts'

type Values = Readonly<Record<keyof ReturnType<typeof activationShapes>, Value>>

/** `contextTokens` positions can be addressed. Throws `checkpoint.missing-tensor`, `checkpoint.invalid-tensor`, `checkpoint.unsupported-scheme`. */
export function buildProgram(spec: ModelSpec, checkpoint: Checkpoint, contextTokens: number): Program {
  const weights = new WeightMap(checkpoint)
  const values = makeValues(spec)
  const rope = ropeTable(spec.rope, contextTokens)
  const { embedding, head } = embeddingAndHead(spec, weights)
  const operations: Operation[] = [
    { op: 'embed', weight: embedding, scale: 1, out: values.hidden },
    ...Array.from({ length: spec.layers }, (_, layer) => layerOperations(spec, weights, values, { layer, rope })).flat(),
    { op: 'gatherRows', x: values.hidden, out: values.lastHidden },
    norm(spec, weights.vector('model.norm.weight', spec.hiddenSize), values.lastHidden, values.lastNormed),
    { op: 'linear', x: values.lastNormed, weight: head, bias: null, accumulate: false, outOffset: 0, out: values.logits },
  ]
  refuseUnusedLayerTensors(spec, checkpoint, weights.used)
  return { operations, weights: weights.weights, ropes: [rope], logits: values.logits, vocabulary: spec.vocabulary }
}

function makeValues(spec: ModelSpec): Values {
  const shapes = Object.entries(activationShapes(spec))
  return Object.fromEntries(shapes.map(([name, shape], id) => [name, { id, ...shape }])) as Values
}

/**
 * Tied models store either tensor: most keep the embedding, some only the head. transformers ties to the embedding where both are present.
 */
function embeddingAndHead(spec: ModelSpec, weights: WeightMap): { readonly embedding: WeightSpec; readonly head: WeightSpec } {
  const { vocabulary, hiddenSize, tiedEmbeddings } = spec
  const stored = tiedEmbeddings && !weights.has('model.embed_tokens') && weights.has('lm_head') ? 'lm_head' : 'model.embed_tokens'
  const embedding = weights.matrix(stored, vocabulary, hiddenSize)
  return { embedding, head: tiedEmbeddings ? embedding : weights.matrix('lm_head', vocabulary, hiddenSize) }
}

function layerOperations(
  spec: ModelSpec,
  weights: WeightMap,
  values: Values,
  at: { readonly layer: number; readonly rope: RopeTable },
): readonly Operation[] {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim, biases } = spec
  const { layer, rope } = at
  const prefix = `model.layers.${layer}`
  const project = (name: string, rows: number, cols: number, bias: boolean): Projection => ({
    prefix: `${prefix}.${name}`,
    rows,
    cols,
    bias,
  })
  const fused = spec.projections === 'fused'
  const qkv = weights.stack(
    `${prefix}.self_attn.qkv`,
    fused
      ? [project('self_attn.qkv_proj', (heads + 2 * kvHeads) * headDim, hiddenSize, biases.qkv)]
      : [
          project('self_attn.q_proj', heads * headDim, hiddenSize, biases.qkv),
          project('self_attn.k_proj', kvHeads * headDim, hiddenSize, biases.qkv),
          project('self_attn.v_proj', kvHeads * headDim, hiddenSize, biases.qkv),
        ],
  )
  const output = weights.stack(`${prefix}.self_attn.o`, [project('self_attn.o_proj', hiddenSize, heads * headDim, biases.attentionOutput)])
  const gateUp = weights.stack(
    `${prefix}.mlp.gate_up`,
    fused
      ? [project('mlp.gate_up_proj', 2 * intermediateSize, hiddenSize, biases.mlp)]
      : [
          project('mlp.gate_proj', intermediateSize, hiddenSize, biases.mlp),
          project('mlp.up_proj', intermediateSize, hiddenSize, biases.mlp),
        ],
  )
  const down = weights.stack(`${prefix}.mlp.down`, [project('mlp.down_proj', hiddenSize, intermediateSize, biases.mlp)])
  const headNorm = (name: string): WeightSpec | null =>
    spec.headNorm ? weights.vector(`${prefix}.self_attn.${name}.weight`, headDim) : null
  const shape = { heads, kvHeads, headDim, layer }
  return [
    norm(spec, weights.vector(`${prefix}.input_layernorm.weight`, hiddenSize), values.hidden, values.normed),
    ...linears(qkv, values.normed, values.qkv),
    {
      op: 'ropeAppend',
      qkv: values.qkv,
      ...shape,
      qNorm: headNorm('q_norm'),
      kNorm: headNorm('k_norm'),
      normEpsilon: spec.normEpsilon,
      rope,
      q: values.q,
    },
    { op: 'attention', q: values.q, ...shape, scale: spec.attentionScale, window: spec.windows[layer] ?? null, out: values.context },
    ...linears(output, values.context, values.hidden, { accumulate: true }),
    norm(spec, weights.vector(`${prefix}.post_attention_layernorm.weight`, hiddenSize), values.hidden, values.normed),
    ...linears(gateUp, values.normed, values.gateUp),
    { op: 'swiglu', gateUp: values.gateUp, out: values.activated },
    ...linears(down, values.activated, values.hidden, { accumulate: true }),
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

/** Not arithmetic: buffers of older transformers, shapes beside packed weights, and scales for vLLM's FP8 KV cache, which ours is not. */
const HARMLESS = /\.(rotary_emb\.inv_freq|self_attn\.[kvq]_scale|weight_shape)$/

/** A bias or norm that this family has no place for would be left out silently, and the numbers would be wrong. */
function refuseUnusedLayerTensors(spec: ModelSpec, checkpoint: Checkpoint, used: ReadonlySet<string>): void {
  const unused = Array.from(checkpoint.tensors.keys()).filter((name) => {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1]
    return layer !== undefined && Number(layer) < spec.layers && !used.has(name) && !HARMLESS.test(name)
  })
  if (unused.length === 0) return
  throw new LatheError(
    'model.unsupported-architecture',
    `The layers hold ${unused.length} tensor${unused.length === 1 ? '' : 's'} that ${spec.family} has no use for, such as "${unused[0] ?? ''}".`,
    'The weights belong to a variant of the architecture that Lathe does not know. It can still be inspected.',
    { data: { tensors: unused.slice(0, 20) } },
  )
}
