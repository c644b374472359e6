/**
 * What capacity planning needs of a model: which matrices it has, and what each layer keeps per token of context. Read from config.json by
 * fields, not by names, so that a wrapper (`text_config`) or a new name for a known layout still counts right (specs/benchmark.md §7.2, §9).
 * Knows nothing of files: exact weight bytes come from safetensors headers where there are any.
 */
import { layerCaches, type LayerCache } from './layer-cache.ts'
import { type Config, experts as expertsOf, required, textConfigOf, wholeNumber } from './config-fields.ts'

export type { LayerCache } from './layer-cache.ts'

/** Matrices of one form. `rows` are out features, `columns` in features: scales run along the columns. */
export interface Matrix {
  readonly name: string
  readonly rows: number
  readonly columns: number
  /** In the whole model. */
  readonly stored: number
  /** That one token runs through. */
  readonly active: number
  /** One of the experts among which a router chooses. */
  readonly routed: boolean
  /** Left at 16 bits by every recipe (routers). */
  readonly kept: boolean
}

export interface ModelShape {
  readonly layers: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly attentionHeads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly vocabulary: number
  /** Longest context that the model was made for; null where the config does not say. */
  readonly contextLimit: number | null
  readonly caches: readonly LayerCache[]
  /** Decoder linears: those that compression touches. */
  readonly matrices: readonly Matrix[]
  /** Their parameters, without embeddings and head. */
  readonly linearParameters: number
  /** Of those, the ones one token runs through (mixture of experts). */
  readonly activeLinearParameters: number
  readonly embeddingParameters: number
  /** 0 when tied to the embedding. */
  readonly headParameters: number
  /** Norms, biases and other vectors. */
  readonly otherParameters: number
  /** Experts per layer and how many one token visits; null for a dense model. */
  readonly experts: { readonly total: number; readonly perToken: number } | null
}

/** Reads a shape from config.json. Throws `checkpoint.invalid-config` naming the missing field. */
export function modelShapeOf(whole: Config): ModelShape {
  const config = textConfigOf(whole)
  const layers = required(config, 'num_hidden_layers')
  const hiddenSize = required(config, 'hidden_size')
  const attentionHeads = required(config, 'num_attention_heads')
  const kvHeads = wholeNumber(config, 'num_key_value_heads') ?? attentionHeads
  const vocabulary = required(config, 'vocab_size')
  const headDim = wholeNumber(config, 'head_dim') ?? Math.floor(hiddenSize / attentionHeads)
  const heads = { attentionHeads, kvHeads, headDim }
  const matrices = [...attentionMatrices(config, { layers, hiddenSize, ...heads }), ...mlpMatrices(config, layers, hiddenSize)]
  const count = (of: 'stored' | 'active'): number => matrices.reduce((sum, matrix) => sum + matrix[of] * matrix.rows * matrix.columns, 0)
  const embeddingParameters = vocabulary * hiddenSize
  const experts = expertsOf(config)
  return {
    layers,
    hiddenSize,
    intermediateSize: required(config, 'intermediate_size', 'moe_intermediate_size'),
    ...heads,
    vocabulary,
    contextLimit: wholeNumber(config, 'max_position_embeddings'),
    caches: layerCaches(config, { layers, kvHeads, headDim }),
    matrices,
    linearParameters: count('stored'),
    activeLinearParameters: count('active'),
    embeddingParameters,
    headParameters: (config['tie_word_embeddings'] ?? whole['tie_word_embeddings']) === true ? 0 : embeddingParameters,
    otherParameters: otherParameters(config, { layers, hiddenSize, ...heads }),
    experts: experts === null ? null : { total: experts, perToken: required(config, 'num_experts_per_tok', 'experts_per_token') },
  }
}

/** Every parameter of the model. */
export function parametersOf(shape: ModelShape): number {
  return shape.linearParameters + shape.embeddingParameters + shape.headParameters + shape.otherParameters
}

interface Dimensions {
  readonly layers: number
  readonly hiddenSize: number
  readonly attentionHeads: number
  readonly kvHeads: number
  readonly headDim: number
}

function plain(name: string, rows: number, columns: number, copies: number): Matrix {
  return { name, rows, columns, stored: copies, active: copies, routed: false, kept: false }
}

function attentionMatrices(config: Config, { layers, hiddenSize, attentionHeads, kvHeads, headDim }: Dimensions): Matrix[] {
  const latentRank = wholeNumber(config, 'kv_lora_rank')
  if (latentRank === null) {
    return [
      plain('q_proj', attentionHeads * headDim, hiddenSize, layers),
      plain('k_proj', kvHeads * headDim, hiddenSize, layers),
      plain('v_proj', kvHeads * headDim, hiddenSize, layers),
      plain('o_proj', hiddenSize, attentionHeads * headDim, layers),
    ]
  }
  const rope = required(config, 'qk_rope_head_dim')
  const nope = required(config, 'qk_nope_head_dim')
  const value = required(config, 'v_head_dim')
  const queryRank = wholeNumber(config, 'q_lora_rank')
  const queryRows = attentionHeads * (nope + rope)
  const query =
    queryRank === null
      ? [plain('q_proj', queryRows, hiddenSize, layers)]
      : [plain('q_a_proj', queryRank, hiddenSize, layers), plain('q_b_proj', queryRows, queryRank, layers)]
  return [
    ...query,
    plain('kv_a_proj', latentRank + rope, hiddenSize, layers),
    plain('kv_b_proj', attentionHeads * (nope + value), latentRank, layers),
    plain('o_proj', hiddenSize, attentionHeads * value, layers),
  ]
}

function gated(prefix: string, width: number, hiddenSize: number, copies: number): Matrix[] {
  return [
    plain(`${prefix}gate_proj`, width, hiddenSize, copies),
    plain(`${prefix}up_proj`, width, hiddenSize, copies),
    plain(`${prefix}down_proj`, hiddenSize, width, copies),
  ]
}

/** Layers that have experts instead of one MLP. */
export function expertLayers(config: Config, layers: number): number {
  if (expertsOf(config) === null) return 0
  const firstDense = wholeNumber(config, 'first_k_dense_replace') ?? 0
  const every = wholeNumber(config, 'decoder_sparse_step') ?? wholeNumber(config, 'moe_layer_freq') ?? 1
  const listed = config['mlp_only_layers']
  const dense = new Set(Array.isArray(listed) ? listed : [])
  return Array.from({ length: layers }, (_, layer) => layer).filter(
    (layer) => layer >= firstDense && !dense.has(layer) && (every === 1 || (layer + 1) % every === 0),
  ).length
}

/** The MLP or the experts of each layer: three matrices for gated ones. */
function mlpMatrices(config: Config, layers: number, hiddenSize: number): Matrix[] {
  const experts = expertsOf(config)
  const sparse = expertLayers(config, layers)
  const denseWidth = required(config, 'intermediate_size', 'moe_intermediate_size')
  const dense = layers > sparse ? gated('', denseWidth, hiddenSize, layers - sparse) : []
  if (experts === null) return dense
  const width = required(config, 'moe_intermediate_size', 'intermediate_size')
  const perToken = required(config, 'num_experts_per_tok', 'experts_per_token')
  const shared = wholeNumber(config, 'n_shared_experts') ?? 0
  const sharedWidth = wholeNumber(config, 'shared_expert_intermediate_size') ?? shared * width
  return [
    ...dense,
    ...gated('experts.', width, hiddenSize, 1).map((matrix) => ({
      ...matrix,
      stored: sparse * experts,
      active: sparse * perToken,
      routed: true,
    })),
    ...(sharedWidth > 0 ? gated('shared_expert.', sharedWidth, hiddenSize, sparse) : []),
    { ...plain('router', experts, hiddenSize, sparse), kept: true },
  ]
}

const FOUR_NORMS = new Set(['gemma2', 'gemma3', 'gemma3_text'])
const HEAD_NORMS = new Set(['qwen3', 'qwen3_moe', 'gemma3', 'gemma3_text'])
const QKV_BIAS = new Set(['qwen2', 'qwen2_moe'])

/** Vectors: tens of thousandths of a model, counted so that totals equal published ones. */
function otherParameters(config: Config, { layers, hiddenSize, attentionHeads, kvHeads, headDim }: Dimensions): number {
  const type = String(config['model_type'] ?? '')
  const qkv = (attentionHeads + 2 * kvHeads) * headDim
  let perLayer = (FOUR_NORMS.has(type) ? 4 : 2) * hiddenSize
  if (HEAD_NORMS.has(type)) perLayer += 2 * headDim
  if (QKV_BIAS.has(type)) perLayer += qkv
  else if (config['attention_bias'] === true) perLayer += qkv + hiddenSize
  perLayer += (wholeNumber(config, 'q_lora_rank') ?? 0) + (wholeNumber(config, 'kv_lora_rank') ?? 0)
  const experts = expertsOf(config)
  const sparse = expertLayers(config, layers)
  let perSparseLayer = 0
  if (experts !== null && type === 'gpt_oss') {
    // attention sinks, and a bias on the router and on both products of every expert
    const width = required(config, 'moe_intermediate_size', 'intermediate_size')
    perLayer += attentionHeads
    perSparseLayer += experts + experts * (2 * width + hiddenSize)
  }
  // DeepSeek's router corrects each expert's score
  if (experts !== null && wholeNumber(config, 'n_routed_experts') !== null) perSparseLayer += experts
  return layers * perLayer + sparse * perSparseLayer + hiddenSize
}
