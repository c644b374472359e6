/**
 * ModelSpec: everything the runtime and the program builder need to know of a model, read once from config.json and generation_config.json,
 * checked and typed. Knows no tensors: weights.ts holds the checkpoint to these sizes.
 */
import { LatheError } from '../contract/errors.ts'
import { bosTokenIdOf, decoderConfigOf, eosTokenIdsOf } from '../checkpoint/hf-config.ts'
import type { RopeSpec } from './rope.ts'
import { type Config, FAMILIES, familyOf, supportOf } from './support.ts'

export interface SamplingDefaults {
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly minP: number
}

export interface ModelSpec {
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
  /** Attention window of each layer; null = unlimited. */
  readonly windows: readonly (number | null)[]
  readonly biases: { readonly qkv: boolean; readonly attentionOutput: boolean; readonly mlp: boolean }
  readonly headNorm: boolean
  readonly projections: 'separate' | 'fused'
  readonly tiedEmbeddings: boolean
  readonly bosTokenId: number | null
  /** Any of these ends a sequence. */
  readonly eosTokenIds: readonly number[]
  /** generation_config.json's, neutral where it is silent; temperature 0 where it turns sampling off. */
  readonly defaultSampling: SamplingDefaults
}

/** Throws `model.unsupported-architecture` naming what is missing, or `checkpoint.invalid-config` naming the field. */
export function describeModel(config: Config, generationConfig: Config | null): ModelSpec {
  const support = supportOf(config)
  if (!support.supported) throw unsupported(config, support.missing)
  const decoder = decoderConfigOf(config)
  const family = familyOf(config)
  const { rope, headDim, vocabSize: vocabulary } = decoder
  if (family === null || rope.type === 'other') throw unsupported(config, ['the architecture'])
  const window = (type: string): number | null => (type === 'sliding_attention' ? decoder.slidingWindow : null)
  const inVocabulary = (id: number): boolean => id < vocabulary
  return {
    family: family.modelType,
    layers: decoder.layers,
    hiddenSize: decoder.hiddenSize,
    intermediateSize: decoder.intermediateSize,
    heads: decoder.attentionHeads,
    kvHeads: decoder.keyValueHeads,
    headDim,
    vocabulary,
    contextLimit: decoder.contextLength,
    normEpsilon: decoder.rmsNormEps,
    rope: { parameters: rope, rotaryDim: rotaryDim(config, headDim) },
    attentionScale: 1 / Math.sqrt(headDim),
    windows: decoder.layerTypes.map(window),
    biases: { qkv: decoder.attentionBias.qkv, attentionOutput: decoder.attentionBias.output, mlp: decoder.mlpBias },
    headNorm: family.headNorm,
    projections: family.projections,
    tiedEmbeddings: decoder.tiedEmbeddings,
    bosTokenId: [bosTokenIdOf(config, generationConfig)].find((id) => id !== null && inVocabulary(id)) ?? null,
    eosTokenIds: eosTokenIdsOf(config, generationConfig).filter(inVocabulary),
    defaultSampling: samplingDefaults(generationConfig ?? {}),
  }
}

/** Whole pairs of the share that `partial_rotary_factor` (in either place it is written) leaves to rotation. */
function rotaryDim(config: Config, headDim: number): number {
  const parameters = config['rope_parameters'] as Config | null | undefined
  const factor = readNumber(parameters?.['partial_rotary_factor'] ?? config['partial_rotary_factor'], { min: 0, max: 1, absent: 1 })
  return Math.max(1, Math.floor((headDim * factor) / 2)) * 2
}

/** Values out of range are left out rather than refused: they are suggestions, and the model runs without them. */
function samplingDefaults(generationConfig: Config): SamplingDefaults {
  const temperature = readNumber(generationConfig['temperature'], { min: 0, max: 2, absent: 1 })
  return {
    temperature: generationConfig['do_sample'] === false ? 0 : temperature,
    topK: Math.floor(readNumber(generationConfig['top_k'], { min: 0, max: 2 ** 31, absent: 0 })),
    topP: readNumber(generationConfig['top_p'], { min: Number.MIN_VALUE, max: 1, absent: 1 }),
    minP: readNumber(generationConfig['min_p'], { min: 0, max: 1, absent: 0 }),
  }
}

function readNumber(value: unknown, range: { readonly min: number; readonly max: number; readonly absent: number }): number {
  return typeof value === 'number' && value >= range.min && value <= range.max ? value : range.absent
}

function unsupported(config: Config, missing: readonly string[]): LatheError {
  return new LatheError(
    'model.unsupported-architecture',
    `Lathe can't run this model yet. Missing: ${missing.join('; ')}.`,
    `It can still be inspected. Supported are ${FAMILIES.map(({ label }) => label).join(', ')} with dense or 4- and 8-bit pack-quantized weights.`,
    { data: { modelType: config['model_type'] ?? null, missing } },
  )
}
