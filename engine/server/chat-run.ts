/**
 * From a conversation to a prompt and from an answer to its parts (thinking, text, tool calls): what the OpenAI and the Anthropic endpoint have in
 * common (specs/runtime.md §7, §12). Knows neither's response shapes.
 */
import { createHash, randomBytes } from 'node:crypto'
import { LatheError } from '../contract/errors.ts'
import type { StructuredOutput } from '../runtime/structured/grammar-source.ts'
import { openingText } from '../runtime/structured/structural-tag.ts'
import type { TokenMaskProvider } from '../runtime/types.ts'
import type { ChatTurn } from '../tokenizer/chat-template.ts'
import { ApiError } from './api-error.ts'
import type { ChatFields } from './chat-request.ts'
import { fitPrompt, resolveMaxTokens } from './completion-run.ts'
import type { Overlong, PromptRun, RequestRun } from './completion-run.ts'
import { badRequest, notImplemented } from './parse-body.ts'
import { ReasoningSplitter, afterReasoning, reasoningStart, thinkTagsOf } from './reasoning.ts'
import type { ReasoningStart, ThinkTags } from './reasoning.ts'
import type { ServedModel, ServedTokenizer } from './served-model.ts'
import { CALL_MARKS, MISTRAL_MARK, toolForm, toolFormatOf } from './tools/tool-format.ts'
import type { ToolFormat } from './tools/tool-format.ts'
import { ToolParser } from './tools/tool-parser.ts'
import type { ToolPart } from './tools/tool-parser.ts'
import { limitThinking } from './thinking-budget.ts'
import { templateTools, withDescriptions } from './tools/tool-request.ts'

export interface PreparedChat extends PromptRun {
  readonly toolFormat: ToolFormat | null
  readonly reasoning: ReasoningStart
  readonly thinkTags: ThinkTags
  /** Text of the last message, where the answer continues it. */
  readonly continued: string
  readonly dropped: number
}

/** Everything that can be refused about a conversation is refused here, before a byte of the answer is sent. */
export function prepareChat(model: ServedModel, fields: ChatFields, overlong: Overlong = 'reject'): PreparedChat {
  const { tools, prompt } = fields
  const template = prompt.template ?? model.template({ withTools: tools !== null })
  const toolFormat = tools === null ? null : toolFormatOf(template)
  if (tools !== null && toolFormat === null)
    throw new ApiError(
      400,
      `The chat template of ${model.name} shows no tools to the model, or writes calls in a way that is not understood.`,
      {
        param: 'tools',
      },
    )
  const text = renderPrompt(model, fields, template)
  const encoded = model.tokenizer.encode(text, { addSpecialTokens: prompt.addSpecialTokens })
  const { contextLimit } = model.runtime.info
  const { tokens, dropped } = fitPrompt(encoded, fields, contextLimit)
  const reasoning = reasoningStart(template, text)
  const thinkTags = thinkTagsOf(template)
  const forced = tools !== null && toolFormat !== null && tools.choice !== 'auto'
  const structured: StructuredOutput | null = forced ? { kind: 'form', form: toolForm(toolFormat, tools) } : fields.structured
  const markup = [
    ...(toolFormat === null ? [] : [CALL_MARKS[toolFormat]]),
    ...(reasoning === 'none' ? [] : [thinkTags.open, thinkTags.close]),
  ]
  const openId = specialId(model.tokenizer, thinkTags.open)
  // A form that describes the thinking too binds it; any other one waits for its end.
  const describesThinking = structured?.kind === 'structural-tag' && openingText(structured.tag)?.startsWith(thinkTags.open) === true
  if (describesThinking && reasoning === 'inside')
    throw badRequest(
      structured.param,
      `The chat template has begun the thinking already: leave ${thinkTags.open} and its content out of the format.`,
    )
  return {
    promptTokens: tokens,
    maxTokens: resolveMaxTokens(tokens.length, fields.maxTokens, contextLimit, { param: 'messages', overlong }),
    firstChoice: 0,
    topLogprobs: fields.topLogprobs,
    structured,
    // Markup that is a special token would be left out of the text in which it is looked for.
    skipSpecialTokens: fields.skipSpecialTokens && !markup.some((mark) => isSpecial(model.tokenizer, mark)),
    wrapMask: (mask: TokenMaskProvider) =>
      describesThinking
        ? mask
        : afterReasoning(mask, reasoning, { openId, close: thinkTags.close, tokenBytes: (id) => model.tokenizer.tokenBytes(id) }),
    ...(fields.thinkingBudget !== undefined && {
      limitMask: thinkingLimit(model, fields.thinkingBudget, reasoning, { openId, tags: thinkTags }),
    }),
    toolFormat,
    reasoning,
    thinkTags,
    continued: prompt.continueFinalMessage ? String(prompt.messages.at(-1)?.content ?? '') : '',
    dropped,
  }
}

/** Before a stream begins: a form that can't be compiled is refused while there is still a status to refuse it with. */
export async function compileForm({ model, signal }: RequestRun, { structured }: PreparedChat): Promise<void> {
  if (structured) (await model.grammars.compile(structured, signal))[Symbol.dispose]()
}

/** Throws ApiError 501 for a model whose end of thinking is spread over several tokens: there is no single one to demand. */
function thinkingLimit(
  model: ServedModel,
  budget: number,
  start: ReasoningStart,
  { openId, tags }: { readonly openId: number | null; readonly tags: ThinkTags },
): NonNullable<PromptRun['limitMask']> {
  const closeId = specialId(model.tokenizer, tags.close)
  if (start !== 'none' && closeId === null) throw notImplemented('thinking_token_budget', `A budget for the thinking of ${model.name}`)
  const { vocabulary } = model.runtime.info
  return (mask) => (closeId === null ? mask : limitThinking(mask, start, budget, { openId, closeId, vocabulary }))
}

function renderPrompt(model: ServedModel, { prompt, tools }: ChatFields, template: string | null): string {
  const turns = template?.includes(MISTRAL_MARK) === true ? prompt.messages.map(withShortIds) : prompt.messages
  const render = (shown: readonly object[] | null): string => {
    try {
      return model.renderChat({
        messages: turns,
        addGenerationPrompt: prompt.addGenerationPrompt,
        tools: shown,
        variables: prompt.variables,
        ...(prompt.template !== undefined && { template: prompt.template }),
      })
    } catch (error) {
      if (prompt.template === undefined || !(error instanceof LatheError)) throw error
      const hint = 'That template came with the request; without it the model’s own is taken.'
      throw new LatheError(error.code, error.message, hint, { data: { param: 'chat_template' }, cause: error })
    }
  }
  let text: string
  try {
    text = render(tools === null ? null : templateTools(tools.shown))
  } catch (error) {
    // Hermes' templates trim descriptions that need not be there, which is nothing to Python and an error here: an empty one is as good.
    if (tools === null || !(error instanceof LatheError && error.message.includes('UndefinedValue'))) throw error
    text = render(templateTools(tools.shown.map(withDescriptions)))
  }
  if (!prompt.continueFinalMessage) return text
  // What the template puts behind the last message would end it.
  const last = String(prompt.messages.at(-1)?.content ?? '').trim()
  const at = text.lastIndexOf(last)
  if (at < 0)
    throw new ApiError(400, 'The chat template changes the last message, so it can not be continued.', { param: 'continue_final_message' })
  return text.slice(0, at + last.length)
}

/** Mistral's templates refuse ids of calls that are not nine letters or digits; a conversation begun elsewhere has others. */
export function withShortIds(turn: ChatTurn): ChatTurn {
  const { tool_call_id: answered, tool_calls: calls } = turn
  return {
    ...turn,
    ...(typeof answered === 'string' && { tool_call_id: shortId(answered) }),
    ...(Array.isArray(calls) && {
      tool_calls: (calls as { readonly id?: string }[]).map((call, index) => ({ ...call, id: shortId(call.id ?? `call ${index}`) })),
    }),
  }
}

function shortId(id: string): string {
  return /^[a-zA-Z0-9]{9}$/.test(id) ? id : createHash('sha256').update(id).digest('hex').slice(0, 9)
}

/** The one token that a text is, or null. */
function specialId(tokenizer: ServedTokenizer, text: string): number | null {
  const ids = tokenizer.encode(text, { addSpecialTokens: false })
  return ids.length === 1 ? (ids[0] ?? null) : null
}

function isSpecial(tokenizer: ServedTokenizer, text: string): boolean {
  const id = specialId(tokenizer, text)
  return id !== null && tokenizer.isSpecial(id)
}

export type AnswerPart = { readonly kind: 'reasoning'; readonly text: string } | (ToolPart & { readonly id?: string })

export interface ToolCall {
  readonly id: string
  readonly name: string
  arguments: string
}

/** Takes the text of one choice apart as it arrives, and keeps the whole. */
export class AnswerAssembler {
  readonly #splitter: ReasoningSplitter
  readonly #parser: ToolParser | null
  readonly #mostCalls: number
  readonly #newId: () => string
  content = ''
  reasoning = ''
  readonly calls: ToolCall[] = []
  reasoningTokens = 0

  constructor(prepared: PreparedChat, fields: ChatFields) {
    this.#splitter = new ReasoningSplitter(prepared.reasoning, prepared.thinkTags)
    this.#parser = prepared.toolFormat === null ? null : new ToolParser(prepared.toolFormat)
    this.#mostCalls = fields.tools?.parallel === false ? 1 : Infinity
    // Mistral's templates accept ids of nine characters only.
    const mistral = prepared.toolFormat === 'mistral-list' || prepared.toolFormat === 'mistral-args'
    this.#newId = mistral ? () => randomBytes(9).toString('hex').slice(0, 9) : () => `call_${randomBytes(12).toString('hex')}`
  }

  push(text: string, tokens: number): readonly AnswerPart[] {
    const thinking = this.#splitter.thinking
    const parts = this.#split(this.#splitter.push(text))
    if (thinking || this.#splitter.thinking) this.reasoningTokens += tokens
    return parts
  }

  finish(): readonly AnswerPart[] {
    const parts = this.#split(this.#splitter.finish())
    return [...parts, ...this.#keep(this.#parser?.finish() ?? [])]
  }

  #split(pieces: ReturnType<ReasoningSplitter['push']>): AnswerPart[] {
    return pieces.flatMap((piece): readonly AnswerPart[] => {
      if (piece.kind === 'reasoning') {
        this.reasoning += piece.text
        return [{ kind: 'reasoning', text: piece.text }]
      }
      return this.#keep(this.#parser === null ? [{ kind: 'content', text: piece.text }] : this.#parser.push(piece.text))
    })
  }

  #keep(parts: readonly ToolPart[]): readonly AnswerPart[] {
    return parts.flatMap((part): readonly AnswerPart[] => {
      if (part.kind === 'content') {
        this.content += part.text
        return [part]
      }
      if (part.index >= this.#mostCalls) return []
      if (part.kind === 'call') {
        const id = this.#newId()
        this.calls.push({ id, name: part.name, arguments: '' })
        return [{ ...part, id }]
      }
      const call = this.calls[part.index]
      if (call !== undefined) call.arguments += part.text
      return [part]
    })
  }
}
