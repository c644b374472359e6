/**
 * What capacity planning needs of a model: how many weights sit where, and what each layer keeps per token of context. Read from
 * config.json by fields, not by names, so that a wrapper (`text_config`) or a new name for a known layout still counts right
 * (specs/benchmark.md §7.2, §9). Knows nothing of files: exact weight bytes come from safetensors headers where there are any.
 */
import { LatheError } from '../contract/errors.ts'

/** What one layer stores for attention. Element counts, not bytes. */
export type LayerCache =
  /** Grouped-query attention over the whole context. */
  | { readonly kind: 'full'; readonly elementsPerToken: number; readonly kvHeads: number }
  /** Grouped-query attention over the last `window` tokens. */
  | { readonly kind: 'window'; readonly elementsPerToken: number; readonly kvHeads: number; readonly window: number }
  /** Multi-head latent attention: one compressed vector shared by all heads, replicated over tensor-parallel ranks. */
  | { readonly kind: 'latent'; readonly elementsPerToken: number }
  /** Linear attention or a state-space layer: independent of context. */
  | { readonly kind: 'constant' }

export interface ModelShape {
  readonly layers: number
  readonly hiddenSize: number
  readonly attentionHeads: number
  readonly headDim: number
  readonly vocabulary: number
  readonly caches: readonly LayerCache[]
  /** Parameters of decoder linears (those that compression touches), without embeddings and head. */
  readonly linearParameters: number
  /** Of those, the ones one token runs through (mixture of experts). */
  readonly activeLinearParameters: number
  readonly embeddingParameters: number
  /** 0 when tied to the embedding. */
  readonly headParameters: number
  /** Experts per layer and how many one token visits; null for a dense model. */
  readonly experts: { readonly total: number; readonly perToken: number } | null
}

type Config = Readonly<Record<string, unknown>>

function wholeNumber(config: Config, key: string): number | null {
  const value = config[key]
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : null
}

function required(config: Config, ...keys: readonly string[]): number {
  for (const key of keys) {
    const value = wholeNumber(config, key)
    if (value !== null) return value
  }
  throw new LatheError(
    'checkpoint.invalid-config',
    `config.json has no positive whole number under ${keys.map((key) => `"${key}"`).join(' or ')}.`,
    'Check that the folder holds the complete config.json of a decoder-only language model.',
  )
}

/** Vision wrappers keep the language model's numbers one level down. */
function textConfigOf(config: Config): Config {
  for (const key of ['text_config', 'llm_config', 'language_config']) {
    const inner = config[key]
    if (typeof inner === 'object' && inner !== null && !Array.isArray(inner)) return inner as Config
  }
  return config
}

function layerTypes(config: Config, layers: number): readonly string[] {
  const listed = config['layer_types']
  if (Array.isArray(listed) && listed.length === layers && listed.every((entry) => typeof entry === 'string')) return listed as string[]
  const window = wholeNumber(config, 'sliding_window')
  const every = wholeNumber(config, 'full_attention_interval')
  if (every !== null)
    return Array.from({ length: layers }, (_, layer) => ((layer + 1) % every === 0 ? 'full_attention' : 'linear_attention'))
  const pattern = wholeNumber(config, 'sliding_window_pattern')
  if (window !== null && pattern !== null) {
    return Array.from({ length: layers }, (_, layer) => ((layer + 1) % pattern === 0 ? 'full_attention' : 'sliding_attention'))
  }
  // Gemma 2 alternates without saying so in its config; Qwen2 ships a window that its own switch turns off.
  if (window !== null && config['model_type'] === 'gemma2') {
    return Array.from({ length: layers }, (_, layer) => (layer % 2 === 0 ? 'sliding_attention' : 'full_attention'))
  }
  const windowOn = window !== null && config['use_sliding_window'] !== false
  return Array.from({ length: layers }, () => (windowOn ? 'sliding_attention' : 'full_attention'))
}

function cacheOf(type: string, config: Config, elementsPerToken: number, kvHeads: number): LayerCache {
  if (type === 'full_attention') return { kind: 'full', elementsPerToken, kvHeads }
  if (type === 'sliding_attention' || type === 'chunked_attention') {
    return { kind: 'window', elementsPerToken, kvHeads, window: required(config, 'sliding_window', 'attention_chunk_size') }
  }
  if (type === 'linear_attention' || type === 'mamba' || type === 'mamba2') return { kind: 'constant' }
  throw new LatheError(
    'checkpoint.invalid-config',
    `config.json names an attention type that the planner does not know: "${type}".`,
    'Plan from measured figures instead.',
  )
}

/** Parameters of the MLP or the experts of one layer: three matrices for gated ones. */
function mlpParameters(config: Config, hiddenSize: number, layer: number): { readonly stored: number; readonly active: number } {
  const experts = wholeNumber(config, 'n_routed_experts') ?? wholeNumber(config, 'num_local_experts') ?? wholeNumber(config, 'num_experts')
  const dense = 3 * hiddenSize * required(config, 'intermediate_size', 'moe_intermediate_size')
  const firstDense = wholeNumber(config, 'first_k_dense_replace') ?? 0
  if (experts === null || layer < firstDense) return { stored: dense, active: dense }
  const one = 3 * hiddenSize * required(config, 'moe_intermediate_size', 'intermediate_size')
  const perToken = required(config, 'num_experts_per_tok', 'experts_per_token')
  const shared = wholeNumber(config, 'n_shared_experts') ?? 0
  const router = hiddenSize * experts
  return { stored: (experts + shared) * one + router, active: (perToken + shared) * one + router }
}

/** Reads a shape from config.json. Throws `checkpoint.invalid-config` naming the missing field. */
export function modelShapeOf(whole: Config): ModelShape {
  const config = textConfigOf(whole)
  const layers = required(config, 'num_hidden_layers')
  const hiddenSize = required(config, 'hidden_size')
  const attentionHeads = required(config, 'num_attention_heads')
  const kvHeads = wholeNumber(config, 'num_key_value_heads') ?? attentionHeads
  const vocabulary = required(config, 'vocab_size')
  const latentRank = wholeNumber(config, 'kv_lora_rank')
  const headDim = wholeNumber(config, 'head_dim') ?? Math.floor(hiddenSize / attentionHeads)

  let attention: number
  let caches: LayerCache[]
  if (latentRank === null) {
    attention = hiddenSize * headDim * (2 * attentionHeads + 2 * kvHeads)
    caches = layerTypes(config, layers).map((type) => cacheOf(type, config, 2 * kvHeads * headDim, kvHeads))
  } else {
    const rope = required(config, 'qk_rope_head_dim')
    const nope = required(config, 'qk_nope_head_dim')
    const value = required(config, 'v_head_dim')
    const queryRank = wholeNumber(config, 'q_lora_rank')
    const query =
      queryRank === null ? hiddenSize * attentionHeads * (nope + rope) : queryRank * (hiddenSize + attentionHeads * (nope + rope))
    attention =
      query + hiddenSize * (latentRank + rope) + latentRank * attentionHeads * (nope + value) + attentionHeads * value * hiddenSize
    caches = Array.from({ length: layers }, () => ({ kind: 'latent', elementsPerToken: latentRank + rope }))
  }

  let linearParameters = 0
  let activeLinearParameters = 0
  for (let layer = 0; layer < layers; layer++) {
    const mlp = mlpParameters(config, hiddenSize, layer)
    linearParameters += attention + mlp.stored
    activeLinearParameters += attention + mlp.active
  }
  const experts = wholeNumber(config, 'n_routed_experts') ?? wholeNumber(config, 'num_local_experts') ?? wholeNumber(config, 'num_experts')
  const embeddingParameters = vocabulary * hiddenSize
  return {
    layers,
    hiddenSize,
    attentionHeads,
    headDim,
    vocabulary,
    caches,
    linearParameters,
    activeLinearParameters,
    embeddingParameters,
    headParameters: (config['tie_word_embeddings'] ?? whole['tie_word_embeddings']) === true ? 0 : embeddingParameters,
    experts: experts === null ? null : { total: experts, perToken: required(config, 'num_experts_per_tok', 'experts_per_token') },
  }
}
