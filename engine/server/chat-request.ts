/** Body of POST /v1/chat/completions (specs/runtime.md §12): messages as templates want them, and what the answer may be. */
import { z } from 'zod'
import type { ChatTurn } from '../tokenizer/chat-template.ts'
import { GENERATION_SHAPE, MEANINGLESS_FIELDS, generationFields } from './generation-fields.ts'
import type { GenerationFields } from './generation-fields.ts'
import { badRequest, notImplemented, optional, parseBody } from './parse-body.ts'
import { ResponseFormatSchema, responseFormat } from './structured-fields.ts'
import { ToolChoiceSchema, ToolSchema, toolChoice } from './tools/tool-request.ts'
import type { ToolUse } from './tools/tool-request.ts'

const ContentPart = z.object({ type: z.string(), text: z.string().optional() })
const ToolCall = z.object({
  id: optional(z.string()),
  type: optional(z.string()),
  function: z.object({ name: z.string(), arguments: optional(z.union([z.string(), z.record(z.string(), z.unknown())])) }),
})
export const MessageSchema = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function']),
  content: z.union([z.string(), z.array(ContentPart), z.null()]).optional(),
  name: optional(z.string()),
  tool_calls: optional(z.array(ToolCall)),
  tool_call_id: optional(z.string()),
  reasoning: optional(z.string()),
  reasoning_content: optional(z.string()),
})

const ChatSchema = z.object({
  ...GENERATION_SHAPE,
  messages: z.array(MessageSchema).min(1),
  max_completion_tokens: optional(z.number().int().min(0)),
  logprobs: optional(z.boolean()),
  top_logprobs: optional(z.number().int().min(0).max(20)),
  response_format: optional(ResponseFormatSchema),
  tools: optional(z.array(ToolSchema)),
  tool_choice: optional(ToolChoiceSchema),
  parallel_tool_calls: optional(z.boolean()),
  functions: optional(z.array(z.unknown())),
  function_call: optional(z.unknown()),
  modalities: optional(z.array(z.string())),
  web_search_options: optional(z.unknown()),
  reasoning_effort: optional(z.string()),
  thinking_token_budget: optional(z.number().int().min(0)),
  add_generation_prompt: optional(z.boolean()),
  continue_final_message: optional(z.boolean()),
  add_special_tokens: optional(z.boolean()),
  chat_template: optional(z.string()),
  chat_template_kwargs: optional(z.record(z.string(), z.unknown())),
  echo: optional(z.boolean()),
})

/** Fields that are understood, or are known to mean nothing here. */
export const CHAT_FIELDS: ReadonlySet<string> = new Set([...Object.keys(ChatSchema.shape), ...MEANINGLESS_FIELDS])

/** How a conversation becomes a prompt. */
export interface ChatPrompt {
  readonly messages: readonly ChatTurn[]
  readonly addGenerationPrompt: boolean
  /** The last message is the beginning of the answer. */
  readonly continueFinalMessage: boolean
  readonly addSpecialTokens: boolean
  /** Instead of the model's own. */
  readonly template: string | undefined
  readonly variables: Readonly<Record<string, unknown>>
}

export interface ChatFields extends GenerationFields {
  readonly prompt: ChatPrompt
  readonly logprobs: boolean
  readonly topLogprobs: number
  readonly tools: ToolUse | null
  /** Put the text that the answer continues in front of it. */
  readonly echo: boolean
  /** Most tokens of thinking before the answer must begin. */
  readonly thinkingBudget: number | undefined
}

type Message = z.output<typeof MessageSchema>

/** Throws ApiError 400 or 501 naming the parameter. */
export function parseChatRequest(value: unknown): ChatFields {
  const body = parseBody(ChatSchema, value)
  if (body.top_logprobs !== undefined && body.logprobs !== true)
    throw badRequest('top_logprobs', '"top_logprobs" is only allowed when "logprobs" is true.')
  refuseNotDone(body)
  const maxTokens = body.max_completion_tokens ?? body.max_tokens
  if (maxTokens === 0) throw badRequest('max_tokens', '"max_tokens" must be at least 1.')
  const format = responseFormat(body.response_format)
  const tools = toolChoice(body.tools, body.tool_choice, body.parallel_tool_calls)
  const generation = generationFields(body, maxTokens, format)
  if (tools !== null && tools.choice !== 'auto' && generation.structured !== null)
    throw badRequest(
      format === null ? 'structured_outputs' : 'response_format',
      'An answer that must be a tool call can have no other form. With "tool_choice": "auto", a form of your own binds the answer, calls and all.',
    )
  return {
    ...generation,
    prompt: {
      ...promptOf(body),
      variables: { ...(body.reasoning_effort !== undefined && { reasoning_effort: body.reasoning_effort }), ...body.chat_template_kwargs },
    },
    logprobs: body.logprobs ?? false,
    topLogprobs: body.top_logprobs ?? 0,
    tools,
    echo: body.echo ?? false,
    thinkingBudget: body.thinking_token_budget,
  }
}

/** OpenAI's fields that ask for another answer than text or calls of `tools`. */
function refuseNotDone(body: z.output<typeof ChatSchema>): void {
  if (body.functions !== undefined && body.functions.length > 0 && body.function_call !== 'none')
    throw badRequest(
      'functions',
      '"functions" is the older form of "tools": send {"type": "function", "function": …} there, and "tool_choice".',
    )
  const modality = body.modalities?.find((name) => name !== 'text')
  if (modality !== undefined) throw notImplemented('modalities', `An answer as ${JSON.stringify(modality)}`)
  if (body.web_search_options !== undefined) throw notImplemented('web_search_options', 'Searching the web')
}

function promptOf(body: z.output<typeof ChatSchema>): Omit<ChatPrompt, 'variables'> {
  const continueFinalMessage = body.continue_final_message ?? false
  if (continueFinalMessage && body.add_generation_prompt === true)
    throw badRequest('continue_final_message', '"continue_final_message" and "add_generation_prompt" exclude each other.')
  if (continueFinalMessage && body.messages.at(-1)?.role !== 'assistant')
    throw badRequest('continue_final_message', 'Only a last message of the assistant can be continued.')
  return {
    messages: body.messages.map(chatTurn),
    addGenerationPrompt: continueFinalMessage ? false : (body.add_generation_prompt ?? true),
    continueFinalMessage,
    addSpecialTokens: body.add_special_tokens ?? false,
    template: body.chat_template,
  }
}

/** As Hugging Face templates expect a message. Throws ApiError 400 for parts that are not text. */
export function chatTurn(message: Message, index: number): ChatTurn {
  const reasoning = message.reasoning_content ?? message.reasoning
  return {
    // Templates of open models know "system" and "tool", not OpenAI's newer and older names.
    role: message.role === 'developer' ? 'system' : message.role === 'function' ? 'tool' : message.role,
    content: messageText(message.content, index),
    ...(message.name !== undefined && { name: message.name }),
    ...(message.tool_call_id !== undefined && { tool_call_id: message.tool_call_id }),
    ...(reasoning !== undefined && { reasoning_content: reasoning }),
    ...(message.tool_calls !== undefined &&
      message.tool_calls.length > 0 && {
        tool_calls: message.tool_calls.map((call, at) => ({
          ...(call.id !== undefined && { id: call.id }),
          type: 'function',
          function: { name: call.function.name, arguments: callArguments(call.function.arguments, index, at) },
        })),
      }),
  }
}

/** Templates write arguments with `tojson`, so they want the object, where OpenAI sends its text. */
function callArguments(value: string | Readonly<Record<string, unknown>> | undefined, index: number, at: number): unknown {
  if (typeof value !== 'string') return value ?? {}
  if (value.trim() === '') return {}
  try {
    return JSON.parse(value) as unknown
  } catch {
    throw badRequest(`messages.${index}.tool_calls.${at}.function.arguments`, 'The arguments of a tool call are not JSON.')
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
      if (part.type !== 'text' || part.text === undefined)
        throw badRequest(`messages.${index}.content`, `Message ${index} holds a part of type "${part.type}"; this model reads text only.`)
      return part.text
    })
    .join('')
}
