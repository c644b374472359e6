/**
 * The items of a Responses conversation as messages of a chat (specs/runtime.md §12). What one answer said is spread over several items (thinking,
 * text, calls); a template wants it as one turn. Knows nothing of the request around them.
 */
import { z } from 'zod'
import { badRequest, optional } from '../parse-body.ts'

const Part = z.looseObject({ type: z.string(), text: optional(z.string()), refusal: optional(z.string()) })
const Content = z.union([z.string(), z.array(Part)])
const MessageItem = z.object({
  type: optional(z.literal('message')),
  role: z.enum(['user', 'assistant', 'system', 'developer']),
  content: Content,
})
const ReasoningItem = z.object({ type: z.literal('reasoning'), summary: optional(z.array(Part)), content: optional(z.array(Part)) })
const CallItem = z.object({ type: z.literal('function_call'), call_id: z.string(), name: z.string(), arguments: z.string() })
const OutputItem = z.object({ type: z.literal('function_call_output'), call_id: z.string(), output: Content })

/** A string is what the user says. */
export const InputSchema = z.union([z.string(), z.array(z.looseObject({ type: optional(z.string()) })).min(1)])

/** An assistant's turn that is being put together. */
interface Turn {
  readonly role: 'assistant'
  content: string
  reasoning_content?: string
  tool_calls?: object[]
}

export type InputMessage =
  | Turn
  | { readonly role: 'system' | 'user'; readonly content: string }
  | { readonly role: 'tool'; readonly tool_call_id: string; readonly content: string }

/** Throws ApiError 400 naming the item that is not understood. */
export function messagesOfInput(input: z.output<typeof InputSchema>, instructions: string | undefined): readonly InputMessage[] {
  const messages: InputMessage[] = []
  if (instructions !== undefined && instructions !== '') messages.push({ role: 'system', content: instructions })
  if (typeof input === 'string') return [...messages, { role: 'user', content: input }]
  for (const [index, item] of input.entries()) addItem(messages, item, `input.${index}`)
  return joinSystem(messages)
}

function addItem(
  messages: InputMessage[],
  item: z.output<typeof InputSchema> extends string | (infer T)[] ? T : never,
  param: string,
): void {
  switch (item.type) {
    case undefined:
    case 'message': {
      const { role, content } = parseItem(MessageItem, item, param)
      const text = textOf(content, `${param}.content`)
      if (role === 'assistant') {
        const turn = assistantTurn(messages)
        turn.content = joined(turn.content, text)
      } else messages.push({ role: role === 'user' ? 'user' : 'system', content: text })
      return
    }
    case 'reasoning': {
      const { content, summary } = parseItem(ReasoningItem, item, param)
      const thought = textOf(content ?? summary ?? [], `${param}.content`)
      if (thought === '') return
      const turn = assistantTurn(messages)
      turn.reasoning_content = joined(turn.reasoning_content ?? '', thought)
      return
    }
    case 'function_call': {
      const { call_id: id, name, arguments: text } = parseItem(CallItem, item, param)
      const turn = assistantTurn(messages)
      turn.tool_calls = [...(turn.tool_calls ?? []), { id, type: 'function', function: { name, arguments: text } }]
      return
    }
    case 'function_call_output': {
      const { call_id: id, output } = parseItem(OutputItem, item, param)
      messages.push({ role: 'tool', tool_call_id: id, content: textOf(output, `${param}.output`) })
      return
    }
    case 'item_reference':
      throw badRequest(
        param,
        'Nothing is stored here that an item_reference could mean; send the item itself, as clients do when "store" is false.',
      )
    default:
      throw badRequest(
        `${param}.type`,
        `Items of type "${item.type}" are not understood here; send messages, reasoning, function calls and their outputs.`,
      )
  }
}

/** The last message, if it is the assistant's and a new piece of the same answer may follow; else a new one. */
function assistantTurn(messages: InputMessage[]): Turn {
  const last = messages.at(-1)
  if (last?.role === 'assistant') return last
  const turn: Turn = { role: 'assistant', content: '' }
  messages.push(turn)
  return turn
}

/** Templates know one system message, at the start; clients send instructions and developer messages apart. */
function joinSystem(messages: readonly InputMessage[]): readonly InputMessage[] {
  const end = messages.findIndex(({ role }) => role !== 'system')
  const leading = messages.slice(0, end < 0 ? messages.length : end)
  if (leading.length < 2) return messages
  return [{ role: 'system', content: leading.map(({ content }) => content).join('\n\n') }, ...messages.slice(leading.length)]
}

function joined(before: string, text: string): string {
  return before === '' ? text : `${before}\n${text}`
}

function textOf(content: z.output<typeof Content>, param: string): string {
  if (typeof content === 'string') return content
  return content
    .map(({ type, text, refusal }) => {
      const words = type === 'refusal' ? refusal : /(^|_)text$/.test(type) ? text : undefined
      if (words === undefined) throw badRequest(param, `A part of type "${type}" is not understood; this model reads text only.`)
      return words
    })
    .join('')
}

function parseItem<T extends z.ZodType>(schema: T, item: unknown, param: string): z.output<T> {
  const result = schema.safeParse(item)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const at = [param, ...(issue?.path ?? []).map(String)].join('.')
  throw badRequest(at, `"${at}": ${issue?.message ?? 'invalid'}`)
}
