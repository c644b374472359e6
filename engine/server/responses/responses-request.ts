/**
 * Body of POST /v1/responses, OpenAI's newer form of a conversation, brought into that of the chat endpoint. Nothing is kept between requests: what
 * would need it, and tools that the service itself would run, are refused by name.
 */
import { z } from 'zod'
import { ApiError } from '../api-error.ts'
import { parseChatRequest } from '../chat-request.ts'
import type { ChatFields } from '../chat-request.ts'
import { GENERATION_SHAPE, MEANINGLESS_FIELDS } from '../generation-fields.ts'
import { badRequest, optional, parseBody } from '../parse-body.ts'
import { InputSchema, messagesOfInput } from './input-items.ts'

const FunctionTool = z.looseObject({
  type: z.string(),
  name: optional(z.string()),
  description: optional(z.string()),
  parameters: optional(z.record(z.string(), z.unknown())),
  strict: optional(z.boolean()),
})
const ToolChoice = z.union([z.enum(['none', 'auto', 'required']), z.looseObject({ type: z.string() })])
const Format = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text') }),
  z.object({ type: z.literal('json_object') }),
  z.object({
    type: z.literal('json_schema'),
    name: z.string(),
    schema: z.record(z.string(), z.unknown()),
    description: optional(z.string()),
    strict: optional(z.boolean()),
  }),
])

/** vLLM's own fields, which mean here what they mean to the chat endpoint. */
const { model, temperature, top_p, stream, n: _n, max_tokens: _max, stream_options: _options, ...EXTENSIONS } = GENERATION_SHAPE

const ResponsesSchema = z.object({
  ...EXTENSIONS,
  model,
  temperature,
  top_p,
  stream,
  input: InputSchema,
  instructions: optional(z.string()),
  max_output_tokens: optional(z.number().int().min(1)),
  tools: optional(z.array(FunctionTool)),
  tool_choice: optional(ToolChoice),
  parallel_tool_calls: optional(z.boolean()),
  text: optional(z.object({ format: optional(Format), verbosity: optional(z.string()) })),
  reasoning: optional(z.looseObject({ effort: optional(z.string()), summary: optional(z.string()) })),
  truncation: optional(z.enum(['auto', 'disabled'])),
  metadata: optional(z.record(z.string(), z.unknown())),
  include: optional(z.array(z.string())),
  top_logprobs: optional(z.number().int().min(0).max(20)),
  previous_response_id: optional(z.string()),
  conversation: optional(z.unknown()),
  prompt: optional(z.unknown()),
  background: optional(z.boolean()),
  chat_template_kwargs: optional(z.record(z.string(), z.unknown())),
  thinking_token_budget: optional(z.number().int().min(0)),
})

type Body = z.output<typeof ResponsesSchema>

/** Fields that are understood, or are known to mean nothing here. */
export const RESPONSES_FIELDS: ReadonlySet<string> = new Set([
  ...Object.keys(ResponsesSchema.shape),
  ...MEANINGLESS_FIELDS,
  'stream_options',
  'max_tool_calls',
  'prompt_cache_retention',
  'client_metadata',
])

/** What an answer repeats of the request. */
export interface AskedResponse {
  readonly instructions: string | null
  readonly maxOutputTokens: number | null
  readonly metadata: Readonly<Record<string, unknown>>
  readonly parallelToolCalls: boolean
  readonly reasoning: { readonly effort: string | null; readonly summary: string | null }
  readonly temperature: number | null
  readonly topP: number | null
  readonly format: object
  readonly tools: readonly object[]
  readonly toolChoice: unknown
}

export interface ResponsesRequest {
  readonly fields: ChatFields
  readonly asked: AskedResponse
}

/** Throws ApiError 400 or 501 naming the parameter. */
export function parseResponsesRequest(value: unknown): ResponsesRequest {
  const body = parseBody(ResponsesSchema, value)
  refuseUnkept(body)
  const { tools, choice } = toolsOf(body)
  const effort = body.reasoning?.effort
  const extensions = Object.fromEntries(Object.keys(EXTENSIONS).map((name) => [name, body[name as keyof typeof EXTENSIONS]]))
  const fields = inResponsesTerms(() =>
    parseChatRequest({
      ...extensions,
      model: body.model,
      messages: messagesOfInput(body.input, body.instructions),
      max_tokens: body.max_output_tokens,
      temperature: body.temperature,
      top_p: body.top_p,
      stream: body.stream,
      tools: tools.map(({ name, description, parameters }) => ({ type: 'function', function: { name, description, parameters } })),
      tool_choice: choice,
      parallel_tool_calls: body.parallel_tool_calls,
      response_format: formatOf(body),
      reasoning_effort: effort,
      thinking_token_budget: body.thinking_token_budget,
      // Templates that switch thinking off know a flag, not an effort.
      chat_template_kwargs: { ...(effort === 'none' && { enable_thinking: false }), ...body.chat_template_kwargs },
    }),
  )
  return {
    fields,
    asked: {
      instructions: body.instructions ?? null,
      maxOutputTokens: body.max_output_tokens ?? null,
      metadata: body.metadata ?? {},
      parallelToolCalls: body.parallel_tool_calls ?? true,
      reasoning: { effort: effort ?? null, summary: body.reasoning?.summary ?? null },
      temperature: body.temperature ?? null,
      topP: body.top_p ?? null,
      format: body.text?.format ?? { type: 'text' },
      tools: (body.tools ?? []).map((tool) => ({ ...tool, strict: tool.strict ?? false, parameters: tool.parameters ?? null })),
      toolChoice: body.tool_choice ?? 'auto',
    },
  }
}

/** Names of the chat endpoint's fields, where a request of this one is refused for them. */
const OWN_NAMES: Readonly<Record<string, string>> = {
  messages: 'input',
  max_tokens: 'max_output_tokens',
  response_format: 'text.format',
  reasoning_effort: 'reasoning.effort',
}

/** Runs `body` and lets its refusals speak of this endpoint's fields. */
export function inResponsesTerms<T>(body: () => T): T {
  try {
    return body()
  } catch (error) {
    throw ownTerms(error)
  }
}

export function ownTerms(error: unknown): unknown {
  if (!(error instanceof ApiError) || error.param === null) return error
  const [first = '', ...rest] = error.param.split('.')
  const own = OWN_NAMES[first]
  if (own === undefined) return error
  // The turn of a chat is not the item that it was made of.
  const param = first === 'messages' ? own : [own, ...rest].join('.')
  return new ApiError(error.status, error.message.replaceAll(`"${first}"`, `"${own}"`), { param, cause: error })
}

function refuseUnkept(body: Body): void {
  const stateless = 'This server keeps no responses; send the whole conversation as "input".'
  if (body.previous_response_id !== undefined) throw badRequest('previous_response_id', stateless)
  if (body.conversation !== undefined) throw badRequest('conversation', stateless)
  if (body.prompt !== undefined) throw badRequest('prompt', 'There are no stored prompts here; send "instructions" and "input".')
  if (body.background === true) throw badRequest('background', 'Answers are given at once or streamed, not in the background.')
  if (body.truncation === 'auto') throw badRequest('truncation', 'Nothing is dropped from a conversation here; shorten "input" instead.')
  if ((body.top_logprobs ?? 0) > 0 || body.include?.includes('message.output_text.logprobs') === true)
    throw badRequest('top_logprobs', 'Log-probabilities are told by /v1/chat/completions only.')
}

interface NamedTool {
  readonly name: string
  readonly description: string | undefined
  readonly parameters: Readonly<Record<string, unknown>> | undefined
}

/** The functions, and the choice among them as the chat endpoint has it. */
function toolsOf(body: Body): { readonly tools: readonly NamedTool[]; readonly choice: unknown } {
  const tools = (body.tools ?? []).map((tool, index): NamedTool => {
    if (tool.type !== 'function')
      throw badRequest(
        `tools.${index}.type`,
        `The built-in tool "${tool.type}" is not run here. Switch it off in the client; tools of type "function" are understood.`,
      )
    if (tool.name === undefined) throw badRequest(`tools.${index}.name`, 'A function needs a name.')
    return { name: tool.name, description: tool.description, parameters: tool.parameters }
  })
  const choice = body.tool_choice
  if (choice === undefined || typeof choice === 'string') return { tools, choice }
  if (choice.type === 'function') return { tools, choice: { type: 'function', function: { name: choice['name'] } } }
  if (choice.type !== 'allowed_tools')
    throw badRequest('tool_choice', `The choice "${choice.type}" is for tools that are not run here; name a function.`)
  const allowed = z
    .object({ mode: z.enum(['auto', 'required']), tools: z.array(z.looseObject({ name: optional(z.string()) })) })
    .safeParse(choice)
  if (!allowed.success) throw badRequest('tool_choice', '"allowed_tools" needs a "mode" of auto or required, and "tools".')
  const names = new Set(allowed.data.tools.map(({ name }) => name))
  const foreign = [...names].find((name) => !tools.some((tool) => tool.name === name))
  if (names.has(undefined) || foreign !== undefined)
    throw badRequest('tool_choice', `"tool_choice" allows ${foreign ?? 'a tool without a name'}, which is not among the tools.`)
  return { tools: tools.filter(({ name }) => names.has(name)), choice: allowed.data.mode }
}

function formatOf({ text }: Body): object | undefined {
  const format = text?.format
  if (format?.type !== 'json_schema') return format
  const { name, schema, strict } = format
  return { type: 'json_schema', json_schema: { name, schema, strict } }
}
