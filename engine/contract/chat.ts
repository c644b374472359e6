/** Chat threads and the events of one streamed answer. Stats stay with the message they describe. */
import { z } from 'zod'
import { ErrorSchema } from './model.ts'

export const SamplingSchema = z.object({
  temperature: z.number().min(0).max(2),
  topK: z.number().int().min(0), // 0 = off
  topP: z.number().gt(0).max(1),
  minP: z.number().min(0).max(1),
  /** null = a fresh seed, reported back with the answer so that it can be replayed. */
  seed: z.number().int().nonnegative().nullable(),
  maxTokens: z.number().int().positive().nullable(), // null = rest of the context
  stop: z.array(z.string().min(1)).max(16),
  /**
   * What happens when the conversation no longer fits the context. `stop` (as if absent): nothing is sent and the error says so. `drop-oldest`:
   * the model no longer sees the first turns. `drop-middle`: it keeps the first turn and loses those after it. The thread keeps everything.
   */
  overflow: z.enum(['stop', 'drop-oldest', 'drop-middle']).optional(),
})

export const AnswerStatsSchema = z.object({
  promptTokens: z.number().int(),
  completionTokens: z.number().int(),
  timeToFirstTokenMs: z.number(),
  loadMs: z.number(),
  prefillTokensPerSecond: z.number().nullable(),
  /** (n−1) / (last − first): excludes time to first token. */
  decodeTokensPerSecond: z.number().nullable(),
  stopReason: z.enum(['stop', 'length', 'context', 'aborted', 'error']),
  seed: z.number().int(),
  adapter: z.string(),
  softwareAdapter: z.boolean(),
  contextUsed: z.number().int(),
  contextLimit: z.number().int(),
  /** Prompt tokens that an earlier answer had computed. Absent in answers of older versions. */
  cachedTokens: z.number().int().optional(),
  /** Tokens of earlier turns that the model was not shown, because of `overflow`. */
  droppedTokens: z.number().int().optional(),
})

export const ChatMessageSchema = z.object({
  id: z.string(),
  role: z.enum(['system', 'user', 'assistant']),
  content: z.string(),
  modelId: z.string().nullable(),
  createdAt: z.string(),
  stats: AnswerStatsSchema.nullable(),
  error: ErrorSchema.nullable(),
})

export const ChatThreadSchema = z.object({
  id: z.string(),
  title: z.string(),
  modelId: z.string().nullable(),
  systemPrompt: z.string(),
  sampling: SamplingSchema,
  createdAt: z.string(),
  updatedAt: z.string(),
  messageCount: z.number().int(),
})

export const ChatSendSchema = z.object({
  threadId: z.string(),
  modelId: z.string(),
  content: z.string().min(1).max(1_000_000),
  sampling: SamplingSchema,
  systemPrompt: z.string(),
  /** Drop this message and everything after it first (edit or regenerate). An answer is dropped together with the prompt before it. */
  replaceFrom: z.string().nullable(),
})

export const ChatEventSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('accepted'), userMessage: ChatMessageSchema, assistantMessageId: z.string() }),
  z.object({ kind: z.literal('loading'), doneBytes: z.number(), totalBytes: z.number(), phase: z.string() }),
  z.object({ kind: z.literal('prefill'), done: z.number().int(), total: z.number().int() }),
  z.object({ kind: z.literal('text'), text: z.string(), tokens: z.number().int() }),
  z.object({ kind: z.literal('done'), message: ChatMessageSchema }),
])

export type Sampling = z.infer<typeof SamplingSchema>
export type AnswerStats = z.infer<typeof AnswerStatsSchema>
export type ChatMessage = z.infer<typeof ChatMessageSchema>
export type ChatThread = z.infer<typeof ChatThreadSchema>
export type ChatSend = z.infer<typeof ChatSendSchema>
export type ChatEvent = z.infer<typeof ChatEventSchema>
