/**
 * From a conversation to a prompt and from an answer to its parts (thinking, text, tool calls): what the OpenAI and the Anthropic endpoint have in
 * common (specs/runtime.md §7, §12). Knows neither's response shapes.
 */
import { randomBytes } from 'node:crypto'
import type { StructuredOutput } from '../runtime/structured/grammar-source.ts'
import type { TokenMaskProvider } from '../runtime/types.ts'
import { ApiError } from './api-error.ts'
import type { ChatFields } from './chat-request.ts'
import { fitPrompt, resolveMaxTokens } from './completion-run.ts'
import type { Overlong, PromptRun } from './completion-run.ts'
import { notImplemented } from './parse-body.ts'
import { ReasoningSplitter, afterReasoning, reasoningStart } from './reasoning.ts'
import type { ReasoningStart } from './reasoning.ts'
import type { ServedModel, ServedTokenizer } from './served-model.ts'
import { HERMES_OPEN, LLAMA_MARK, MISTRAL_MARK, toolForm, toolFormatOf } from './tools/tool-format.ts'
import type { ToolFormat } from './tools/tool-format.ts'
import { ToolParser } from './tools/tool-parser.ts'
import type { ToolPart } from './tools/tool-parser.ts'
import { limitThinking } from './thinking-budget.ts'
import { templateTools } from './tools/tool-request.ts'

const THINK_TAGS = ['<think>', '</think>'] as const

export interface PreparedChat extends PromptRun {
  readonly toolFormat: ToolFormat | null
  readonly reasoning: ReasoningStart
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
  const text = renderPrompt(model, fields)
  const encoded = model.tokenizer.encode(text, { addSpecialTokens: prompt.addSpecialTokens })
  const { contextLimit } = model.runtime.info
  const { tokens, dropped } = fitPrompt(encoded, fields, contextLimit)
  const reasoning = reasoningStart(template, text)
  const forced = tools !== null && toolFormat !== null && tools.choice !== 'auto'
  const structured: StructuredOutput | null = forced ? { kind: 'form', form: toolForm(toolFormat, tools) } : fields.structured
  const markup = [...(toolFormat === null ? [] : [markOf(toolFormat)]), ...(reasoning === 'none' ? [] : THINK_TAGS)]
  const openId = specialId(model.tokenizer, THINK_TAGS[0])
  return {
    promptTokens: tokens,
    maxTokens: resolveMaxTokens(tokens.length, fields.maxTokens, contextLimit, { param: 'messages', overlong }),
    firstChoice: 0,
    topLogprobs: fields.topLogprobs,
    structured,
    // Markup that is a special token would be left out of the text in which it is looked for.
    skipSpecialTokens: fields.skipSpecialTokens && !markup.some((mark) => isSpecial(model.tokenizer, mark)),
    wrapMask: (mask: TokenMaskProvider) => afterReasoning(mask, reasoning, { openId, tokenBytes: (id) => model.tokenizer.tokenBytes(id) }),
    ...(fields.thinkingBudget !== undefined && { limitMask: thinkingLimit(model, fields.thinkingBudget, reasoning, openId) }),
    toolFormat,
    reasoning,
    continued: prompt.continueFinalMessage ? String(prompt.messages.at(-1)?.content ?? '') : '',
    dropped,
  }
}

/** Throws ApiError 501 for a model whose end of thinking is spread over several tokens: there is no single one to demand. */
function thinkingLimit(
  model: ServedModel,
  budget: number,
  start: ReasoningStart,
  openId: number | null,
): NonNullable<PromptRun['limitMask']> {
  const closeId = specialId(model.tokenizer, THINK_TAGS[1])
  if (start !== 'none' && closeId === null) throw notImplemented('thinking_token_budget', `A budget for the thinking of ${model.name}`)
  const { vocabulary } = model.runtime.info
  return (mask) => (closeId === null ? mask : limitThinking(mask, start, budget, { openId, closeId, vocabulary }))
}

function renderPrompt(model: ServedModel, { prompt, tools }: ChatFields): string {
  const text = model.renderChat({
    messages: prompt.messages,
    addGenerationPrompt: prompt.addGenerationPrompt,
    tools: tools === null ? null : templateTools(tools.shown),
    variables: prompt.variables,
    ...(prompt.template !== undefined && { template: prompt.template }),
  })
  if (!prompt.continueFinalMessage) return text
  // What the template puts behind the last message would end it.
  const last = String(prompt.messages.at(-1)?.content ?? '').trim()
  const at = text.lastIndexOf(last)
  if (at < 0)
    throw new ApiError(400, 'The chat template changes the last message, so it can not be continued.', { param: 'continue_final_message' })
  return text.slice(0, at + last.length)
}

function markOf(format: ToolFormat): string {
  return format === 'hermes' ? HERMES_OPEN : format === 'llama3' ? LLAMA_MARK : MISTRAL_MARK
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
    this.#splitter = new ReasoningSplitter(prepared.reasoning)
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
