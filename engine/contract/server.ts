/** The OpenAI-compatible server of the studio: how it is set up, whether it runs, and what it is doing request by request. */
import { z } from 'zod'
import { ErrorSchema } from './model.ts'

export const ServerConfigSchema = z.object({
  /** The first is loaded at the start and stays; the others are loaded when somebody asks for them. */
  modelIds: z.array(z.string()).min(1).max(32),
  /** 127.0.0.1, or an address of this machine, which lets the network in. */
  host: z.string().min(1).max(255),
  /** 0 = any free one. */
  port: z.number().int().min(0).max(65_535),
  /** Clients must send it. Going in, null = the one that is kept, or a new one; coming out it is always null: `server.key` gives it. */
  apiKey: z.string().min(8).max(256).nullable().default(null),
  /** Web origins that browsers may call from. */
  corsOrigins: z.array(z.string().max(255)).max(16),
  /** Minutes after which a model that nobody asks for is unloaded; null = never. */
  idleUnloadMinutes: z.number().positive().max(10_080).nullable(),
  /** Tokens that one request may have; null = as in the settings. */
  contextTokens: z.number().int().min(64).max(1_048_576).nullable().default(null),
  /** Requests answered at once, each with room for a whole context; null = a few that share the room of one. */
  parallel: z.number().int().min(1).max(64).nullable().default(null),
  /** Type of cached keys and values, or two of them as keys/values; null = as in the settings. */
  kvDtype: z.string().max(16).nullable().default(null),
  /** Proposes tokens that the model then confirms; answers stay the same. `draft`: a smaller model of the same vocabulary proposes them. */
  speculation: z
    .discriminatedUnion('kind', [
      z.object({ kind: z.literal('off') }),
      z.object({ kind: z.literal('ngram') }),
      z.object({ kind: z.literal('draft'), modelId: z.string() }),
    ])
    .default({ kind: 'off' }),
  /** What happens to a `max_tokens` that the context has no room for. */
  overlong: z.enum(['reject', 'clamp']).default('reject'),
})

export const ServedModelInfoSchema = z.object({
  modelId: z.string(),
  /** As clients name it. */
  name: z.string(),
  loaded: z.boolean(),
  contextLimit: z.number().int().nullable(),
  /** Type of its cached keys and values; null until it is loaded. */
  kvDtype: z.string().nullable().default(null),
  /** The checkpoint itself names that type. */
  kvNamedByCheckpoint: z.boolean().default(false),
  /** The first, which stays. */
  pinned: z.boolean().default(false),
  /** Requests that hold it now. */
  inUse: z.number().int().default(0),
  /** What it holds of the device; null until it is loaded. */
  bytes: z.object({ weights: z.number(), kv: z.number(), other: z.number() }).nullable().default(null),
  /** When it leaves memory unless somebody asks for it; null = not planned. */
  unloadAt: z.string().nullable().default(null),
  loading: z.object({ phase: z.string(), doneBytes: z.number(), totalBytes: z.number() }).nullable().default(null),
  /** Tokens proposed and confirmed since it was loaded; null where it does not speculate. */
  speculation: z.object({ proposed: z.number().int(), accepted: z.number().int(), active: z.boolean() }).nullable().default(null),
})

export const LiveRequestSchema = z.object({
  id: z.string(),
  endpoint: z.string(),
  model: z.string(),
  state: z.enum(['queued', 'prefill', 'decode', 'finished', 'aborted', 'failed']),
  startedAt: z.string(),
  endedAt: z.string().nullable(),
  promptTokens: z.number().int(),
  /** null until it is known. */
  cachedTokens: z.number().int().nullable(),
  prefilledTokens: z.number().int(),
  generatedTokens: z.number().int(),
  maxTokens: z.number().int(),
  firstTokenMs: z.number().nullable(),
  tokensPerSecond: z.number().nullable(),
  /** KV blocks that its tokens take. */
  blocks: z.number().int(),
  /** Why it ended, or what failed. */
  reason: z.string().nullable(),
  /** Why no more of the prompt was in the prefix cache, and the first token that was not; null = all was, or not known yet. */
  cacheMiss: z
    .object({ reason: z.enum(['disabled', 'short', 'new', 'diverged', 'evicted', 'fresh']), position: z.number().int() })
    .nullable()
    .default(null),
})

export const ServerLogLineSchema = z.object({ at: z.string(), level: z.enum(['info', 'warn', 'error']), text: z.string() })

export const ServerViewSchema = z.object({
  state: z.enum(['stopped', 'starting', 'running', 'stopping']),
  /** Base address for clients, ending in /v1; null while it does not run. */
  url: z.string().nullable(),
  startedAt: z.string().nullable(),
  /** What it runs with, or ran with last, without its key; null = never. */
  config: ServerConfigSchema.nullable(),
  /** The last characters of the key that is kept, to know it by; null = none is kept. */
  keyHint: z.string().nullable().default(null),
  models: z.array(ServedModelInfoSchema),
  /** Running ones first, in order of arrival, then ended ones, newest first. */
  requests: z.array(LiveRequestSchema),
  /** Over all loaded models. */
  blocksUsed: z.number().int(),
  blocksTotal: z.number().int(),
  /** Since the start. */
  totals: z
    .object({
      requests: z.number().int(),
      failed: z.number().int(),
      promptTokens: z.number(),
      cachedTokens: z.number(),
      generatedTokens: z.number(),
    })
    .default({ requests: 0, failed: 0, promptTokens: 0, cachedTokens: 0, generatedTokens: 0 }),
  /** Newest last. */
  log: z.array(ServerLogLineSchema),
  /** Why the last start failed. */
  error: ErrorSchema.nullable(),
})

export const ServerTestSchema = z.object({ status: z.number().int(), milliseconds: z.number(), answer: z.string() })

/** As a caller may give it: what has a default may be left out. */
export type ServerTest = z.infer<typeof ServerTestSchema>
export type ServedModelInfo = z.infer<typeof ServedModelInfoSchema>
export type ServerConfig = z.infer<typeof ServerConfigSchema>
export type ServerView = z.infer<typeof ServerViewSchema>
export type LiveServerRequest = z.infer<typeof LiveRequestSchema>
export type ServerLogLine = z.infer<typeof ServerLogLineSchema>
