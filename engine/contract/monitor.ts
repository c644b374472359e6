/** A server's own metrics over time, scraped by the engine (never by the page), and the watch over a served variant's quality. */
import { z } from 'zod'

export const MonitorTargetSchema = z.object({
  /** Base address or /metrics address, http or https. */
  url: z.url({ protocol: /^https?$/ }),
  /** Sent as a bearer token; never stored. */
  apiKey: z.string().min(1).nullable(),
})

/** Quantiles of what happened between two scrapes, from histogram buckets; null where nothing happened or the server has no such metric. */
export const LatencySchema = z.object({ p50: z.number().nullable(), p90: z.number().nullable(), p99: z.number().nullable() })

export const MonitorSampleSchema = z.object({
  at: z.string(),
  running: z.number().nullable(),
  waiting: z.number().nullable(),
  /** Share of the KV cache in use, 0…1. */
  kvUsage: z.number().nullable(),
  /** Milliseconds, over the interval that ends with this sample. */
  firstTokenMs: LatencySchema,
  interTokenMs: LatencySchema,
  endToEndMs: LatencySchema,
  /** Per second, over the interval; null at the first sample and after a restart of the server. */
  promptTokensPerSecond: z.number().nullable(),
  generatedTokensPerSecond: z.number().nullable(),
  requestsPerSecond: z.number().nullable(),
  /** Share of looked-up prompt tokens found in the prefix cache, over the interval. */
  cacheHitRate: z.number().nullable(),
  /** Share of drafted tokens that were accepted, over the interval. */
  draftAcceptance: z.number().nullable(),
  preemptionsPerSecond: z.number().nullable(),
})

export const MonitorReadingSchema = z.object({
  /** The address that was read. */
  metricsUrl: z.string(),
  /** The `model_name` labels. */
  models: z.array(z.string()),
  /** Newest last; at most as many as the engine keeps. */
  samples: z.array(MonitorSampleSchema),
  /** The counters went back: the server was restarted between the last two samples. */
  restarted: z.boolean(),
})

/** One drift check of a watched variant. */
export const QualityCheckSchema = z.object({
  at: z.string(),
  kldMean: z.number().nullable(),
  top1Agreement: z.number().nullable(),
  adapter: z.string(),
  driver: z.string(),
  latheVersion: z.string(),
  /** Of a server, which gives no divergence: a bundled task's answers held against those of the first check. null for models here. */
  answers: z
    .object({
      task: z.string(),
      items: z.number().int(),
      accuracy: z.number().nullable(),
      /** Items whose answer is another than at first. */
      changed: z.number().int(),
      /** Mean |Δ log p| over all choices, nats; null where none is known. */
      logprobShift: z.number().nullable(),
    })
    .nullable()
    .default(null),
})
export const QualityWatchSchema = z.object({
  modelId: z.string(),
  everyHours: z.number().positive().max(8760),
  /** Oldest first. Only checks of one protocol stand in one row. */
  checks: z.array(QualityCheckSchema),
  nextAt: z.string().nullable(),
  /**
   * `changed`: the newest check differs from the first by more than the same bytes can; then `reason` names what else differs. While `waiting`, a
   * reason says why the last try failed.
   */
  state: z.enum(['waiting', 'steady', 'changed']),
  reason: z.string().nullable(),
})

export type MonitorTarget = z.infer<typeof MonitorTargetSchema>
export type Latency = z.infer<typeof LatencySchema>
export type MonitorSample = z.infer<typeof MonitorSampleSchema>
export type MonitorReading = z.infer<typeof MonitorReadingSchema>
export type QualityCheck = z.infer<typeof QualityCheckSchema>
export type QualityWatch = z.infer<typeof QualityWatchSchema>
