/**
 * Typed readers of Hugging Face `config.json` and `generation_config.json`. Defaults for keys that a file leaves out are those of the
 * family's configuration class in transformers (5.18; read, not copied), because that is what the weights were trained under. Two levels:
 * `architectureOf` never throws and says null where the file says nothing; `decoderConfigOf` is what a forward pass needs and refuses
 * anything missing or impossible. Knows nothing of tensors.
 */
import type { Architecture } from '../contract/model.ts'
import { LatheError } from '../contract/errors.ts'
import { isJsonObject } from './strict-json.ts'

type Json = Readonly<Record<string, unknown>>

/** Rotary position embedding, one of the shapes that transformers' ROPE_INIT_FUNCTIONS know. */
export type RopeParameters =
  | { readonly type: 'default'; readonly theta: number }
  | { readonly type: 'linear'; readonly theta: number; readonly factor: number }
  | {
      readonly type: 'llama3'
      readonly theta: number
      readonly factor: number
      readonly lowFreqFactor: number
      readonly highFreqFactor: number
      readonly originalMaxPositionEmbeddings: number
    }
  /** A form that exists but is not described here; `type` is what the file calls it. */
  | { readonly type: 'other'; readonly name: string; readonly theta: number; readonly parameters: Json }

export type LayerType = 'full_attention' | 'sliding_attention'

/** Everything a dense decoder's forward pass reads from its config, checked. */
export interface DecoderConfig {
  readonly family: string
  readonly className: string
  readonly layers: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly attentionHeads: number
  readonly keyValueHeads: number
  readonly headDim: number
  readonly vocabSize: number
  readonly contextLength: number
  readonly rmsNormEps: number
  /** As written: "silu", "gelu_pytorch_tanh", … */
  readonly hiddenAct: string
  /** Biases that the architecture defines; the tensors must agree. */
  readonly attentionBias: { readonly qkv: boolean; readonly output: boolean }
  readonly mlpBias: boolean
  readonly tiedEmbeddings: boolean
  readonly rope: RopeParameters
  /** Rope of the layers of one type where it differs from `rope` (Gemma 3 writes it so). */
  readonly ropeByLayerType: Readonly<Partial<Record<LayerType, RopeParameters>>>
  /** Tokens that a sliding layer sees, itself included; null when no layer slides. */
  readonly slidingWindow: number | null
  /** One per layer. */
  readonly layerTypes: readonly LayerType[]
}

interface FamilyDefaults {
  readonly contextLength: number
  readonly rmsNormEps: number
  readonly tied: boolean
  readonly headDim: number | null
  readonly keyValueHeads: number | null
  readonly qkvBias: 'always' | 'configured' | 'never'
  readonly outputBias: 'configured' | 'never'
  /** Value of an absent `sliding_window`; an explicit null always means none. */
  readonly slidingWindow: number | null
  /** Qwen has a window only if `use_sliding_window` says so, and then from layer `max_window_layers` (default 28) on. */
  readonly qwenWindow: boolean
}

const LLAMA: FamilyDefaults = {
  contextLength: 2048,
  rmsNormEps: 1e-6,
  tied: false,
  headDim: null,
  keyValueHeads: null,
  qkvBias: 'configured',
  outputBias: 'configured',
  slidingWindow: null,
  qwenWindow: false,
}
const QWEN2: FamilyDefaults = {
  ...LLAMA,
  contextLength: 32768,
  qkvBias: 'always',
  outputBias: 'never',
  keyValueHeads: 32,
  slidingWindow: 4096,
  qwenWindow: true,
}

/** Families whose own defaults differ from Llama's. Others are read with Llama's. */
const FAMILIES: ReadonlyMap<string, FamilyDefaults> = new Map([
  ['llama', LLAMA],
  ['mistral', { ...LLAMA, contextLength: 4096 * 32, qkvBias: 'never', outputBias: 'never', keyValueHeads: 8, slidingWindow: 4096 }],
  ['qwen2', QWEN2],
  ['qwen3', { ...QWEN2, qkvBias: 'configured', outputBias: 'configured', headDim: 128 }],
])

/** Bounds of plausible configs; they keep a hostile one from asking for absurd memory before any tensor contradicts it. */
const MAX_LAYERS = 4096
const MAX_WIDTH = 1 << 20
const MAX_VOCABULARY = 1 << 24
const MAX_CONTEXT = 1 << 28

/** Multimodal configs keep the language model's under `text_config` (also `llm_config`, `language_config`). */
export function textConfigOf(config: Json): Json {
  for (const key of ['text_config', 'llm_config', 'language_config']) {
    const inner = config[key]
    if (isJsonObject(inner)) return inner
  }
  return config
}

/** What config.json says of the architecture, for display. Never throws: a value of the wrong type counts as not said. */
export function architectureOf(config: Json): Architecture {
  const text = textConfigOf(config)
  const size = (...keys: string[]): number | null => {
    for (const key of keys) {
      const value = text[key]
      if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value
    }
    return null
  }
  const family = stringOf(config['model_type']) ?? stringOf(text['model_type']) ?? 'unknown'
  const defaults = FAMILIES.get(stringOf(text['model_type']) ?? family) ?? null
  const hiddenSize = size('hidden_size', 'n_embd', 'd_model', 'dim')
  const attentionHeads = size('num_attention_heads', 'n_head', 'num_heads', 'n_heads')
  const tied = typeof text['tie_word_embeddings'] === 'boolean' ? text['tie_word_embeddings'] : config['tie_word_embeddings']
  const heads = hiddenSize !== null && attentionHeads !== null ? hiddenSize / attentionHeads : null
  return {
    family,
    className: classNameOf(config) ?? 'unknown',
    layers: size('num_hidden_layers', 'n_layer', 'num_layers', 'n_layers'),
    hiddenSize,
    intermediateSize: size('intermediate_size', 'n_inner', 'ffn_dim', 'ffn_hidden_size'),
    attentionHeads,
    keyValueHeads: size('num_key_value_heads') ?? attentionHeads,
    headDim: size('head_dim') ?? defaults?.headDim ?? (heads !== null && Number.isInteger(heads) ? heads : null),
    vocabSize: size('vocab_size'),
    contextLength: size('max_position_embeddings', 'n_positions', 'n_ctx', 'seq_length', 'max_seq_len'),
    tiedEmbeddings: typeof tied === 'boolean' ? tied : (defaults?.tied ?? null),
    slidingWindow: defaults === null ? size('sliding_window') : windowOf(text, defaults),
  }
}

/** The checked config of a dense decoder. Throws `checkpoint.invalid-config` naming the key. */
export function decoderConfigOf(config: Json): DecoderConfig {
  const text = textConfigOf(config)
  const family = stringOf(text['model_type']) ?? stringOf(config['model_type'])
  if (family === null) throw invalid('model_type', 'is missing')
  const className = classNameOf(config)
  if (className === null) throw invalid('architectures', 'names no class')
  const defaults = FAMILIES.get(family) ?? LLAMA
  const layers = count(text, 'num_hidden_layers', MAX_LAYERS)
  const hiddenSize = count(text, 'hidden_size', MAX_WIDTH)
  const attentionHeads = count(text, 'num_attention_heads', MAX_WIDTH)
  const keyValueHeads = keyValueHeadsOf(text, attentionHeads, defaults)
  if (attentionHeads % keyValueHeads !== 0) {
    throw invalid('num_key_value_heads', `is ${keyValueHeads}, which does not divide the ${attentionHeads} attention heads`)
  }
  const share = hiddenSize / attentionHeads
  const headDim = count(text, 'head_dim', MAX_WIDTH, defaults.headDim ?? share)
  if (headDim % 2 !== 0) throw invalid('head_dim', `is ${headDim}; rotary embeddings need an even number`)
  const slidingWindow = windowOf(text, defaults)
  const layerTypes = layerTypesOf(text, layers, slidingWindow, defaults)
  const slides = layerTypes.includes('sliding_attention')
  if (slides && slidingWindow === null) throw invalid('sliding_window', 'is missing although layer_types has sliding layers')
  const attentionBias = flag(text, 'attention_bias', false)
  const { rope, byLayerType } = ropeOf(text)
  return {
    family,
    className,
    layers,
    hiddenSize,
    intermediateSize: count(text, 'intermediate_size', MAX_WIDTH),
    attentionHeads,
    keyValueHeads,
    headDim,
    vocabSize: count(text, 'vocab_size', MAX_VOCABULARY),
    contextLength: count(text, 'max_position_embeddings', MAX_CONTEXT, defaults.contextLength),
    rmsNormEps: positive(text, 'rms_norm_eps', defaults.rmsNormEps),
    hiddenAct: stringOf(text['hidden_act']) ?? stringOf(text['hidden_activation']) ?? 'silu',
    attentionBias: {
      qkv: defaults.qkvBias === 'always' || (defaults.qkvBias === 'configured' && attentionBias),
      output: defaults.outputBias === 'configured' && attentionBias,
    },
    mlpBias: flag(text, 'mlp_bias', false),
    tiedEmbeddings: flag(text, 'tie_word_embeddings', flag(config, 'tie_word_embeddings', defaults.tied)),
    rope,
    ropeByLayerType: byLayerType,
    slidingWindow: slides ? slidingWindow : null,
    layerTypes,
  }
}

/** Tokens that end a generation: generation_config.json's first, then config.json's, without repeats. */
export function eosTokenIdsOf(config: Json, generationConfig: Json | null): readonly number[] {
  const text = textConfigOf(config)
  const ids = [...tokenIds(generationConfig, 'eos_token_id'), ...tokenIds(text, 'eos_token_id'), ...tokenIds(config, 'eos_token_id')]
  return [...new Set(ids)]
}

export function bosTokenIdOf(config: Json, generationConfig: Json | null): number | null {
  const text = textConfigOf(config)
  return tokenIds(text, 'bos_token_id')[0] ?? tokenIds(generationConfig, 'bos_token_id')[0] ?? null
}

/** "bfloat16" and the like as written under `dtype` (new) or `torch_dtype` (old); display only, tensors carry their own. */
export function configuredDtypeOf(config: Json): string | null {
  const text = textConfigOf(config)
  return stringOf(text['dtype']) ?? stringOf(text['torch_dtype']) ?? stringOf(config['dtype']) ?? stringOf(config['torch_dtype'])
}

function keyValueHeadsOf(text: Json, attentionHeads: number, defaults: FamilyDefaults): number {
  // An explicit null means "as many as there are query heads", an absent key the family's default.
  const fallback = text['num_key_value_heads'] === null ? attentionHeads : (defaults.keyValueHeads ?? attentionHeads)
  return count(text, 'num_key_value_heads', MAX_WIDTH, fallback)
}

function tokenIds(config: Json | null, key: string): number[] {
  const value = config?.[key]
  if (value === undefined || value === null) return []
  return (Array.isArray(value) ? (value as unknown[]) : [value]).map((id) => {
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < MAX_VOCABULARY) return id
    throw invalid(key, `is ${JSON.stringify(value)?.slice(0, 80)}; token ids are whole numbers`)
  })
}

function windowOf(text: Json, defaults: FamilyDefaults): number | null {
  if (defaults.qwenWindow && text['use_sliding_window'] !== true) return null
  const value = text['sliding_window']
  if (value === undefined) return defaults.slidingWindow
  return typeof value === 'number' && Number.isInteger(value) && value > 0 ? value : null
}

function layerTypesOf(text: Json, layers: number, window: number | null, defaults: FamilyDefaults): readonly LayerType[] {
  const given = text['layer_types']
  if (given !== undefined && given !== null) {
    if (!Array.isArray(given) || given.length !== layers)
      throw invalid('layer_types', `does not list one type for each of ${layers} layers`)
    return (given as unknown[]).map((type) => {
      if (type === 'full_attention' || type === 'sliding_attention') return type
      throw invalid('layer_types', `has the type ${JSON.stringify(type)?.slice(0, 40)}, which Lathe does not know`)
    })
  }
  const firstSliding = defaults.qwenWindow ? count(text, 'max_window_layers', MAX_LAYERS, 28, 0) : 0
  return Array.from({ length: layers }, (_, layer) => (window !== null && layer >= firstSliding ? 'sliding_attention' : 'full_attention'))
}

/**
 * Three spellings: `rope_theta` with `rope_scaling: {type | rope_type, …}` (transformers 4), `rope_parameters: {rope_theta, rope_type, …}`
 * (transformers 5), and the latter keyed by layer type.
 */
function ropeOf(text: Json): { rope: RopeParameters; byLayerType: Partial<Record<LayerType, RopeParameters>> } {
  const theta = positive(text, 'rope_theta', 10_000)
  const parameters = text['rope_parameters'] ?? text['rope_scaling'] ?? null
  if (parameters === null) return { rope: { type: 'default', theta }, byLayerType: {} }
  if (!isJsonObject(parameters)) throw invalid('rope_parameters', 'is not an object')
  const full = parameters['full_attention']
  const sliding = parameters['sliding_attention']
  if (isJsonObject(full) || isJsonObject(sliding)) {
    const byLayerType: Partial<Record<LayerType, RopeParameters>> = {}
    if (isJsonObject(full)) byLayerType.full_attention = ropeFrom(full, theta, text)
    if (isJsonObject(sliding)) byLayerType.sliding_attention = ropeFrom(sliding, theta, text)
    return { rope: byLayerType.full_attention ?? { type: 'default', theta }, byLayerType }
  }
  return { rope: ropeFrom(parameters, theta, text), byLayerType: {} }
}

function ropeFrom(parameters: Json, outerTheta: number, text: Json): RopeParameters {
  const name = stringOf(parameters['rope_type']) ?? stringOf(parameters['type']) ?? 'default'
  const theta = positive(parameters, 'rope_theta', outerTheta)
  switch (name) {
    case 'default':
      return { type: 'default', theta }
    case 'linear':
      return { type: 'linear', theta, factor: positive(parameters, 'factor') }
    case 'llama3': {
      const lowFreqFactor = positive(parameters, 'low_freq_factor')
      const highFreqFactor = positive(parameters, 'high_freq_factor')
      // The formula divides by their difference.
      if (highFreqFactor <= lowFreqFactor)
        throw invalid('rope high_freq_factor', `(${highFreqFactor}) is not above low_freq_factor (${lowFreqFactor})`)
      const trained = parameters['original_max_position_embeddings'] === undefined ? text : parameters
      return {
        type: 'llama3',
        theta,
        factor: positive(parameters, 'factor'),
        lowFreqFactor,
        highFreqFactor,
        originalMaxPositionEmbeddings: count(trained, 'original_max_position_embeddings', MAX_CONTEXT),
      }
    }
    default:
      return { type: 'other', name, theta, parameters }
  }
}

function classNameOf(config: Json): string | null {
  const classes = config['architectures']
  return Array.isArray(classes) ? stringOf(classes[0]) : null
}

function stringOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' && value.length <= 256 ? value : null
}

function count(object: Json, key: string, max: number, fallback?: number, min = 1): number {
  const value = object[key] ?? fallback
  if (value === undefined) throw invalid(key, 'is missing')
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(key, `is ${JSON.stringify(value)?.slice(0, 40)}; a whole number from ${min} to ${max} is needed`)
  }
  return value
}

function positive(object: Json, key: string, fallback?: number): number {
  const value = object[key] ?? fallback
  if (value === undefined) throw invalid(key, 'is missing')
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw invalid(key, `is ${JSON.stringify(value)?.slice(0, 40)}; a positive number is needed`)
  }
  return value
}

function flag(object: Json, key: string, fallback: boolean): boolean {
  const value = object[key] ?? fallback
  if (typeof value !== 'boolean') throw invalid(key, `is ${JSON.stringify(value)?.slice(0, 40)}; true or false is needed`)
  return value
}

function invalid(key: string, why: string): LatheError {
  return new LatheError(
    'checkpoint.invalid-config',
    `config.json: ${key} ${why}.`,
    'Compare config.json with the original model; the file is damaged or belongs to another model.',
  )
}
