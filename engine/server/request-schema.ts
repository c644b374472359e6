/**
 * What OpenAI-compatible clients may ask, checked and brought into one form (specs/runtime.md §12, §5.2). `null` means absent everywhere.
 * Fields this server does not know are ignored, as the reference servers do; fields it knows but cannot honour are refused by name, since
 * ignoring a logit bias or a schema would be a wrong answer that looks right.
 */
import { z } from 'zod'
import { ApiError } from './api-error.ts'

const optional = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined)

const ContentPart = z.object({ type: z.string(), text: z.string().optional() })
const MessageSchema = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content: z.union([z.string(), z.array(ContentPart), z.null()]).optional(),
})

/** vLLM allows any number of stop strings; each is searched in every new piece of text, so there is a bound. */
const MAX_STOP_STRINGS = 64
/** More parallel answers than this is a mistake on one machine. */
const MAX_CHOICES = 64
const INTEGER_SEED = z.union([z.number().int(), z.bigint()])

const shared = {
  model: z.string().min(1),
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().gt(0).max(1)),
  top_k: optional(z.number().int().min(-1)),
  min_p: optional(z.number().min(0).max(1)),
  seed: optional(INTEGER_SEED),
  n: optional(z.number().int().min(1).max(MAX_CHOICES)),
  max_tokens: optional(z.number().int().min(0)),
  stop: optional(z.union([z.string().min(1), z.array(z.string().min(1)).max(MAX_STOP_STRINGS)])),
  stop_token_ids: optional(z.array(z.number().int().min(0)).max(1024)),
  ignore_eos: optional(z.boolean()),
  stream: optional(z.boolean()),
  stream_options: optional(z.object({ include_usage: optional(z.boolean()), continuous_usage_stats: optional(z.boolean()) })),
  cache_salt: optional(z.string().min(1)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  repetition_penalty: optional(z.number().gt(0)),
  logit_bias: optional(z.record(z.string(), z.number())),
  min_tokens: optional(z.number().int().min(0)),
  bad_words: optional(z.array(z.string())),
  allowed_token_ids: optional(z.array(z.number().int())),
  structured_outputs: optional(z.unknown()),
  prompt_logprobs: optional(z.number().int()),
}

const ChatSchema = z.object({
  ...shared,
  messages: z.array(MessageSchema).min(1),
  max_completion_tokens: optional(z.number().int().min(0)),
  logprobs: optional(z.boolean()),
  top_logprobs: optional(z.number().int().min(0).max(20)),
  response_format: optional(z.object({ type: z.string() })),
  tools: optional(z.array(z.unknown())),
  tool_choice: optional(z.unknown()),
  add_generation_prompt: optional(z.boolean()),
  continue_final_message: optional(z.boolean()),
})

const CompletionSchema = z.object({
  ...shared,
  prompt: z.union([
    z.string(),
    z.array(z.string()).min(1),
    z.array(z.number().int().min(0)).min(1),
    z.array(z.array(z.number().int().min(0)).min(1)).min(1),
  ]),
  echo: optional(z.boolean()),
  logprobs: optional(z.number().int().min(0).max(20)),
  suffix: optional(z.string()),
})

export interface GenerationFields {
  readonly model: string
  /** undefined = the checkpoint's own default. */
  readonly temperature: number | undefined
  readonly topK: number | undefined
  readonly topP: number | undefined
  readonly minP: number | undefined
  readonly seed: number | undefined
  readonly choices: number
  /** What the client asked for; undefined = the endpoint's default. */
  readonly maxTokens: number | undefined
  readonly stop: readonly string[]
  readonly stopTokenIds: readonly number[]
  readonly ignoreEos: boolean
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly cacheSalt: string | undefined
}

export interface ChatFields extends GenerationFields {
  readonly messages: readonly { readonly role: string; readonly content: string }[]
  readonly logprobs: boolean
  readonly addGenerationPrompt: boolean
}

export interface CompletionFields extends GenerationFields {
  readonly prompts: readonly (string | readonly number[])[]
  readonly echo: boolean
  /** Top log-probabilities per token; undefined = none asked for. */
  readonly logprobs: number | undefined
}

function parse<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const param = issue?.path.map(String).join('.') ?? ''
  throw new ApiError(
    400,
    `${param === '' ? 'The request body' : `"${param}"`}: ${issue?.message ?? 'invalid'}`,
    param === '' ? {} : { param },
  )
}

type Shared = z.output<z.ZodObject<typeof shared>>

function refuse(param: string, what: string): never {
  throw new ApiError(501, `${what} is not supported by this server yet, and ignoring it would change the answer.`, { param })
}

/** Everything that the runtime can't do yet, unless it is set to its neutral value. */
function refuseUnsupported(body: Shared): void {
  if ((body.presence_penalty ?? 0) !== 0) refuse('presence_penalty', 'A presence penalty')
  if ((body.frequency_penalty ?? 0) !== 0) refuse('frequency_penalty', 'A frequency penalty')
  if ((body.repetition_penalty ?? 1) !== 1) refuse('repetition_penalty', 'A repetition penalty')
  if (Object.keys(body.logit_bias ?? {}).length > 0) refuse('logit_bias', 'A logit bias')
  if ((body.min_tokens ?? 0) > 0) refuse('min_tokens', 'A minimum number of tokens')
  if ((body.bad_words ?? []).length > 0) refuse('bad_words', 'A list of bad words')
  if (body.allowed_token_ids !== undefined) refuse('allowed_token_ids', 'A list of allowed tokens')
  if (body.structured_outputs !== undefined) refuse('structured_outputs', 'Structured output')
  if (body.prompt_logprobs !== undefined) refuse('prompt_logprobs', 'prompt_logprobs (use echo with logprobs and max_tokens 0)')
}

function generationFields(body: Shared, maxTokens: number | undefined): GenerationFields {
  refuseUnsupported(body)
  if (body.stream !== true && body.stream_options !== undefined) {
    throw new ApiError(400, '"stream_options" is only allowed when "stream" is true.', { param: 'stream_options' })
  }
  const choices = body.n ?? 1
  if (choices > 1 && body.temperature === 0)
    throw new ApiError(400, '"n" must be 1 for greedy sampling: every answer would be the same.', { param: 'n' })
  return {
    model: body.model,
    temperature: body.temperature,
    topK: body.top_k === -1 ? 0 : body.top_k,
    topP: body.top_p,
    minP: body.min_p,
    seed: body.seed === undefined || Number(body.seed) === -1 ? undefined : Number(body.seed),
    choices,
    maxTokens,
    stop: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
    stopTokenIds: body.stop_token_ids ?? [],
    ignoreEos: body.ignore_eos ?? false,
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    cacheSalt: body.cache_salt,
  }
}

function messageText(
  content: string | readonly { readonly type: string; readonly text?: string | undefined }[] | null | undefined,
  index: number,
): string {
  if (content === null || content === undefined) return ''
  if (typeof content === 'string') return content
  return content
    .map((part) => {
      if (part.type !== 'text' || part.text === undefined) {
        throw new ApiError(400, `Message ${index} holds a part of type "${part.type}"; this model reads text only.`, {
          param: `messages.${index}.content`,
        })
      }
      return part.text
    })
    .join('')
}

/** Body of POST /v1/chat/completions. Throws ApiError 400 or 501 naming the parameter. */
export function parseChatRequest(value: unknown): ChatFields {
  const body = parse(ChatSchema, value)
  if (body.response_format !== undefined && body.response_format.type !== 'text') refuse('response_format', 'Structured output')
  if ((body.tools ?? []).length > 0) refuse('tools', 'Tool calling')
  if (body.continue_final_message === true) refuse('continue_final_message', 'Continuing a message')
  if (body.top_logprobs !== undefined && body.logprobs !== true) {
    throw new ApiError(400, '"top_logprobs" is only allowed when "logprobs" is true.', { param: 'top_logprobs' })
  }
  if ((body.top_logprobs ?? 0) > 0) refuse('top_logprobs', 'Log-probabilities of alternatives while generating')
  return {
    ...generationFields(body, body.max_completion_tokens ?? body.max_tokens),
    // Templates of open models know "system", not OpenAI's newer name for it.
    messages: body.messages.map((message, index) => ({
      role: message.role === 'developer' ? 'system' : message.role,
      content: messageText(message.content, index),
    })),
    logprobs: body.logprobs ?? false,
    addGenerationPrompt: body.add_generation_prompt ?? true,
  }
}

/** OpenAI's default for completions, kept by every compatible server. */
const DEFAULT_COMPLETION_TOKENS = 16

/** Body of POST /v1/completions. Throws ApiError 400 or 501 naming the parameter. */
export function parseCompletionRequest(value: unknown): CompletionFields {
  const body = parse(CompletionSchema, value)
  if (body.suffix !== undefined && body.suffix !== '') refuse('suffix', 'A suffix')
  const fields = generationFields(body, body.max_tokens ?? DEFAULT_COMPLETION_TOKENS)
  const echo = body.echo ?? false
  if (fields.maxTokens === 0 && !echo)
    throw new ApiError(400, '"max_tokens" may be 0 only with "echo": there would be nothing to return.', { param: 'max_tokens' })
  if (body.logprobs !== undefined && body.logprobs > 0 && fields.maxTokens !== 0)
    refuse('logprobs', 'Log-probabilities of alternatives while generating')
  const { prompt } = body
  let prompts: readonly (string | readonly number[])[]
  if (typeof prompt === 'string') prompts = [prompt]
  else if (typeof prompt[0] === 'number') prompts = [prompt as number[]]
  else prompts = prompt as string[] | number[][]
  return { ...fields, prompts, echo, logprobs: body.logprobs }
}
