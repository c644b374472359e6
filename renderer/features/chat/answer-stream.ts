/**
 * Follows one streamed answer from Send to its end, outside of any component, so that leaving the screen does not stop the model.
 * Text is gathered per frame. Whatever ends the stream, nothing is lost: the prompt stays a draft until the engine has stored it, and text that arrived stays.
 */
import type { QueryClient } from '@tanstack/react-query'
import { assertNever, type ChatEvent, type ChatMessage, type ChatSend } from '../../../engine/contract/index.ts'
import type { Engine } from '../../data/engine.tsx'
import { DisconnectedError, toUiError } from '../../lib/errors.ts'
import { showToast } from '../../ui/toast.tsx'
import { editKey, readChats, readDrafts } from './chat-store.ts'
import { announcementOf, keptBefore, messagesBefore } from './conversation.ts'

export interface AnswerContext {
  readonly engine: Pick<Engine, 'client' | 'queries'>
  readonly cache: QueryClient
}

const controllers = new Map<string, AbortController>()

/** A hidden page gets no frames; its text is taken over at this pace. */
const HIDDEN_INTERVAL_MS = 250

/** Stops the model; what it has said stays. */
export function stopAnswer(threadId: string): void {
  const controller = controllers.get(threadId)
  if (controller === undefined) return
  readChats().change(threadId, () => ({ phase: 'stopping' }))
  controller.abort()
}

/**
 * Expects that `begin` has been called for this thread. Never rejects: a failure belongs to the answer. `draftKey` is where the prompt was typed, if
 * that is not the thread's own composer.
 */
export async function followAnswer({ engine, cache }: AnswerContext, request: ChatSend, draftKey = request.threadId): Promise<void> {
  const { threadId } = request
  const { change } = readChats()
  const controller = new AbortController()
  controllers.set(threadId, controller)
  const replaced = replacedBy({ engine, cache }, request)
  const text = gatherText((piece, tokens) =>
    change(threadId, (answer) => ({ text: answer.text + piece, tokens, phase: answer.phase === 'stopping' ? 'stopping' : 'writing' })),
  )
  let done: ChatMessage | null = null
  try {
    const stream: AsyncIterable<ChatEvent> = await engine.client.chat.send(request, { signal: controller.signal })
    for await (const event of stream) {
      switch (event.kind) {
        case 'accepted':
          change(threadId, () => ({ userMessage: event.userMessage, assistantMessageId: event.assistantMessageId }))
          forgetDraft(request, draftKey)
          offerUndo({ engine, cache }, threadId, replaced)
          break
        case 'loading':
          change(threadId, ({ phase }) => ({ loading: event, phase: phase === 'stopping' ? phase : 'loading' }))
          break
        case 'prefill':
          change(threadId, ({ phase }) => ({ prefill: event, phase: phase === 'stopping' ? phase : 'prefill' }))
          break
        case 'text':
          text.add(event.text, event.tokens)
          break
        case 'done':
          done = event.message
          break
        default:
          assertNever(event, 'chat event')
      }
    }
    if (done === null && !controller.signal.aborted) throw new DisconnectedError('the stream ended without its closing event')
  } catch (error) {
    // Before the failure: text taken over later would say that the answer is still being written.
    text.flush()
    // After Stop the connection reports the abort itself; that is no failure.
    if (!controller.signal.aborted) {
      change(threadId, () => ({ phase: 'failed', failure: toUiError(error) }))
      keepWords(threadId)
    }
  } finally {
    text.flush()
    if (controllers.get(threadId) === controller) controllers.delete(threadId)
  }
  if (done === null) await leaveToEngine({ engine, cache }, threadId)
  else await takeOver({ engine, cache }, threadId, done)
}

/** The prompt is stored now: the field it was typed into may be emptied, unless something else has been typed since. */
function forgetDraft({ threadId, content, replaceFrom }: ChatSend, draftKey: string): void {
  const { drafts, editing, setDraft, setEditing } = readDrafts()
  if (drafts[draftKey]?.trim() === content) setDraft(draftKey, '')
  const edited = editing[threadId]
  if (edited === undefined || edited !== replaceFrom) return
  setDraft(editKey(edited), '')
  setEditing(threadId, null)
}

/** The messages that an edit or another try takes the place of, as the page knows them. */
function replacedBy({ engine, cache }: AnswerContext, { threadId, replaceFrom }: ChatSend): readonly ChatMessage[] {
  const messages: readonly ChatMessage[] = cache.getQueryData(engine.queries.chat.messages.queryKey({ input: { threadId } })) ?? []
  return replaceFrom === null ? [] : messages.slice(keptBefore(messages, replaceFrom).length)
}

/** Only where an answer is gone by it: to try again after a failure takes nothing away. */
function offerUndo({ engine, cache }: AnswerContext, threadId: string, replaced: readonly ChatMessage[]): void {
  if (!replaced.some((message) => message.role === 'assistant' && message.error === null && message.content !== '')) return
  const restore = async (): Promise<void> => {
    try {
      await engine.client.chat.restore({ threadId })
    } catch (error) {
      showToast({ type: 'error', title: 'The earlier answer was not brought back', description: toUiError(error).message })
    }
    await cache.invalidateQueries({ queryKey: engine.queries.chat.messages.queryKey({ input: { threadId } }) })
  }
  showToast({
    title: replaced.length > 2 ? `Replaced ${replaced.length} messages` : 'Replaced the earlier answer',
    action: { title: 'Undo', onPress: () => void restore() },
  })
}

/** At once, not when the engine is back: until then the page may be closed, reloaded, or used for the next prompt. */
function keepWords(threadId: string): void {
  const { assistantMessageId, text } = readChats().live[threadId] ?? { assistantMessageId: null, text: '' }
  if (assistantMessageId !== null && text !== '') readDrafts().rescue(assistantMessageId, text)
}

/** The stream brought the finished answer: it joins the snapshot in the same frame in which the live one goes. */
async function takeOver({ engine, cache }: AnswerContext, threadId: string, message: ChatMessage): Promise<void> {
  const { live, end, announce } = readChats()
  const answer = live[threadId]
  const prompt = answer?.userMessage ?? null
  const queryKey = engine.queries.chat.messages.queryKey({ input: { threadId } })
  // A snapshot taken before the end would bring the open answer back.
  await cache.cancelQueries({ queryKey, exact: true })
  cache.setQueryData(queryKey, (messages?: ChatMessage[]) =>
    messages === undefined || prompt === null ? messages : [...messagesBefore(messages, answer), prompt, message],
  )
  end(threadId)
  announce(announcementOf(message))
  void cache.invalidateQueries({ queryKey })
  void cache.invalidateQueries({ queryKey: engine.queries.chat.threads.key() })
}

/** Stopped or broken off: the engine has the last word on what it stored. Without a stored prompt nothing happened and the draft is still there. */
async function leaveToEngine({ engine, cache }: AnswerContext, threadId: string): Promise<void> {
  const { live, end, announce } = readChats()
  const answer = live[threadId]
  if (answer === undefined) return
  if (answer.phase === 'stopping') announce('Answer stopped.')
  else if (answer.failure !== null) announce(`The answer failed: ${answer.failure.message}`)
  if (answer.phase === 'stopping' && answer.userMessage === null) end(threadId)
  await cache.invalidateQueries({ queryKey: engine.queries.chat.messages.queryKey({ input: { threadId } }) })
}

function gatherText(emit: (text: string, tokens: number) => void) {
  let gathered = ''
  let count = 0
  let cancel: (() => void) | null = null
  const flush = () => {
    cancel?.()
    cancel = null
    if (gathered === '') return
    const text = gathered
    gathered = ''
    emit(text, count)
  }
  return {
    add: (text: string, tokens: number) => {
      gathered += text
      count = tokens
      if (cancel !== null) return
      if (document.hidden) {
        const timer = setTimeout(flush, HIDDEN_INTERVAL_MS)
        cancel = () => clearTimeout(timer)
      } else {
        const frame = requestAnimationFrame(flush)
        cancel = () => cancelAnimationFrame(frame)
      }
    },
    flush,
  }
}
