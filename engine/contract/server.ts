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
  /** Clients must send it. */
  apiKey: z.string().min(8).max(256),
  /** Web origins that browsers may call from. */
  corsOrigins: z.array(z.string().max(255)).max(16),
  /** Minutes after which a model that nobody asks for is unloaded; null = never. */
  idleUnloadMinutes: z.number().positive().max(10_080).nullable(),
})

export const ServedModelInfoSchema = z.object({
  modelId: z.string(),
  /** As clients name it. */
  name: z.string(),
  loaded: z.boolean(),
  contextLimit: z.number().int().nullable(),
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
  /** What it runs with, or ran with last; null = never. */
  config: ServerConfigSchema.nullable(),
  models: z.array(ServedModelInfoSchema),
  /** Running ones first, in order of arrival, then ended ones, newest first. */
  requests: z.array(LiveRequestSchema),
  /** Over all loaded models. */
  blocksUsed: z.number().int(),
  blocksTotal: z.number().int(),
  /** Newest last. */
  log: z.array(ServerLogLineSchema),
  /** Why the last start failed. */
  error: ErrorSchema.nullable(),
})

export type ServerConfig = z.infer<typeof ServerConfigSchema>
export type ServerView = z.infer<typeof ServerViewSchema>
export type LiveServerRequest = z.infer<typeof LiveRequestSchema>
export type ServerLogLine = z.infer<typeof ServerLogLineSchema>
