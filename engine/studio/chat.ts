/**
 * Chat threads: the prompt is stored before the model is asked, the answer while it is written and once more when it ends, whatever ends it.
 * A client that stops reading stops the model; the partial answer is kept with stop reason `aborted`. Text is sent at most 30 times a second
 * (specs/electron-and-rpc.md §11.3: there is no back-pressure). How an answer is made is answer.ts's business.
 */
import { randomUUID } from 'node:crypto'
import { LatheError, toErrorShape } from '../contract/index.ts'
import type { AnswerStats, ChatEvent, ChatMessage, ChatSend, ChatThread, Sampling } from '../contract/index.ts'
import type { AnswerEvent } from './answer.ts'
import type { EventHub } from './events.ts'
import type { Library } from './library.ts'
import type { Log, PromptMessage } from './ports.ts'
import { publicMessage, publicThread } from './store/chat-store.ts'
import type { ChatStore, MessageRecord, ThreadRecord } from './store/chat-store.ts'
import type { ModelRecord } from './store/model-store.ts'

/** Makes one answer; the real one is answer.ts with the studio's settings. */
export type Answerer = (
  request: {
    readonly id: string
    readonly model: ModelRecord
    readonly messages: readonly PromptMessage[]
    readonly sampling: Sampling
    readonly signal: AbortSignal
  },
  emit: (event: AnswerEvent) => void,
) => Promise<void>

export interface ChatParts {
  readonly store: ChatStore
  readonly library: Library
  readonly events: EventHub
  readonly answerer: Answerer
  readonly log: Log
  readonly now?: () => Date
}

export interface ThreadChange {
  readonly title?: string | undefined
  readonly modelId?: string | null | undefined
  readonly systemPrompt?: string | undefined
  readonly sampling?: Sampling | undefined
}

/** Between two pieces of text to one client: 30 a second. */
const TEXT_INTERVAL_MS = 33
/** How much of an answer a crash may cost. */
const PERSIST_INTERVAL_MS = 1000
const TITLE_CHARACTERS = 60
/** More than a list shows. */
const MOST_FOUND = 50
/** On either side of what was sought. */
const SNIPPET_CHARACTERS = 40
export const NEW_THREAD_TITLE = 'New chat'

/** Lively but coherent on small models; greedy is a choice, not a default, because it loops. */
export const DEFAULT_SAMPLING: Sampling = { temperature: 0.7, topK: 40, topP: 0.95, minP: 0, seed: null, maxTokens: null, stop: [] }

interface ActiveAnswer {
  readonly controller: AbortController
  readonly ended: Promise<void>
}

interface Replaced {
  /** The prompt that took its place. */
  readonly by: string
  readonly messages: readonly MessageRecord[]
  /** Of the thread, which is named after its first prompt. */
  readonly title: string
}

export class Chat {
  readonly #parts: ChatParts
  readonly #now: () => Date
  /** By thread. */
  readonly #active = new Map<string, ActiveAnswer>()
  /** What the last replacement of each thread took away, until the engine ends. */
  readonly #replaced = new Map<string, Replaced>()

  constructor(parts: ChatParts) {
    this.#parts = parts
    this.#now = parts.now ?? (() => new Date())
    this.#recover()
  }

  threads(): ChatThread[] {
    return this.#parts.store.listThreads()
  }

  create(modelId: string | null): ChatThread {
    const at = this.#now().toISOString()
    const thread: ThreadRecord = {
      id: randomUUID(),
      title: NEW_THREAD_TITLE,
      titledByUser: false,
      modelId,
      systemPrompt: '',
      sampling: DEFAULT_SAMPLING,
      createdAt: at,
      updatedAt: at,
    }
    this.#parts.store.insertThread(thread)
    this.#changed(thread.id)
    return publicThread(thread, 0)
  }

  update(threadId: string, change: ThreadChange): ChatThread {
    const thread = this.#thread(threadId)
    const updated: ThreadRecord = {
      ...thread,
      title: change.title ?? thread.title,
      titledByUser: thread.titledByUser || change.title !== undefined,
      modelId: change.modelId === undefined ? thread.modelId : change.modelId,
      systemPrompt: change.systemPrompt ?? thread.systemPrompt,
      sampling: change.sampling ?? thread.sampling,
    }
    this.#parts.store.updateThread(updated)
    this.#changed(threadId)
    return publicThread(updated, this.#parts.store.countMessages(threadId))
  }

  /** Stops an answer in progress first. */
  async remove(threadId: string): Promise<void> {
    this.#thread(threadId)
    await this.#stop(threadId)
    this.#replaced.delete(threadId)
    this.#parts.store.removeThread(threadId)
    this.#parts.store.saveDraft(threadId, '')
    this.#changed(threadId)
  }

  messages(threadId: string): ChatMessage[] {
    this.#thread(threadId)
    return this.#parts.store.messages(threadId).map(publicMessage)
  }

  /** Throws `chat.busy` while the last message of the branch is being written. */
  branch(threadId: string, messageId: string): ChatThread {
    const thread = this.#thread(threadId)
    const { store } = this.#parts
    const messages = store.messages(threadId)
    const end = messages.findIndex((message) => message.id === messageId)
    if (end === -1) throw new LatheError('chat.not-found', 'The message is no longer in this thread.', 'Reload the thread and try again.')
    const kept = messages.slice(0, end + 1)
    if (kept.some((message) => message.open))
      throw new LatheError('chat.busy', 'This answer is still being written.', 'Stop it, or wait until it ends.')
    const at = this.#now().toISOString()
    const copy: ThreadRecord = { ...thread, id: randomUUID(), title: branchTitle(thread.title), createdAt: at, updatedAt: at }
    store.insertThread(copy)
    store.append(
      copy,
      null,
      kept.map((message) => ({ ...message, id: randomUUID(), threadId: copy.id })),
    )
    this.#changed(copy.id)
    return publicThread(copy, kept.length)
  }

  /** Throws `chat.not-found` where nothing was replaced, or where the conversation has gone on since. */
  async restore(threadId: string): Promise<ChatMessage[]> {
    await this.#stop(threadId)
    const thread = this.#thread(threadId)
    const replaced = this.#replaced.get(threadId)
    const messages = this.#parts.store.messages(threadId)
    // The prompt that replaced it and its answer, and nothing after them.
    if (replaced === undefined || messages.at(-2)?.id !== replaced.by)
      throw new LatheError('chat.not-found', 'What was replaced can not be brought back any more.', 'The conversation has gone on since.')
    this.#replaced.delete(threadId)
    const title = thread.titledByUser ? thread.title : replaced.title
    this.#parts.store.append({ ...thread, title }, replaced.by, replaced.messages)
    this.#changed(threadId)
    return this.messages(threadId)
  }

  search(text: string): { threadId: string; messageId: string; snippet: string }[] {
    return this.#parts.store.search(text.trim(), MOST_FOUND).map(({ threadId, id, content }) => ({
      threadId,
      messageId: id,
      snippet: snippetAround(content, text.trim()),
    }))
  }

  drafts(): Record<string, string> {
    return this.#parts.store.drafts()
  }

  saveDraft(key: string, text: string): void {
    this.#parts.store.saveDraft(key, text)
  }

  /** Ends with `done`, also for an answer that failed: then the message carries the error. Throws only before anything is stored. */
  async *send(request: ChatSend, signal: AbortSignal | undefined): AsyncGenerator<ChatEvent, void, undefined> {
    const model = await this.#parts.library.runnable(request.modelId)
    const { thread, userMessage, assistant, history } = this.#accept(request)
    const stream = new AnswerStream()
    const controller = new AbortController()
    const onClientGone = (): void => controller.abort()
    signal?.addEventListener('abort', onClientGone, { once: true })
    if (signal?.aborted === true) controller.abort()
    const ended = this.#write(request, model, assistant, history, controller.signal, stream)
    this.#active.set(thread.id, { controller, ended })
    try {
      yield { kind: 'accepted', userMessage: publicMessage(userMessage), assistantMessageId: assistant.id }
      yield* stream.read()
    } finally {
      // leaving early is the client's way to stop; after a normal end this does nothing
      signal?.removeEventListener('abort', onClientGone)
      controller.abort()
      await ended
    }
  }

  /** Stops every answer and waits until each is stored. */
  async close(): Promise<void> {
    await Promise.all([...this.#active.keys()].map((threadId) => this.#stop(threadId)))
  }

  async #stop(threadId: string): Promise<void> {
    const active = this.#active.get(threadId)
    active?.controller.abort()
    await active?.ended
  }

  /** Stores the prompt and an open answer in one step. */
  #accept(request: ChatSend): { thread: ThreadRecord; userMessage: MessageRecord; assistant: MessageRecord; history: PromptMessage[] } {
    const thread = this.#thread(request.threadId)
    if (this.#active.has(thread.id)) {
      throw new LatheError('chat.busy', 'An answer is still being written in this thread.', 'Stop it, or wait until it ends.')
    }
    const before = this.#parts.store.messages(thread.id)
    const cut = this.#cut(before, request.replaceFrom)
    const kept = cut === null ? before : before.slice(0, cut)
    const at = this.#now().toISOString()
    const blank = { threadId: thread.id, createdAt: at, stats: null, error: null }
    const userMessage: MessageRecord = { ...blank, id: randomUUID(), role: 'user', content: request.content, modelId: null, open: false }
    const assistant: MessageRecord = { ...blank, id: randomUUID(), role: 'assistant', content: '', modelId: request.modelId, open: true }
    const updated: ThreadRecord = {
      ...thread,
      title: thread.titledByUser || kept.length > 0 ? thread.title : titleFrom(request.content),
      modelId: request.modelId,
      systemPrompt: request.systemPrompt,
      sampling: request.sampling,
      updatedAt: at,
    }
    this.#parts.store.append(updated, cut === null ? null : (before[cut]?.id ?? null), [userMessage, assistant])
    if (cut === null) this.#replaced.delete(thread.id)
    else this.#replaced.set(thread.id, { by: userMessage.id, messages: before.slice(cut), title: thread.title })
    this.#changed(thread.id)
    return { thread: updated, userMessage, assistant, history: promptHistory(kept) }
  }

  /** Index of the first message to drop. Replacing an answer replaces the prompt it answers too, since `send` brings the prompt. */
  #cut(messages: readonly MessageRecord[], replaceFrom: string | null): number | null {
    if (replaceFrom === null) return null
    const index = messages.findIndex((message) => message.id === replaceFrom)
    if (index === -1) {
      throw new LatheError('chat.not-found', 'The message to replace is no longer in this thread.', 'Reload the thread and try again.')
    }
    return messages[index]?.role === 'assistant' && messages[index - 1]?.role === 'user' ? index - 1 : index
  }

  /** Runs the model to its end and stores what it says. Never rejects: failures belong to the message. */
  async #write(
    request: ChatSend,
    model: ModelRecord,
    assistant: MessageRecord,
    history: readonly PromptMessage[],
    signal: AbortSignal,
    stream: AnswerStream,
  ): Promise<void> {
    const { store, library, answerer, log } = this.#parts
    let content = ''
    let stats: AnswerStats | null = null
    let error: MessageRecord['error'] = null
    let persistedAt = performance.now()
    const system = request.systemPrompt.trim() === '' ? [] : [{ role: 'system', content: request.systemPrompt }]
    const messages = [...system, ...history, { role: 'user', content: request.content }]
    try {
      library.touch(model.id)
      await answerer({ id: assistant.id, model, messages, sampling: request.sampling, signal }, (event) => {
        if (event.kind === 'finished') {
          stats = event.stats
          return
        }
        if (event.kind === 'text') content += event.text
        stream.push(event)
        if (performance.now() - persistedAt >= PERSIST_INTERVAL_MS) {
          persistedAt = performance.now()
          store.updateMessage({ ...assistant, content })
        }
      })
    } catch (thrown) {
      error = signal.aborted ? stoppedBeforeFirstToken() : toErrorShape(thrown)
      if (error.code === 'internal') log('error', `Chat: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}`)
    }
    const final: MessageRecord = { ...assistant, content, stats, error, open: false }
    store.updateMessage(final)
    this.#active.delete(request.threadId)
    this.#changed(request.threadId)
    stream.end(publicMessage(final))
  }

  /** After a kill: an answer that was being written keeps its text and says why it ends. */
  #recover(): void {
    for (const message of this.#parts.store.openMessages()) {
      const error = new LatheError('runtime.aborted', 'Lathe closed while this answer was being written.', 'Regenerate it.')
      this.#parts.store.updateMessage({ ...message, open: false, error: error.toShape() })
    }
  }

  #thread(id: string): ThreadRecord {
    const thread = this.#parts.store.findThread(id)
    if (thread === null) throw new LatheError('chat.not-found', `There is no chat ${id}.`, 'It may have been deleted. Start a new one.')
    return thread
  }

  #changed(threadId: string): void {
    this.#parts.events.publish({ kind: 'threads.changed', threadId })
  }
}

/** What a client has not read yet: the latest progress, and text joined until it is time to send it. */
class AnswerStream {
  #loading: Extract<AnswerEvent, { kind: 'loading' }> | null = null
  #prefill: Extract<AnswerEvent, { kind: 'prefill' }> | null = null
  #text = ''
  #tokens = 0
  #done: ChatMessage | null = null
  #wake: (() => void) | null = null

  push(event: Exclude<AnswerEvent, { kind: 'finished' }>): void {
    if (event.kind === 'loading') this.#loading = event
    else if (event.kind === 'prefill') this.#prefill = event
    else {
      this.#text += event.text
      this.#tokens = event.tokens
    }
    this.#wake?.()
  }

  end(message: ChatMessage): void {
    this.#done = message
    this.#wake?.()
  }

  async *read(): AsyncGenerator<ChatEvent, void, undefined> {
    for (;;) {
      if (this.#loading !== null) {
        const event = this.#loading
        this.#loading = null
        yield event
      }
      if (this.#prefill !== null) {
        const event = this.#prefill
        this.#prefill = null
        yield event
      }
      if (this.#text !== '') {
        const text = this.#text
        this.#text = ''
        yield { kind: 'text', text, tokens: this.#tokens }
      }
      if (this.#done !== null && this.#text === '') {
        yield { kind: 'done', message: this.#done }
        return
      }
      await this.#change()
      // let a frame's worth gather, unless this is the end
      if (this.#done === null) await this.#endOrTimeout(TEXT_INTERVAL_MS)
    }
  }

  async #change(): Promise<void> {
    if (this.#loading !== null || this.#prefill !== null || this.#text !== '' || this.#done !== null) return
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    this.#wake = null
  }

  async #endOrTimeout(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        if (this.#done === null) return
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = null
  }
}

/** What the model is shown of earlier turns: a prompt whose answer failed without a word is left out with it. */
function promptHistory(messages: readonly MessageRecord[]): PromptMessage[] {
  const history: PromptMessage[] = []
  for (const message of messages) {
    if (message.role === 'assistant' && message.content === '') {
      if (history.at(-1)?.role === 'user') history.pop()
    } else {
      history.push({ role: message.role, content: message.content })
    }
  }
  return history
}

function stoppedBeforeFirstToken(): NonNullable<MessageRecord['error']> {
  return new LatheError('runtime.aborted', 'Stopped before the model said anything.', 'Regenerate the answer when you like.').toShape()
}

/** "Title", "Title (2)", "Title (3)". */
function branchTitle(title: string): string {
  const numbered = /^(.*) \((\d+)\)$/s.exec(title)
  return numbered === null ? `${title} (2)` : `${numbered[1]} (${Number(numbered[2]) + 1})`
}

/** The place in one line, cut at whole characters. */
function snippetAround(content: string, sought: string): string {
  const at = Math.max(0, content.toLowerCase().indexOf(sought.toLowerCase()))
  const before = Array.from(content.slice(0, at)).slice(-SNIPPET_CHARACTERS).join('')
  const after = Array.from(content.slice(at))
    .slice(0, Array.from(sought).length + SNIPPET_CHARACTERS)
    .join('')
  const cutAfter = after.length < content.length - at
  return `${before.length < at ? '…' : ''}${before}${after}${cutAfter ? '…' : ''}`.replaceAll(/\s+/g, ' ').trim()
}

function titleFrom(content: string): string {
  const line = content.replaceAll(/\s+/g, ' ').trim()
  if (line === '') return NEW_THREAD_TITLE
  const characters = [...line]
  return characters.length <= TITLE_CHARACTERS ? line : `${characters.slice(0, TITLE_CHARACTERS - 1).join('')}…`
}
