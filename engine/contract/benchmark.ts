/**
 * Benchmarks under load (specs/benchmark.md §1–§5): what was sent, when, and what came back. Times are measured from the moment a request was
 * *scheduled*, so that a stalled server can't hide behind a client that waits with it. Milliseconds unless a name says otherwise.
 */
import { z } from 'zod'
import { EnergySchema } from './energy.ts'

export const LoadProfileSchema = z.enum(['synchronous', 'concurrent', 'throughput', 'constant', 'poisson', 'sweep', 'trace'])

/** Under whose names latencies are shown; the stored timestamps are the same. */
export const LatencyConventionSchema = z.enum(['lathe', 'guidellm', 'vllm', 'aiperf'])

/** Linear percentiles (NumPy's), n−1 deviation. p99 is only worth showing from 300 values on. */
export const LatencySummarySchema = z.object({
  n: z.number().int(),
  mean: z.number(),
  std: z.number().nullable(),
  min: z.number(),
  p50: z.number(),
  p90: z.number(),
  p95: z.number(),
  p99: z.number(),
  max: z.number(),
})

/** All given limits must be met by a request to count as good. */
export const ServiceLevelSchema = z.object({
  name: z.string(),
  ttftMs: z.number().nullable(),
  tpotMs: z.number().nullable(),
  e2eMs: z.number().nullable(),
})

/** A run's latencies under one tool's names and definitions (specs/benchmark.md §2), from its kept time stamps; null = no request has one. */
export const ConventionalLatenciesSchema = z.object({
  profile: LoadProfileSchema,
  concurrency: z.number().int().nullable(),
  rate: z.number().nullable(),
  latencies: z.record(z.string(), LatencySummarySchema.nullable()),
})

/** One load: one profile at one concurrency or rate. */
export const ServedRunSchema = z.object({
  profile: LoadProfileSchema,
  /** Most requests in flight at once; null = as many as the schedule asks for. */
  concurrency: z.number().int().nullable(),
  /** Requests per second that were scheduled; null for closed loops. */
  rate: z.number().nullable(),
  /** Steady window: without warm-up and cool-down. */
  durationSeconds: z.number(),
  fullDurationSeconds: z.number(),
  completed: z.number().int(),
  failed: z.number().int(),
  incomplete: z.number().int(),
  warmup: z.number().int(),
  requestsPerSecond: z.number(),
  inputTokensPerSecond: z.number(),
  /** Of tokens that came within the window, whichever request they belong to. */
  outputTokensPerSecond: z.number(),
  totalTokensPerSecond: z.number(),
  /** Time-weighted mean of the requests in flight during the window, those of the warm-up included. */
  meanConcurrency: z.number(),
  /** Failed of all that were counted; absent, as the next two, in records of earlier versions. */
  errorShare: z.number().optional(),
  /** Of each request, without its first token: what one user sees. */
  tokensPerSecondPerUser: LatencySummarySchema.nullable().optional(),
  /** From sending: beside `e2eMs` it shows what waiting for a place cost. */
  e2eFromSendMs: LatencySummarySchema.nullable().optional(),
  /** Requests that met `level`, per second and as a share. */
  goodput: z.object({ level: ServiceLevelSchema, requestsPerSecond: z.number(), share: z.number() }).nullable(),
  /** Scheduled → sent: what a closed loop hides. */
  queueMs: LatencySummarySchema.nullable(),
  /** First token, from the schedule. */
  ttftMs: LatencySummarySchema.nullable(),
  /** First token, from sending. */
  ttftFromSendMs: LatencySummarySchema.nullable(),
  /** Every gap between tokens, pooled over requests. */
  itlMs: LatencySummarySchema.nullable(),
  /** Mean gap of a request without its first token. */
  tpotMs: LatencySummarySchema.nullable(),
  e2eMs: LatencySummarySchema.nullable(),
  inputTokens: LatencySummarySchema.nullable(),
  outputTokens: LatencySummarySchema.nullable(),
  cachedTokens: z.number().int(),
  /** 99 % of the delays of this process's own event loop. */
  clientLagP99Ms: z.number().nullable(),
  /** What makes the figures doubtful: a slow client, errors, too few requests. */
  warnings: z.array(z.string()),
  /** First error of each kind with how often. */
  errors: z.array(z.object({ message: z.string(), count: z.number().int() })),
  /** Of the steady window; absent in records of earlier versions. */
  energy: EnergySchema.optional(),
})

export const ServedBenchmarkSchema = z.object({
  /** `server`: over HTTP, at `url`. `in-process`: the runtime driven directly, without HTTP. */
  target: z.enum(['server', 'in-process']),
  url: z.string().nullable(),
  model: z.string(),
  /** e.g. "synthetic 256+64, unique prefixes, seed 1". */
  load: z.string(),
  sharesGpu: z.boolean(),
  runs: z.array(ServedRunSchema),
  /**
   * The highest rate of these loads at which so many of the requests met the level: scheduled, or reached where none was; null = at none. Absent
   * without a level, and in records of earlier versions.
   */
  withinLevel: z.object({ level: ServiceLevelSchema, rate99: z.number().nullable(), rate90: z.number().nullable() }).nullable().optional(),
  /** The raw timestamps of every request, on disk; null when not kept. */
  rawFile: z.string().nullable(),
})

export const StartServedBenchmarkSchema = z.object({
  /** A folder model is served in-process; a remote one at its address. */
  modelId: z.string(),
  profile: LoadProfileSchema,
  /** Streams of `concurrent`, one run each. */
  concurrency: z.array(z.number().int().min(1).max(4096)).default([1, 4]),
  /** Requests per second of `constant` and `poisson`, one run each. */
  rates: z.array(z.number().positive()).default([1]),
  sweepSteps: z.number().int().min(3).max(20).default(6),
  requests: z.number().int().min(1).max(100_000).default(32),
  maxSeconds: z.number().positive().default(120),
  warmupRequests: z.number().int().nonnegative().default(2),
  promptTokens: z.number().int().min(1).default(256),
  outputTokens: z.number().int().min(1).default(64),
  /** Tokens that groups of requests share at the front; 0 = unique prompts, so that no cache helps. */
  sharedPrefixTokens: z.number().int().nonnegative().default(0),
  level: ServiceLevelSchema.nullable().default(null),
  /** A file of recorded arrivals for `trace`. */
  traceFile: z.string().nullable().default(null),
  seed: z.number().int().nonnegative().default(1),
})

export const BenchmarkExportFormatSchema = z.enum(['guidellm', 'guidellm-csv', 'vllm', 'csv', 'raw'])

/** Service levels to choose from, from GuideLLM's documentation. Limits on gaps are on each request's mean gap. */
export const SERVICE_LEVELS: readonly ServiceLevel[] = [
  { name: 'chat', ttftMs: 200, tpotMs: 50, e2eMs: null },
  { name: 'rag', ttftMs: 300, tpotMs: 100, e2eMs: 3000 },
  { name: 'code-completion', ttftMs: null, tpotMs: null, e2eMs: 2000 },
  { name: 'code-generation', ttftMs: 500, tpotMs: 150, e2eMs: null },
  { name: 'content', ttftMs: 600, tpotMs: 200, e2eMs: null },
]

export type LoadProfile = z.infer<typeof LoadProfileSchema>
export type LatencyConvention = z.infer<typeof LatencyConventionSchema>
export type ConventionalLatencies = z.infer<typeof ConventionalLatenciesSchema>
export type LatencySummary = z.infer<typeof LatencySummarySchema>
export type ServiceLevel = z.infer<typeof ServiceLevelSchema>
export type ServedRun = z.infer<typeof ServedRunSchema>
export type ServedBenchmark = z.infer<typeof ServedBenchmarkSchema>
export type StartServedBenchmark = z.infer<typeof StartServedBenchmarkSchema>
export type BenchmarkExportFormat = z.infer<typeof BenchmarkExportFormatSchema>
