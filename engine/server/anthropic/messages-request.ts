/** Body of POST /v1/messages, Anthropic's form of a conversation, brought into that of the OpenAI endpoint. */
import { z } from 'zod'
import type { ChatFields } from '../chat-request.ts'
import { parseChatRequest } from '../chat-request.ts'
import { badRequest, notImplemented, optional, parseBody } from '../parse-body.ts'

const TextBlock = z.object({ type: z.literal('text'), text: z.string() })
const Block = z.discriminatedUnion('type', [
  TextBlock,
  z.object({ type: z.literal('thinking'), thinking: z.string() }),
  z.object({ type: z.literal('redacted_thinking') }),
  z.object({ type: z.literal('tool_use'), id: z.string(), name: z.string(), input: z.record(z.string(), z.unknown()) }),
  z.object({
    type: z.literal('tool_result'),
    tool_use_id: z.string(),
    content: optional(z.union([z.string(), z.array(z.object({ type: z.string(), text: optional(z.string()) }))])),
    is_error: optional(z.boolean()),
  }),
])
const Message = z.object({
  role: z.enum(['user', 'assistant', 'system']),
  content: z.union([z.string(), z.array(z.looseObject({ type: z.string() }))]),
})

const Tool = z.object({
  name: z.string(),
  description: optional(z.string()),
  input_schema: optional(z.record(z.string(), z.unknown())),
  type: optional(z.string()),
})

const SHAPE = {
  model: z.string().min(1),
  messages: z.array(Message).min(1),
  system: optional(z.union([z.string(), z.array(TextBlock)])),
  tools: optional(z.array(Tool)),
  tool_choice: optional(
    z.discriminatedUnion('type', [
      z.object({ type: z.literal('auto'), disable_parallel_tool_use: optional(z.boolean()) }),
      z.object({ type: z.literal('any'), disable_parallel_tool_use: optional(z.boolean()) }),
      z.object({ type: z.literal('tool'), name: z.string(), disable_parallel_tool_use: optional(z.boolean()) }),
      z.object({ type: z.literal('none') }),
    ]),
  ),
  thinking: optional(z.object({ type: z.string() })),
}

const MessagesSchema = z.object({
  ...SHAPE,
  max_tokens: z.number().int().min(1),
  stop_sequences: optional(z.array(z.string().min(1))),
  stream: optional(z.boolean()),
  temperature: optional(z.number().min(0).max(2)),
  top_k: optional(z.number().int().min(0)),
  top_p: optional(z.number().gt(0).max(1)),
})
const CountSchema = z.object(SHAPE)

type Shape = z.output<typeof CountSchema>

/** Throws ApiError 400 or 501 naming the parameter. */
export function parseMessagesRequest(value: unknown): ChatFields {
  const body = parseBody(MessagesSchema, value)
  return parseChatRequest({
    ...conversation(body),
    max_tokens: body.max_tokens,
    stop: body.stop_sequences === undefined || body.stop_sequences.length === 0 ? undefined : body.stop_sequences,
    stream: body.stream,
    temperature: body.temperature,
    top_k: body.top_k,
    top_p: body.top_p,
  })
}

/** For counting the tokens of a prompt that is not answered. */
export function parseCountRequest(value: unknown): ChatFields {
  return parseChatRequest(conversation(parseBody(CountSchema, value)))
}

function conversation(body: Shape): object {
  const system = typeof body.system === 'string' ? body.system : (body.system ?? []).map((block) => block.text).join('\n')
  const choice = body.tool_choice
  const foreign = (body.tools ?? []).find((tool) => tool.type !== undefined && tool.type !== 'custom')
  if (foreign !== undefined) throw notImplemented('tools', `The built-in tool ${foreign.type}`)
  const last = body.messages.at(-1)
  return {
    model: body.model,
    messages: [...(system === '' ? [] : [{ role: 'system', content: system }]), ...body.messages.flatMap(messagesOf)],
    tools: body.tools?.map((tool) => ({
      type: 'function',
      function: { name: tool.name, description: tool.description, parameters: tool.input_schema },
    })),
    tool_choice:
      choice === undefined
        ? undefined
        : choice.type === 'any'
          ? 'required'
          : choice.type === 'tool'
            ? { type: 'function', function: { name: choice.name } }
            : choice.type,
    parallel_tool_calls: choice !== undefined && choice.type !== 'none' && choice.disable_parallel_tool_use === true ? false : undefined,
    // A last turn of the assistant is the beginning of the answer.
    ...(last?.role === 'assistant' && { continue_final_message: true, add_generation_prompt: false }),
    ...(body.thinking !== undefined && { chat_template_kwargs: { enable_thinking: body.thinking.type === 'enabled' } }),
  }
}

/** A turn's blocks: results of tools are messages of their own. */
function messagesOf(message: z.output<typeof Message>, index: number): readonly object[] {
  const { role, content } = message
  if (typeof content === 'string') return [{ role, content }]
  const blocks = content.map((raw, at) => {
    const block = Block.safeParse(raw)
    if (!block.success)
      throw badRequest(`messages.${index}.content.${at}`, `A block of type "${raw.type}" is not understood; this model reads text only.`)
    return block.data
  })
  const results = blocks.flatMap((block) =>
    block.type === 'tool_result'
      ? [{ role: 'tool', tool_call_id: block.tool_use_id, content: resultText(block.content, `messages.${index}.content`) }]
      : [],
  )
  const text = blocks.flatMap((block) => (block.type === 'text' ? [block.text] : [])).join('\n')
  const thinking = blocks.flatMap((block) => (block.type === 'thinking' ? [block.thinking] : [])).join('\n')
  const calls = blocks.flatMap((block) =>
    block.type === 'tool_use' ? [{ id: block.id, type: 'function', function: { name: block.name, arguments: block.input } }] : [],
  )
  const rest =
    text === '' && calls.length === 0 && results.length > 0
      ? []
      : [{ role, content: text, ...(calls.length > 0 && { tool_calls: calls }), ...(thinking !== '' && { reasoning_content: thinking }) }]
  return [...results, ...rest]
}

function resultText(
  content: string | readonly { readonly type: string; readonly text?: string | undefined }[] | undefined,
  param: string,
): string {
  if (typeof content === 'string') return content
  return (content ?? [])
    .map((part) => {
      if (part.type !== 'text')
        throw badRequest(param, `The result of a tool holds a part of type "${part.type}"; this model reads text only.`)
      return part.text ?? ''
    })
    .join('\n')
}
