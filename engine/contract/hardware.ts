/** What this machine offers, named the way its driver names it, with what is missing and how to get it. */
import { z } from 'zod'

/**
 * What the inputs of a linear are rounded to before the product: 8-bit integers, 8-bit and 4-bit floats. Weight-only schemes have none: their
 * weights are widened as they are read, on any adapter.
 */
export const INPUT_ELEMENTS = ['int8', 'e4m3', 'e2m1'] as const
export const InputElementSchema = z.enum(INPUT_ELEMENTS)

export const AdapterSchema = z.object({
  /** Stable within this machine; pass it as `--adapter`. "reference" is the f64 CPU backend. */
  id: z.string(),
  name: z.string(),
  vendor: z.string(),
  backend: z.string(),
  driver: z.string(),
  type: z.enum(['discrete', 'integrated', 'software', 'reference', 'unknown']),
  selected: z.boolean(),
  usable: z.boolean(),
  reason: z.string().nullable(),
  features: z.object({
    f16: z.boolean(),
    subgroups: z.boolean(),
    subgroupSize: z.tuple([z.number().int(), z.number().int()]).nullable(),
    timestamps: z.boolean(),
    packedDot: z.boolean(),
    subgroupMatrix: z.boolean(),
  }),
  /** Inputs that it has no arithmetic for: Lathe rounds them the same way and multiplies in floats. Same numbers, no gain in speed. */
  emulates: z.array(InputElementSchema).default([]),
  limits: z
    .object({ maxBufferBytes: z.number(), maxBindingBytes: z.number(), workgroupStorageBytes: z.number(), maxInvocations: z.number() })
    .nullable(),
  memory: z.object({ totalBytes: z.number().nullable(), freeBytes: z.number().nullable(), source: z.string() }),
})

export const LedgerEntrySchema = z.object({ owner: z.string(), bytes: z.number(), buffers: z.number().int() })

export const LoadedModelSchema = z.object({
  modelId: z.string(),
  name: z.string(),
  weightBytes: z.number(),
  kvBytes: z.number(),
  otherBytes: z.number(),
  contextLimit: z.number().int(),
  /** Type of cached keys and values, one for both or `keys/values`. */
  kvDtype: z.string().optional(),
  /** The checkpoint itself names this type. */
  kvNamedByCheckpoint: z.literal(true).optional(),
  /** Where the scales of an FP8 cache come from: the checkpoint's calibration, or each row. Absent = no side is FP8. */
  kvScales: z.enum(['checkpoint', 'rows']).optional(),
  /** Reads prompts on matrix units; what it answers depends on what shares a step. */
  matrixUnits: z.literal(true).optional(),
  busy: z.boolean(),
  lastUsedAt: z.string(),
})

export const HardwareSchema = z.object({
  adapters: z.array(AdapterSchema),
  /** Missing pieces with the command that brings them. */
  advice: z.array(z.object({ what: z.string(), why: z.string(), fix: z.string() })),
  host: z.object({
    platform: z.string(),
    cpu: z.string(),
    cores: z.number().int(),
    totalMemoryBytes: z.number(),
    freeMemoryBytes: z.number(),
    nodeVersion: z.string(),
    engineRssBytes: z.number(),
  }),
  ledger: z.array(LedgerEntrySchema),
  gpuBytesInUse: z.number(),
  gpuBudgetBytes: z.number().nullable(),
  loaded: z.array(LoadedModelSchema),
})

export const KernelShareSchema = z.object({
  kernel: z.string(),
  milliseconds: z.number(),
  share: z.number(),
  gigabytesPerSecond: z.number().nullable(),
  gigaflops: z.number().nullable(),
  dispatches: z.number().int(),
})
/** Matrix products with weights of one stored format, by Lathe's kernels. */
export const LinearRateSchema = z.object({
  format: z.enum(['bf16', 'int8', 'int4']),
  /** One token: weights read per second. */
  readGigaweightsPerSecond: z.number(),
  /** Many tokens: a multiplication and an addition count two. */
  multiplyGigaflops: z.number(),
})
/**
 * What the parts of a step of one token cost on this adapter with Lathe's own kernels; a model's step is the sum of its parts. Measured in turn with
 * each other, medians. Microseconds and nanoseconds.
 */
export const StepCostsSchema = z.object({
  /** A step that computes next to nothing: submit, choice of a token, readback. */
  stepMicroseconds: z.number(),
  /** Per token of the vocabulary, what follows the head's product. */
  logitNanoseconds: z.number(),
  /** A product with a matrix of so many weights, by stored format, smallest first. */
  linear: z.array(
    z.object({
      format: z.enum(['bf16', 'int8', 'int4']),
      points: z.array(z.object({ weights: z.number(), microseconds: z.number() })),
    }),
  ),
  /** A decoder layer without its products, smallest first. */
  layers: z.array(
    z.object({
      /** Elements of the activations that its norms, rotation and gate go through. */
      elements: z.number(),
      /** Query heads × head size. */
      headElements: z.number(),
      /** Without context. */
      microseconds: z.number(),
      /** Per token of context. */
      contextNanoseconds: z.number(),
    }),
  ),
})
export const HardwareBenchmarkSchema = z.object({
  /** Plain copies and streaming reads: the adapter's limits. */
  copyGigabytesPerSecond: z.number(),
  readGigabytesPerSecond: z.number(),
  /** Lathe's own BF16 matrix product. */
  matmulGigaflops: z.number(),
  /** Multiply-add in registers: the limit of plain shaders; null where there are none. */
  multiplyAddGigaflops: z.number().nullable().default(null),
  /** A step that computes next to nothing, until its result is back. */
  submitRoundTripMs: z.number(),
  /** What one more decoder layer costs besides reading its weights: launches, norms, attention; null in records of earlier versions. */
  layerMicroseconds: z.number().nullable().default(null),
  linear: z.array(LinearRateSchema).default([]),
  /** null in records of earlier versions. */
  stepCosts: StepCostsSchema.nullable().default(null),
  adapter: z.string(),
  software: z.boolean(),
  measuredAt: z.string(),
})

export type InputElement = z.infer<typeof InputElementSchema>
export type Adapter = z.infer<typeof AdapterSchema>
export type Hardware = z.infer<typeof HardwareSchema>
export type LoadedModel = z.infer<typeof LoadedModelSchema>
export type KernelShare = z.infer<typeof KernelShareSchema>
export type LinearRate = z.infer<typeof LinearRateSchema>
export type StepCosts = z.infer<typeof StepCostsSchema>
export type HardwareBenchmark = z.infer<typeof HardwareBenchmarkSchema>
