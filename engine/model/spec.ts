/**
 * ModelSpec: everything the runtime and the program builder need to know of a model, read once from config.json and generation_config.json,
 * checked and typed. Knows no tensors: weights.ts holds the checkpoint to these sizes.
 */
import { LatheError } from '../contract/errors.ts'
import { type Config, has, invalid, readBoolean, readInteger, readNumber } from './config-fields.ts'
import type { FamilyTraits } from './families/family.ts'
import { readRope, type RopeSpec } from './rope.ts'
import { familyOf, supportOf } from './support.ts'

export interface SamplingDefaults {
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly minP: number
}

export interface ModelSpec extends FamilyTraits {
  /** `model_type`, e.g. "qwen3". */
  readonly family: string
  readonly layers: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly vocabulary: number
  /** Positions the model was trained for (with its RoPE scaling). */
  readonly contextLimit: number
  readonly normEpsilon: number
  readonly rope: RopeSpec
  /** Factor on q·k before softmax. */
  readonly attentionScale: number
  readonly tiedEmbeddings: boolean
  readonly bosTokenId: number | null
  /** Any of these ends a sequence; generation_config.json's list where it has one. */
  readonly eosTokenIds: readonly number[]
  /** generation_config.json's, neutral where it is silent; temperature 0 where it turns sampling off. */
  readonly defaultSampling: SamplingDefaults
}

/**
 * Bounds far above any published model (the largest have 2¹⁷ hidden, 2⁷ layers, 2¹⁸ tokens), low enough that products of two stay exact and a
 * hostile config cannot make a loop endless.
 */
const MAX = { size: 2 ** 20, layers: 1024, heads: 4096, vocabulary: 2 ** 22, context: 2 ** 31 } as const

/** Throws `model.unsupported-architecture` naming what is missing, or `checkpoint.invalid-config` naming the field. */
export function describeModel(config: Config, generationConfig: Config | null): ModelSpec {
  const family = familyOf(config)
  const support = supportOf(config)
  if (!support.supported || family === null) {
    const missing = support.supported ? ['the architecture'] : support.missing
    throw new LatheError(
      'model.unsupported-architecture',
      `Lathe can't run this model yet. Missing: ${missing.join('; ')}.`,
      'It can still be inspected. Supported are Llama, Mistral, Qwen2 and Qwen3 with dense or 4- and 8-bit pack-quantized weights.',
      { data: { modelType: config['model_type'] ?? null, missing } },
    )
  }
  const layers = readInteger(config, 'num_hidden_layers', { min: 1, max: MAX.layers })
  const hiddenSize = readInteger(config, 'hidden_size', { min: 1, max: MAX.size })
  const heads = readInteger(config, 'num_attention_heads', { min: 1, max: MAX.heads })
  const kvHeads = readInteger(config, 'num_key_value_heads', { min: 1, max: MAX.heads, fallback: heads })
  const headDim = readInteger(config, 'head_dim', { min: 2, max: 4096, fallback: hiddenSize / heads })
  const vocabulary = readInteger(config, 'vocab_size', { min: 1, max: MAX.vocabulary })
  if (!Number.isInteger(headDim)) throw invalid('num_attention_heads', heads, `a divisor of hidden_size ${hiddenSize}`)
  if (headDim % 2 !== 0) throw invalid('head_dim', headDim, 'even, because rotation pairs dimensions')
  if (heads % kvHeads !== 0) throw invalid('num_key_value_heads', kvHeads, `a divisor of num_attention_heads ${heads}`)
  return {
    ...family.traits(config, layers),
    family: family.modelType,
    layers,
    hiddenSize,
    intermediateSize: readInteger(config, 'intermediate_size', { min: 1, max: MAX.size }),
    heads,
    kvHeads,
    headDim,
    vocabulary,
    contextLimit: readInteger(config, 'max_position_embeddings', { min: 1, max: MAX.context }),
    normEpsilon: readNumber(config, 'rms_norm_eps', { min: 0, max: 1, fallback: 1e-6 }),
    rope: readRope(config, headDim),
    attentionScale: 1 / Math.sqrt(headDim),
    tiedEmbeddings: readBoolean(config, 'tie_word_embeddings', false),
    bosTokenId: readTokenIds(config, 'bos_token_id', vocabulary)[0] ?? null,
    eosTokenIds: readEndTokens(config, generationConfig ?? {}, vocabulary),
    defaultSampling: readSampling(generationConfig ?? {}),
  }
}

function readEndTokens(config: Config, generationConfig: Config, vocabulary: number): readonly number[] {
  const source = has(generationConfig, 'eos_token_id') ? generationConfig : config
  return readTokenIds(source, 'eos_token_id', vocabulary)
}

/** One id or a list. Ids beyond the vocabulary can never be produced; some published configs have −1 for "none". */
function readTokenIds(config: Config, key: string, vocabulary: number): readonly number[] {
  if (!has(config, key)) return []
  const ids: readonly unknown[] = Array.isArray(config[key]) ? config[key] : [config[key]]
  const numbers = ids.filter((id): id is number => typeof id === 'number' && Number.isInteger(id))
  if (numbers.length !== ids.length) throw invalid(key, config[key], 'a token id or a list of them')
  return numbers.filter((id) => id >= 0 && id < vocabulary)
}

function readSampling(generationConfig: Config): SamplingDefaults {
  const fraction = { min: 0, max: 1 } as const
  const temperature = readNumber(generationConfig, 'temperature', { min: 0, max: 100, fallback: 1 })
  return {
    temperature: readBoolean(generationConfig, 'do_sample', true) ? temperature : 0,
    topK: Math.max(0, readInteger(generationConfig, 'top_k', { min: -1, max: MAX.vocabulary, fallback: 0 })),
    topP: readNumber(generationConfig, 'top_p', { ...fraction, fallback: 1 }) || 1,
    minP: readNumber(generationConfig, 'min_p', { ...fraction, fallback: 0 }),
  }
}
