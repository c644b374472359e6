/**
 * Does it fit, how fast, for how many, at what cost: the questions of capacity planning and their answers. Bytes of weights and cache are exact
 * where the files are at hand; speeds are ranges until a measurement replaces them, and every figure says where it is from.
 */
import { z } from 'zod'
import { FitSchema } from './optimize.ts'
import { ProvenanceSchema } from './result.ts'

/** Both ends of an estimate. */
export const EstimateSchema = z.object({ low: z.number(), high: z.number() })

/** A model of the library, or a published configuration that need not be on this disk. */
export const CapacitySubjectSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('model'), modelId: z.string() }),
  z.object({ kind: z.literal('published'), id: z.string() }),
])

/** From wide to narrow. */
export const KV_ELEMENTS = ['f32', 'f16', 'int8', 'fp8', 'int4'] as const

/** A cache setting, one type or keys/values, as a plan's request has it; null for anything else. */
export function kvElementsOf(setting: string): Pick<CapacityRequest, 'kvElement' | 'kvValueElement'> | null {
  if (setting === 'auto') return { kvElement: 'auto' }
  const elements = setting.split('/').map((part) => KV_ELEMENTS.find((element) => element === part))
  const [key, value] = elements
  if (key === undefined || elements.length > 2 || (elements.length === 2 && value === undefined)) return null
  return { kvElement: key, ...(value !== undefined && value !== key && { kvValueElement: value }) }
}

export const CapacityRequestSchema = z.object({
  subject: CapacitySubjectSchema,
  /** A device of the catalog; null = the adapter that Lathe runs on here. */
  deviceId: z.string().nullable(),
  /** `lathe`: this engine, one GPU. `vllm`: a server in a cluster, with its own reserves and with tensor parallelism. */
  engine: z.enum(['lathe', 'vllm']),
  /** GPUs that share one copy of the model; null = the least that fits. Ignored for `lathe`. */
  tensorParallel: z.number().int().min(1).max(64).nullable(),
  /** A storage scheme of the catalog; null = as the files are stored (BF16 for a published configuration). */
  schemeId: z.string().nullable(),
  /** `auto`: what the checkpoint names, else f16. A plan's own request has it resolved. */
  kvElement: z.enum([...KV_ELEMENTS, 'auto']),
  /** Of the values, where the above is that of the keys alone. */
  kvValueElement: z.enum(KV_ELEMENTS).optional(),
  /** Longest sequence, prompt and answer together. */
  contextTokens: z.number().int().min(1).max(16_777_216),
  /** Sequences at once. */
  concurrency: z.number().int().min(1).max(1_000_000),
  /** Lathe opens the model for just so many sequences, as a server does; absent = for eight at least, as chats and jobs do. */
  exactConcurrency: z.literal(true).optional(),
  /** The usual request, for latency and cost; together at most `contextTokens`. */
  promptTokens: z.number().int().min(1),
  outputTokens: z.number().int().min(1),
  /** What must hold for nearly every request; null = no limit. Milliseconds. */
  slo: z.object({ firstTokenMs: z.number().positive().nullable(), perTokenMs: z.number().positive().nullable() }),
  /** People who wait for an answer at the same time; null = not asked. */
  users: z.number().int().min(1).nullable(),
  /** Money per GPU and hour, in any currency; null = not asked. */
  costPerGpuHour: z.number().positive().nullable(),
  /** Share of the paid hours in which requests are served, 0…1. */
  busyShare: z.number().positive().max(1),
  /** Share of the memory that the server may take (vLLM's --gpu-memory-utilization). */
  memoryShare: z.number().positive().max(1),
})

export const CAPACITY_DEFAULTS = {
  deviceId: null,
  engine: 'lathe',
  tensorParallel: null,
  schemeId: null,
  kvElement: 'auto',
  contextTokens: 4096,
  concurrency: 1,
  promptTokens: 1024,
  outputTokens: 256,
  slo: { firstTokenMs: null, perTokenMs: null },
  users: null,
  costPerGpuHour: null,
  busyShare: 0.4,
  memoryShare: 0.92,
} as const satisfies Omit<z.infer<typeof CapacityRequestSchema>, 'subject'>

export const CatalogDeviceSchema = z.object({
  id: z.string(),
  name: z.string(),
  vendor: z.string(),
  memoryBytes: z.number(),
  gigabytesPerSecond: z.number(),
  watts: z.number().nullable(),
  confidence: z.enum(['high', 'medium', 'low']),
  source: z.string(),
})
export const CatalogModelSchema = z.object({
  id: z.string(),
  name: z.string(),
  parameters: z.number(),
  contextLimit: z.number().nullable(),
})
export const StorageSchemeSchema = z.object({ id: z.string(), title: z.string(), bitsPerWeight: z.number() })
export const CapacityCatalogSchema = z.object({
  devices: z.array(CatalogDeviceSchema),
  models: z.array(CatalogModelSchema),
  schemes: z.array(StorageSchemeSchema),
})

/** Bytes on one GPU. */
export const CapacityPartsSchema = z.object({
  weightBytes: z.number(),
  kvBytes: z.number(),
  activationBytes: z.number(),
  /** Part of `activationBytes`: the logits of a step and what sampling reads of them. */
  logitBytes: z.number().default(0),
  /** Driver, communication buffers, captured graphs, the desktop's compositor. */
  reserveBytes: z.number(),
  /** Part of `reserveBytes`: what weights pass through on their way to the device, while they are loaded. */
  stagingBytes: z.number().default(0),
  /** What earlier loads on this device took beyond their prediction; absent = none. */
  overheadBytes: z.number().optional(),
  /** Other models that are loaded and in use; idle ones make room and are not counted. */
  residentBytes: z.number().default(0),
  /** Kept free by a good fit, so that another program's allocation does not push the model out; null where the budget is unknown. */
  marginBytes: z.number().nullable().default(null),
  /** Part of `kvBytes` that only fills up blocks. */
  fragmentationBytes: z.number(),
  /** What may be taken of the device; null where nobody says. */
  budgetBytes: z.number().nullable(),
})

export const SchemeOptionSchema = z.object({
  scheme: StorageSchemeSchema,
  weightBytes: z.number(),
  verdict: FitSchema.shape.verdict,
  /** Tokens at the asked concurrency; null where the budget is unknown. */
  largestContext: z.number().nullable(),
  /** Sequences of the asked context. */
  largestConcurrency: z.number().nullable(),
  /** One sequence, tokens per second. */
  decode: EstimateSchema.nullable(),
  /** Why this device is not the place for it ("FP8 needs Ada or newer"); null when nothing speaks against it. */
  caution: z.string().nullable(),
})

export const CapacityPlanSchema = z.object({
  request: CapacityRequestSchema,
  subject: z.object({
    title: z.string(),
    parameters: z.number(),
    scheme: z.string(),
    /** The type of cache that the checkpoint names; absent = none. */
    kvElement: z.enum(KV_ELEMENTS).optional(),
    contextLimit: z.number().nullable(),
    /** Layers by what they keep per token. */
    caches: z.object({ full: z.number(), window: z.number(), latent: z.number(), constant: z.number() }),
  }),
  gpu: z.object({
    title: z.string(),
    memoryBytes: z.number().nullable(),
    /** Who says how much memory it has: "nvidia-smi", "host memory", a table. */
    memorySource: z.string().default(''),
    /** Of it, free at the moment; null where nobody says, and for a device that is not here. */
    freeBytes: z.number().nullable().default(null),
    software: z.boolean(),
    confidence: z.enum(['high', 'medium', 'low']).nullable(),
    /** Where its limits come from: a table, or "calibrated here on …". */
    source: z.string(),
  }),
  tensorParallel: z.object({
    count: z.number(),
    choices: z.array(z.object({ count: z.number(), allowed: z.boolean(), reason: z.string().nullable(), fits: z.boolean().nullable() })),
  }),
  parts: CapacityPartsSchema,
  /**
   * Where the fixed overhead beside the parts that are computed is from: this many loads on this device, whose middle error is `bytes` (less than
   * nothing: activations were predicted too large, and are smaller by that here). Absent = nothing was measured; only the reserve is assumed.
   */
  overhead: z.object({ bytes: z.number(), loads: z.number().int(), newestAt: z.string() }).optional(),
  /** The same as one bar. */
  fit: FitSchema,
  kv: z.object({
    bytesPerToken: z.number(),
    /** What vLLM reserves where it gives window layers the pages of full ones; equal to the above elsewhere. */
    reservedBytesPerToken: z.number(),
    /** Tokens of cache that fit in all. */
    tokens: z.number().nullable(),
  }),
  limits: z.object({
    context: z.number().nullable(),
    /** Sequences that are all as long as the context. */
    concurrency: z.number().nullable(),
    /** Sequences of the usual request at its mean length. */
    usualConcurrency: z.number().nullable(),
  }),
  schemes: z.array(SchemeOptionSchema),
  /** The scheme of most bits that fits as asked; null when none does. */
  bestSchemeId: z.string().nullable(),
  speed: z.object({
    /** Tokens per second: one sequence alone, and all sequences of the asked concurrency together. */
    decode: EstimateSchema.nullable(),
    decodeTogether: EstimateSchema.nullable(),
    prefill: EstimateSchema.nullable(),
    firstTokenMs: EstimateSchema.nullable(),
  }),
  /** What was measured of the same model on the same adapter; replaces the estimate. */
  measured: z
    .object({
      decodeTokensPerSecond: z.number(),
      prefillTokensPerSecond: z.number(),
      firstTokenMs: z.number(),
      promptTokens: z.number(),
      peakGpuBytes: z.number(),
      provenance: ProvenanceSchema,
    })
    .nullable(),
  /** One copy of the model under load within the SLO; null where speeds are unknown. */
  service: z
    .object({
      /** Sequences at once that keep the SLO, by the pessimistic end of the estimate. */
      concurrency: z.number(),
      /** 0 sequences: what cannot be kept even alone. */
      limitedBy: z.enum(['memory', 'per-token', 'first-token', 'server']),
      tokensPerSecond: EstimateSchema,
      costPerMillionTokens: EstimateSchema.nullable(),
      gpusForUsers: z.number().nullable(),
    })
    .nullable(),
  notes: z.array(z.string()),
})

/** A speed that was predicted before it was looked up, beside what was measured. */
export const PredictionCheckSchema = z.object({
  modelId: z.string(),
  name: z.string(),
  quantity: z.enum(['decode', 'prefill']),
  predicted: EstimateSchema,
  measured: z.number(),
  adapter: z.string(),
})

export type Estimate = z.infer<typeof EstimateSchema>
export type CapacitySubject = z.infer<typeof CapacitySubjectSchema>
export type CapacityRequest = z.infer<typeof CapacityRequestSchema>
export type CapacityCatalog = z.infer<typeof CapacityCatalogSchema>
export type StorageScheme = z.infer<typeof StorageSchemeSchema>
export type SchemeOption = z.infer<typeof SchemeOptionSchema>
export type CapacityParts = z.infer<typeof CapacityPartsSchema>
export type CapacityPlan = z.infer<typeof CapacityPlanSchema>
export type PredictionCheck = z.infer<typeof PredictionCheckSchema>
export type KvElement = (typeof KV_ELEMENTS)[number]
