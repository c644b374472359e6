/** Long work: compressions, evaluations, benchmarks. A job has phases with work units; everything else on screen is derived from those. */
import { z } from 'zod'
import { ErrorSchema } from './model.ts'

export const JobKindSchema = z.enum(['compress', 'evaluate', 'benchmark'])
export const JobStateSchema = z.enum(['queued', 'running', 'cancelling', 'cancelled', 'failed', 'interrupted', 'succeeded'])

export const JobPhaseSchema = z.object({
  id: z.string(), // "read" | "quantize" | "write" | "verify" | "perplexity" | "tasks" | "throughput" | …
  title: z.string(),
  state: z.enum(['pending', 'running', 'done', 'skipped']),
  /** Work units, e.g. bytes or items; total 0 while unknown. */
  done: z.number(),
  total: z.number(),
  unit: z.string(),
})

/** What a compression did not do again because another variant had it. */
export const TakenOverSchema = z.object({
  /** Name of that variant. */
  from: z.string(),
  /** Layers of which every tensor was taken over. */
  layers: z.array(z.number().int()),
  ofLayers: z.number().int(),
  tensors: z.number().int(),
  ofTensors: z.number().int(),
})

/** A compression, layer by layer. */
export const JobLayersSchema = z.object({
  total: z.number().int(),
  /** The layer being worked on; null before and after them. */
  current: z.number().int().nullable(),
  /** What is being done to it: "GPTQ down_proj". */
  note: z.string().nullable(),
  /** `output`: the layer's output against the original's on calibration text. `weights`: the worst of its matrices against itself. */
  metric: z.enum(['output', 'weights']),
  /** Finished layers by number, with the relative error; null where it is not known. */
  finished: z.array(z.object({ layer: z.number().int(), error: z.number().nullable(), seconds: z.number().nullable() })),
  /** Most held of the device so far; null where no device is used. */
  deviceBytes: z.number().nullable().default(null),
  /** For the layers to come, from those measured so far; null before the first and after the last. */
  secondsLeft: z.number().nullable().default(null),
  /** null where everything was computed. */
  takenOver: TakenOverSchema.nullable().default(null),
})

export const JobSchema = z.object({
  id: z.string(),
  kind: JobKindSchema,
  title: z.string(), // "Pebble-Tidewater → Balanced 4-bit"
  state: JobStateSchema,
  modelId: z.string(),
  /** The variant a compression made, once it is registered. */
  variantId: z.string().nullable(),
  presetId: z.string().nullable(),
  phases: z.array(JobPhaseSchema),
  /** 0…1 over all phases, weighted by expected time. */
  progress: z.number(),
  /** null until there is enough evidence (5 % or 10 s). */
  etaSeconds: z.number().nullable(),
  currentItem: z.string().nullable(), // tensor or task being worked on
  /** Units per second of the running phase, null when not yet known. */
  rate: z.object({ value: z.number(), unit: z.string() }).nullable(),
  peakRssBytes: z.number().int().nullable(),
  /** Fields below are younger than the first stored jobs. null without layers to tell of. */
  layers: JobLayersSchema.nullable().default(null),
  /** Seconds since the last finished work unit; the interface turns amber past 15. */
  stalledSeconds: z.number(),
  createdAt: z.string(),
  startedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
  /** Place in the queue, 0 = running. */
  queuePosition: z.number().int(),
  error: ErrorSchema.nullable(),
  /** True when `jobs.resume` can continue from finished work. */
  resumable: z.boolean(),
})

export const JobLogLineSchema = z.object({ at: z.string(), level: z.enum(['info', 'warn', 'error']), text: z.string() })

export type Job = z.infer<typeof JobSchema>
export type JobKind = z.infer<typeof JobKindSchema>
export type JobState = z.infer<typeof JobStateSchema>
export type JobLayers = z.infer<typeof JobLayersSchema>
export type TakenOver = z.infer<typeof TakenOverSchema>
export type JobPhase = z.infer<typeof JobPhaseSchema>
export type JobLogLine = z.infer<typeof JobLogLineSchema>
