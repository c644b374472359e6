/** What the library knows of a model folder. A variant is a model with a parent. Sizes in bytes, counts as integers. */
import { z } from 'zod'
import { InputElementSchema } from './hardware.ts'
import { OutcomeSchema } from './outcome.ts'

export const ErrorSchema = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string(),
  data: z.record(z.string(), z.unknown()).optional(),
})

/** Architecture facts read from config.json; null where the config does not say. */
export const ArchitectureSchema = z.object({
  family: z.string(), // model_type, e.g. "llama"
  className: z.string(), // architectures[0]
  layers: z.number().int().nullable(),
  hiddenSize: z.number().int().nullable(),
  intermediateSize: z.number().int().nullable(),
  attentionHeads: z.number().int().nullable(),
  keyValueHeads: z.number().int().nullable(),
  headDim: z.number().int().nullable(),
  vocabSize: z.number().int().nullable(),
  contextLength: z.number().int().nullable(),
  tiedEmbeddings: z.boolean().nullable(),
  slidingWindow: z.number().int().nullable(),
  /** The type of KV cache that the checkpoint names, which loads take unless told otherwise; absent = none. */
  kvCacheDtype: z.enum(['fp8']).optional(),
})

export const ModelSummarySchema = z.object({
  id: z.string(),
  /** null for a source model; the source's id for a variant that Lathe made (or that the user attached). */
  parentId: z.string().nullable(),
  name: z.string(),
  path: z.string(),
  createdAt: z.string(), // ISO 8601
  lastUsedAt: z.string().nullable(),
  /** `ready`; `missing` when the folder moved; `unsupported` when it can be inspected but not run; `invalid` when it can't be read. */
  status: z.enum(['ready', 'missing', 'unsupported', 'invalid']),
  statusReason: ErrorSchema.nullable(),
  architecture: ArchitectureSchema,
  parameters: z.number().int(),
  /** Bytes of all tensors in the safetensors files. */
  weightBytes: z.number().int(),
  /** Bytes of the whole folder. */
  diskBytes: z.number().int(),
  /** Short scheme name for people: "BF16", "W8A16 channel", "W4A16 g128", "mixed". */
  scheme: z.string(),
  bitsPerWeight: z.number(),
  /** What inputs of its linears are rounded to; empty where none are. */
  inputElements: z.array(InputElementSchema).default([]),
  presetId: z.string().nullable(),
  isSample: z.boolean(),
  hasTokenizer: z.boolean(),
  hasChatTemplate: z.boolean(),
  license: z.string().nullable(),
  /** `remote`: a server's model, `published`: a results file; neither has a folder, and both stand on a board only. */
  origin: z.enum(['folder', 'remote', 'published']).default('folder'),
})

export const TensorInfoSchema = z.object({
  name: z.string(),
  dtype: z.string(),
  shape: z.array(z.number().int()),
  bytes: z.number().int(),
  file: z.string(),
  /** "attention" | "mlp" | "norm" | "embedding" | "head" | "other" */
  kind: z.string(),
  layer: z.number().int().nullable(),
})

export const ModelFileSchema = z.object({ name: z.string(), bytes: z.number().int() })

export const ModelDetailSchema = z.object({
  summary: ModelSummarySchema,
  config: z.record(z.string(), z.unknown()),
  /** Bytes per dtype, e.g. {BF16: 123}. */
  bytesByDtype: z.record(z.string(), z.number()),
  bytesByKind: z.record(z.string(), z.number()),
  files: z.array(ModelFileSchema),
  tensorCount: z.number().int(),
  variants: z.array(ModelSummarySchema),
  /** run.json of the compression that made it, when Lathe made it. */
  run: z.record(z.string(), z.unknown()).nullable(),
  /** What was measured before this result was kept, where its preset promised an outcome. */
  outcome: OutcomeSchema.nullable().default(null),
  /** Bytes of KV cache per token of context at the runtime's default KV dtype; null if not runnable. */
  kvBytesPerToken: z.number().nullable(),
})

/** Statistics over all elements of one tensor, dequantized where it is packed. */
export const TensorStatsSchema = z.object({
  name: z.string(),
  count: z.number().int(),
  min: z.number(),
  max: z.number(),
  mean: z.number(),
  standardDeviation: z.number(),
  zeroFraction: z.number(),
  histogram: z.object({ from: z.number(), to: z.number(), counts: z.array(z.number().int()) }),
  /** Elements that are NaN or infinite; every other figure leaves them out. Absent means none. */
  nonFiniteCount: z.number().int().optional(),
})

/** What a type of KV cache saves and costs on one model, measured here; divergence is from the same weights with an f32 cache. */
export const CacheCostSchema = z.object({
  /** One type for keys and values, or `keys/values`. */
  kvDtype: z.string(),
  bytesPerToken: z.number().nullable(),
  /** Nats per token. */
  kldMean: z.number(),
  kldP99: z.number(),
  /** Share of positions whose most probable token is the same. */
  sameTop: z.number(),
  positions: z.number().int(),
})

export const CacheCostEventSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('progress'), done: z.number().int(), total: z.number().int() }),
  z.object({ kind: z.literal('cost'), cost: CacheCostSchema }),
])

export const TokenizationSchema = z.object({
  tokens: z.array(z.object({ id: z.number().int(), text: z.string(), special: z.boolean() })),
  characters: z.number().int(),
  bytes: z.number().int(),
})

export const TokenizerInfoSchema = z.object({
  vocabSize: z.number().int(),
  kind: z.string(),
  specialTokens: z.array(z.object({ role: z.string(), id: z.number().int(), text: z.string() })),
  chatTemplate: z.string().nullable(),
})

export type Architecture = z.infer<typeof ArchitectureSchema>
export type ModelSummary = z.infer<typeof ModelSummarySchema>
export type ModelDetail = z.infer<typeof ModelDetailSchema>
export type TensorInfo = z.infer<typeof TensorInfoSchema>
export type CacheCost = z.infer<typeof CacheCostSchema>
export type CacheCostEvent = z.infer<typeof CacheCostEventSchema>
export type TensorStats = z.infer<typeof TensorStatsSchema>
export type Tokenization = z.infer<typeof TokenizationSchema>
export type TokenizerInfo = z.infer<typeof TokenizerInfoSchema>
