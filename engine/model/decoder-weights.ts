/**
 * Which tensors a decoder's parts are stored in, under the names that transformers gives them, taken from a checkpoint layer by layer. Every
 * shape is checked here, before anything is sized by the config alone.
 */
import { LatheError } from '../contract/errors.ts'
import type { Checkpoint } from '../checkpoint/types.ts'
import type { WeightSpec } from '../gpu/program.ts'
import type { ModelSpec } from './spec.ts'
import { type Projection, type StackedLinear, WeightMap } from './weights.ts'

export interface LayerWeights {
  readonly attentionNorm: WeightSpec
  readonly qkv: readonly StackedLinear[]
  readonly qNorm: WeightSpec | null
  readonly kNorm: WeightSpec | null
  readonly attentionOutput: readonly StackedLinear[]
  readonly mlpNorm: WeightSpec
  readonly gateUp: readonly StackedLinear[]
  readonly down: readonly StackedLinear[]
}

export interface DecoderWeights {
  readonly embedding: WeightSpec
  readonly layers: readonly LayerWeights[]
  readonly finalNorm: WeightSpec
  /** The embedding itself where the model ties them. */
  readonly head: StackedLinear
  /** Each stored weight once. */
  readonly all: readonly WeightSpec[]
}

/** Throws `checkpoint.missing-tensor`, `checkpoint.invalid-tensor`, `checkpoint.unsupported-scheme`, `model.unsupported-architecture`. */
export function mapDecoderWeights(spec: ModelSpec, checkpoint: Checkpoint): DecoderWeights {
  const weights = new WeightMap(checkpoint)
  const { embedding, head } = embeddingAndHead(spec, weights)
  const layers = Array.from({ length: spec.layers }, (_, layer) => layerWeights(spec, weights, `model.layers.${layer}`))
  const finalNorm = weights.vector('model.norm.weight', spec.hiddenSize)
  refuseUnusedLayerTensors(spec, checkpoint, weights.used)
  return { embedding, layers, finalNorm, head, all: weights.weights }
}

/** Tied models store either tensor: most keep the embedding, some only the head. transformers ties to the embedding where both are present. */
function embeddingAndHead(spec: ModelSpec, weights: WeightMap): Pick<DecoderWeights, 'embedding' | 'head'> {
  const { vocabulary, hiddenSize, tiedEmbeddings } = spec
  const stored = tiedEmbeddings && !weights.has('model.embed_tokens') && weights.has('lm_head') ? 'lm_head' : 'model.embed_tokens'
  const embedding = weights.matrix(stored, vocabulary, hiddenSize)
  const tied: StackedLinear = { weight: embedding, bias: null, outOffset: 0, inputQuantization: null }
  return { embedding, head: tiedEmbeddings ? tied : weights.linear('lm_head', vocabulary, hiddenSize) }
}

/** Of one layer; `prefix` is "model.layers.3". Throws what `mapDecoderWeights` does, but for unused tensors. */
export function layerWeights(spec: ModelSpec, weights: WeightMap, prefix: string): LayerWeights {
  const { hiddenSize, headDim, headNorm } = spec
  const stack = (name: string, projections: readonly Projection[]): readonly StackedLinear[] =>
    weights.stack(
      `${prefix}.${name}`,
      projections.map((projection) => ({ ...projection, prefix: `${prefix}.${projection.prefix}` })),
    )
  const vector = (name: string, length: number): WeightSpec => weights.vector(`${prefix}.${name}.weight`, length)
  const { qkv, attentionOutput, gateUp, down } = projectionsOf(spec)
  return {
    attentionNorm: vector('input_layernorm', hiddenSize),
    qkv: stack('self_attn.qkv', qkv),
    qNorm: headNorm ? vector('self_attn.q_norm', headDim) : null,
    kNorm: headNorm ? vector('self_attn.k_norm', headDim) : null,
    attentionOutput: stack('self_attn.o', attentionOutput),
    mlpNorm: vector('post_attention_layernorm', hiddenSize),
    gateUp: stack('mlp.gate_up', gateUp),
    down: stack('mlp.down', down),
  }
}

/** The linears of one layer; those of one list read the same input and lie side by side in its output. */
export function projectionsOf(spec: ModelSpec): Readonly<Record<'qkv' | 'attentionOutput' | 'gateUp' | 'down', readonly Projection[]>> {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim, biases } = spec
  const input = { cols: hiddenSize, bias: biases.qkv }
  const mlp = { cols: hiddenSize, bias: biases.mlp }
  const separate = spec.projections === 'separate'
  return {
    qkv: separate
      ? [
          { prefix: 'self_attn.q_proj', rows: heads * headDim, ...input },
          { prefix: 'self_attn.k_proj', rows: kvHeads * headDim, ...input },
          { prefix: 'self_attn.v_proj', rows: kvHeads * headDim, ...input },
        ]
      : [{ prefix: 'self_attn.qkv_proj', rows: (heads + 2 * kvHeads) * headDim, ...input }],
    attentionOutput: [{ prefix: 'self_attn.o_proj', rows: hiddenSize, cols: heads * headDim, bias: biases.attentionOutput }],
    gateUp: separate
      ? [
          { prefix: 'mlp.gate_proj', rows: intermediateSize, ...mlp },
          { prefix: 'mlp.up_proj', rows: intermediateSize, ...mlp },
        ]
      : [{ prefix: 'mlp.gate_up_proj', rows: 2 * intermediateSize, ...mlp }],
    down: [{ prefix: 'mlp.down_proj', rows: hiddenSize, cols: intermediateSize, bias: biases.mlp }],
  }
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
