/** What a conversation shows, from the engine's messages and the answer on its way. Plain functions; the parts only draw. */
import type { AnswerStats, ChatMessage, ChatThread, ModelSummary, Sampling } from '../../../engine/contract/index.ts'
import type { UiError } from '../../lib/errors.ts'
import { formatDuration, formatInteger, plural } from '../../lib/format.ts'
import { blockedReason } from '../models/library.ts'
import type { LiveAnswer } from './chat-store.ts'

/** Everything of a live answer but its text, which changes every frame. */
export type LiveHead = Pick<
  LiveAnswer,
  'prompt' | 'origin' | 'replaceFrom' | 'modelId' | 'phase' | 'userMessage' | 'assistantMessageId' | 'failure'
>

/** What stays when `replaceFrom` is dropped with all that follows. As in the engine, an answer takes its prompt along. */
export function keptBefore(messages: readonly ChatMessage[], replaceFrom: string | null): readonly ChatMessage[] {
  const index = replaceFrom === null ? -1 : messages.findIndex((message) => message.id === replaceFrom)
  if (index === -1) return messages
  return messages.slice(0, messages[index]?.role === 'assistant' && messages[index - 1]?.role === 'user' ? index - 1 : index)
}

/** The messages above a live answer and its prompt. The snapshot may be older or newer than the stream. */
export function messagesBefore(messages: readonly ChatMessage[], live: LiveHead | undefined): readonly ChatMessage[] {
  if (live === undefined) return messages
  const prompt = live.userMessage
  if (prompt === null) return live.phase === 'failed' ? messages : keptBefore(messages, live.replaceFrom)
  const index = messages.findIndex((message) => message.id === prompt.id)
  return index === -1 ? keptBefore(messages, live.replaceFrom) : messages.slice(0, index)
}

/** An answer has ended when it carries either its figures or the reason why there are none. */
export function isSettled(message: ChatMessage | undefined): message is ChatMessage {
  return message !== undefined && (message.stats !== null || message.error !== null)
}

/** The engine's copy of an answer that the page no longer follows, once it is complete. */
export function settledCopy(messages: readonly ChatMessage[], live: LiveHead | undefined): ChatMessage | null {
  if (live === undefined || live.assistantMessageId === null || (live.phase !== 'stopping' && live.phase !== 'failed')) return null
  const copy = messages.find((message) => message.id === live.assistantMessageId)
  return isSettled(copy) ? copy : null
}

const STOP_REASONS = {
  stop: 'finished',
  length: 'stopped at the token limit',
  context: 'stopped: context full',
  // By Stop, or because the page was closed or loaded again: the engine sees a stream that nobody reads any more in each case.
  aborted: 'stopped early',
  error: 'ended by an error',
} as const satisfies Record<AnswerStats['stopReason'], string>

export function stopReasonText(reason: AnswerStats['stopReason']): string {
  return STOP_REASONS[reason]
}

/** Read out once, when an answer is complete. */
export function announcementOf(message: ChatMessage): string {
  if (message.error !== null) return `The answer failed: ${message.error.message}`
  if (message.stats === null) return 'The answer ended.'
  const { completionTokens, stopReason, timeToFirstTokenMs } = message.stats
  const how = stopReason === 'stop' ? 'Answer finished' : `Answer ${stopReasonText(stopReason)}`
  return `${how}: ${plural(completionTokens, 'token')}, first after ${formatDuration(timeToFirstTokenMs / 1000)}.`
}

export interface ContextFigure {
  readonly used: number
  readonly limit: number
}

/** What a prompt is cut to on screen when it is more than a screen or so, in lines or in characters. */
const FOLDED_LINES = 24
const FOLDED_CHARACTERS = 1500

/** The beginning of a prompt that is too long to stand in the conversation; null for one that is not. */
export function foldedPrompt(content: string): string | null {
  // A little more than the fold is shown: a button for two lines hides less than it takes.
  if (content.length <= 2 * FOLDED_CHARACTERS && content.split('\n', 2 * FOLDED_LINES).length < 2 * FOLDED_LINES) return null
  // Half of a pair at the cut is no letter.
  const start = content.slice(0, FOLDED_CHARACTERS).replace(/[\ud800-\udbff]$/, '')
  return start.split('\n', FOLDED_LINES).join('\n').trimEnd()
}

/** From the last measured answer; before the first one only the limit is known. */
export function contextFigure(messages: readonly ChatMessage[], limitBefore: number): ContextFigure {
  const stats = messages.findLast((message) => message.stats !== null)?.stats ?? null
  return stats === null ? { used: 0, limit: limitBefore } : { used: stats.contextUsed, limit: stats.contextLimit }
}

/** Amber from here on: one more exchange may not fit. */
const CONTEXT_TIGHT_SHARE = 0.8

const WHEN_FULL: Readonly<Record<NonNullable<Sampling['overflow']>, string>> = {
  stop: 'Nothing is dropped: an answer that reaches the limit stops and says so.',
  'drop-oldest': 'When it is full, the model is no longer shown the oldest turns, and the answer says how much was left out.',
  'drop-middle':
    'When it is full, the model keeps the first turn and is no longer shown those after it; the answer says how much was left out.',
}

export function contextSentence(
  { used, limit }: ContextFigure,
  overflow: NonNullable<Sampling['overflow']> = 'stop',
): { readonly tight: boolean; readonly text: string } {
  const left = Math.max(0, limit - used)
  const tight = used >= limit * CONTEXT_TIGHT_SHARE
  const text = `${formatInteger(used)} of ${formatInteger(limit)} tokens used, ${formatInteger(left)} left for the next prompt and its answer. ${WHEN_FULL[overflow]}`
  return { tight, text: tight && overflow === 'stop' ? `${text} Start a new chat, or edit an earlier message to go on from there.` : text }
}

/** Why a model can't be talked to, and what to do; null when it can. */
export function chatBlock(model: ModelSummary): UiError | null {
  const reason = blockedReason(model)
  if (reason !== null) {
    return model.statusReason ?? { code: 'model.not-found', message: reason, hint: 'Choose another model to go on with this chat.' }
  }
  if (!model.hasTokenizer) {
    return {
      code: 'tokenizer.missing',
      message: `${model.name} has no tokenizer, so text can’t be turned into tokens.`,
      hint: 'Put tokenizer.json from the model’s page into its folder, or choose another model.',
    }
  }
  if (!model.hasChatTemplate) {
    return {
      code: 'tokenizer.no-chat-template',
      message: `${model.name} has no chat template: it continues text and does not take turns.`,
      hint: 'Choose its instruct or chat version. To use it anyway, add a chat_template to its tokenizer_config.json.',
    }
  }
  return null
}

/** The model that a new chat starts with: the one used last, else the sample, else the first that can talk. */
export function defaultModel(models: readonly ModelSummary[]): ModelSummary | null {
  const able = models.filter((model) => chatBlock(model) === null)
  const used = able.filter((model) => model.lastUsedAt !== null)
  const last = used.toSorted((one, other) => (other.lastUsedAt ?? '').localeCompare(one.lastUsedAt ?? ''))[0]
  return last ?? able.find((model) => model.isSample) ?? able[0] ?? null
}

export function lastUsedFirst(threads: readonly ChatThread[]): readonly ChatThread[] {
  return threads.toSorted((one, other) => other.updatedAt.localeCompare(one.updatedAt))
}

/** A conversation as plain text, for the clipboard. */
export function conversationText(
  systemPrompt: string,
  messages: readonly ChatMessage[],
  nameOf: (modelId: string | null) => string,
): string {
  const system = systemPrompt.trim() === '' ? [] : [`System:\n${systemPrompt.trim()}`]
  const turns = messages
    .filter((message) => message.content !== '')
    .map((message) => `${message.role === 'user' ? 'You' : nameOf(message.modelId)}:\n${message.content.trim()}`)
  return `${[...system, ...turns].join('\n\n')}\n`
}
