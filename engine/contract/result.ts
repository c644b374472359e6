/**
 * Measurements. A result hangs on a model (source or variant), names its protocol and provenance, and is superseded, never overwritten.
 * Two results may be put on one axis only if `protocolKey` is equal; speeds additionally need the same adapter.
 */
import { z } from 'zod'
import { ServedBenchmarkSchema } from './benchmark.ts'
import { FreeTextDriftSchema, PairedComparisonSchema } from './comparison.ts'
import { EnergySchema } from './energy.ts'

export const ProvenanceSchema = z.object({
  adapter: z.string(),
  adapterType: z.enum(['discrete', 'integrated', 'software', 'reference', 'unknown']),
  driver: z.string(),
  latheVersion: z.string(),
  platform: z.string(),
  measuredAt: z.string(),
})

export const PerplexityResultSchema = z.object({
  value: z.number().nullable(), // null when infinite; `note` says so
  nll: z.number().nullable(), // nats per token
  bitsPerByte: z.number().nullable(),
  tokens: z.number().int(),
  bytes: z.number().int(),
  window: z.number().int(),
  protocol: z.enum(['rolling', 'gptq', 'llamacpp']),
  standardError: z.number().nullable(), // of ln(perplexity), bootstrap over windows
  dataset: z.string(), // name + sha256 prefix
  note: z.string().nullable(),
  /** Digest of the token ids that were read: perplexities per token are of one quantity only where it is equal. Absent in older results. */
  tokenization: z.string().optional(),
  /** Why no drift from the baseline was measured along with it, in words for people; absent where it was, or where there was no baseline. */
  withoutDrift: z.string().optional(),
})

/** Drift from the baseline on the same tokens; KL(baseline ‖ this), nats per token. */
export const DriftResultSchema = z.object({
  baselineId: z.string(),
  kldMean: z.number().nullable(),
  kldMeanStandardError: z.number().nullable(),
  kldMedian: z.number().nullable(),
  kldP90: z.number().nullable(),
  kldP99: z.number().nullable(),
  kldMax: z.number().nullable(),
  top1Agreement: z.number().nullable(),
  top1AgreementStandardError: z.number().nullable(),
  deltaPRms: z.number().nullable(),
  tokens: z.number().int(),
  dataset: z.string(),
  /** Fields below are younger than the first stored results. */
  kldP95: z.number().nullable().default(null),
  kldP999: z.number().nullable().default(null),
  /** Change of the probability of the token that stands in the text: mean, and where 1 % and 99 % of the positions lie. */
  deltaPMean: z.number().nullable().default(null),
  deltaPP1: z.number().nullable().default(null),
  deltaPP99: z.number().nullable().default(null),
  /** ln(perplexity / baseline perplexity) with the error of the paired difference, much tighter than either perplexity's own. */
  logPerplexityRatio: z.number().nullable().default(null),
  logPerplexityRatioStandardError: z.number().nullable().default(null),
  /** Positions whose most probable token changed. */
  flips: z.number().int().nullable().default(null),
  /** True where `results.tokens` has the positions one by one. */
  hasTokens: z.boolean().default(false),
  /**
   * Where a side is a server: divergences are lower bounds, made of so many most probable tokens of either and the text's own, the rest as one. null =
   * or absent: of the whole distribution.
   */
  boundedByTop: z.number().int().nullable().optional(),
})

export const TaskResultSchema = z.object({
  /** Unique on the board: the task, and the metric and filter too where a task has several. */
  name: z.string(),
  title: z.string(),
  /** lm-eval's names: "acc", "acc_norm", "exact_match", "perplexity", … */
  metric: z.string(),
  value: z.number(),
  standardError: z.number().nullable(),
  /** 95 %: Wilson for shares, else from the standard error. */
  interval: z.tuple([z.number(), z.number()]),
  n: z.number().int(),
  chance: z.number().nullable(),
  /** Against the baseline on the same items; null for the baseline itself. */
  paired: PairedComparisonSchema.nullable(),
  dataset: z.string(),
  /** Fields below are younger than the first stored results. The task's own name, as in its file. */
  task: z.string().nullable().default(null),
  filter: z.string().default('none'),
  higherIsBetter: z.boolean().default(true),
  fewshot: z.number().int().nullable().default(null),
  outputType: z
    .enum(['loglikelihood', 'loglikelihood_rolling', 'multiple_choice', 'generate_until', 'group', 'probe'])
    .default('multiple_choice'),
  /** True for the metric that stands for the task where there is room for one. */
  primary: z.boolean().default(true),
  /** `published`: read from a results file, its items unknown or another engine's. */
  origin: z.enum(['measured', 'published']).default('measured'),
  /** True where `results.samples` has the items one by one. */
  hasSamples: z.boolean().default(false),
  note: z.string().nullable().default(null),
  /** Of a group: its tasks under its metric and filter, and how much of its score each is. Absent in groups stored before they were compared by items. */
  members: z
    .array(z.object({ task: z.string(), weight: z.number() }))
    .readonly()
    .optional(),
  /** Of greedily generated answers measured beside a baseline; the same for all figures of a task. */
  freeText: FreeTextDriftSchema.nullable().optional(),
})

export const SampleStatsSchema = z.object({ median: z.number(), min: z.number(), max: z.number(), n: z.number().int() })

export const ThroughputResultSchema = z.object({
  prefillTokensPerSecond: SampleStatsSchema,
  decodeTokensPerSecond: SampleStatsSchema,
  timeToFirstTokenMs: SampleStatsSchema,
  promptTokens: z.number().int(),
  generatedTokens: z.number().int(),
  warmups: z.number().int(),
  repeats: z.number().int(),
  loadSeconds: z.number(),
  compileSeconds: z.number().nullable(),
  peakGpuBytes: z.number().int(),
  weightGpuBytes: z.number().int(),
  kvGpuBytes: z.number().int(),
  /** True if baseline and variant ran A/B/A/B in one process. */
  interleavedWith: z.string().nullable(),
  /** Share of the measured memory-bandwidth limit during decode, 0…1; null when not profiled. */
  bandwidthShare: z.number().nullable(),
  /** Of whole requests, prompt and answer, one at a time; absent in records of earlier versions. */
  energy: EnergySchema.optional(),
  /**
   * Against the model measured in turn with this one in the same job; null for that model itself and for one measured alone. A ratio of two
   * jobs' speeds says as much about the day as about the model.
   */
  versus: z
    .object({
      baselineId: z.string(),
      prefillRatio: SampleStatsSchema,
      decodeRatio: SampleStatsSchema,
      timeToFirstTokenRatio: SampleStatsSchema,
    })
    .nullable()
    .default(null),
  /** Prefill by prompt length, decode by batch and context; the fields above are one of them. */
  points: z
    .array(
      z.object({
        kind: z.enum(['prefill', 'decode']),
        batch: z.number().int(),
        /** Tokens in the cache when decoding starts, or prompt tokens. */
        context: z.number().int(),
        tokensPerSecond: SampleStatsSchema,
      }),
    )
    .default([]),
})

/** Error of one stored tensor against its source. dB; relative = ‖w−ŵ‖/‖w‖. */
export const TensorErrorSchema = z.object({
  name: z.string(),
  layer: z.number().int().nullable(),
  kind: z.string(), // "q_proj"
  scheme: z.string(),
  sqnrDb: z.number().nullable(),
  relativeError: z.number(),
  maxError: z.number(),
  cosine: z.number(),
  bytes: z.number().int(),
})

export const ResultSetSchema = z.object({
  modelId: z.string(),
  perplexity: PerplexityResultSchema.nullable(),
  /** From the family's source. */
  drift: DriftResultSchema.nullable(),
  /** The newest from each baseline that it was measured from, the source included. */
  drifts: z.array(DriftResultSchema).optional(),
  tasks: z.array(TaskResultSchema),
  throughput: ThroughputResultSchema.nullable(),
  served: ServedBenchmarkSchema.nullable().default(null),
  tensorErrors: z.array(TensorErrorSchema),
  /** Keys: "perplexity", "drift", "drift:<baselineId>", "tasks" (the newest task's), "task:<name>", "throughput", "served", "compression"; only those measured. */
  provenance: z.record(z.string(), ProvenanceSchema),
  /** The same keys. "tasks" joins the keys of all tasks, so it is equal only if the same items of the same tasks were answered. */
  protocolKeys: z.record(z.string(), z.string()),
})

export type Provenance = z.infer<typeof ProvenanceSchema>
export type PerplexityResult = z.infer<typeof PerplexityResultSchema>
export type DriftResult = z.infer<typeof DriftResultSchema>
export type TaskResult = z.infer<typeof TaskResultSchema>
export type SampleStats = z.infer<typeof SampleStatsSchema>
export type ThroughputResult = z.infer<typeof ThroughputResultSchema>
export type TensorError = z.infer<typeof TensorErrorSchema>
export type ResultSet = z.infer<typeof ResultSetSchema>
