/** Body of POST /v1/completions (specs/runtime.md §12). */
import { z } from 'zod'
import { GENERATION_SHAPE, MEANINGLESS_FIELDS, generationFields } from './generation-fields.ts'
import type { GenerationFields } from './generation-fields.ts'
import { badRequest, notImplemented, optional, parseBody } from './parse-body.ts'
import { ResponseFormatSchema, responseFormat } from './structured-fields.ts'

const TOKENS = z.array(z.number().int().min(0)).min(1)

const CompletionSchema = z.object({
  ...GENERATION_SHAPE,
  prompt: z.union([z.string(), z.array(z.string()).min(1), TOKENS, z.array(TOKENS).min(1)]),
  echo: optional(z.boolean()),
  logprobs: optional(z.number().int().min(0).max(20)),
  suffix: optional(z.string()),
  prompt_embeds: optional(z.unknown()),
  add_special_tokens: optional(z.boolean()),
  response_format: optional(ResponseFormatSchema),
})

/** Fields that are understood, or are known to mean nothing here. */
export const COMPLETION_FIELDS: ReadonlySet<string> = new Set([...Object.keys(CompletionSchema.shape), ...MEANINGLESS_FIELDS])

export interface CompletionFields extends GenerationFields {
  readonly prompts: readonly (string | readonly number[])[]
  readonly echo: boolean
  /** Top log-probabilities per token; undefined = none asked for. */
  readonly logprobs: number | undefined
  readonly addSpecialTokens: boolean
}

/** OpenAI's default for completions, kept by every compatible server. */
const DEFAULT_COMPLETION_TOKENS = 16

/** Throws ApiError 400 or 501 naming the parameter. */
export function parseCompletionRequest(value: unknown): CompletionFields {
  const body = parseBody(CompletionSchema, value)
  if (body.suffix !== undefined && body.suffix !== '') throw notImplemented('suffix', 'A suffix')
  if (body.prompt_embeds !== undefined) throw notImplemented('prompt_embeds', 'A prompt of embeddings')
  const fields = generationFields(body, body.max_tokens ?? DEFAULT_COMPLETION_TOKENS, responseFormat(body.response_format))
  const echo = body.echo ?? false
  if (fields.maxTokens === 0 && !echo)
    throw badRequest('max_tokens', '"max_tokens" may be 0 only with "echo": there would be nothing to return.')
  const { prompt } = body
  let prompts: readonly (string | readonly number[])[]
  if (typeof prompt === 'string') prompts = [prompt]
  else if (typeof prompt[0] === 'number') prompts = [prompt as number[]]
  else prompts = prompt as string[] | number[][]
  return { ...fields, prompts, echo, logprobs: body.logprobs, addSpecialTokens: body.add_special_tokens ?? true }
}
