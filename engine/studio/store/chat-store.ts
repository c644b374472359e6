/** Rows of chat threads and messages. Messages are ordered by when they were written; an answer being written is `open` until it is closed. */
import type { DatabaseSync } from 'node:sqlite'
import { AnswerStatsSchema, ErrorSchema, SamplingSchema } from '../../contract/index.ts'
import type { AnswerStats, ChatMessage, ChatThread, ErrorShape, Sampling } from '../../contract/index.ts'
import { transaction } from './database.ts'
import { flag, integer, json, jsonOrNull, text, textOrNull } from './rows.ts'
import type { Row } from './rows.ts'

export interface ThreadRecord {
  readonly id: string
  readonly title: string
  readonly titledByUser: boolean
  readonly modelId: string | null
  readonly systemPrompt: string
  readonly sampling: Sampling
  readonly createdAt: string
  readonly updatedAt: string
}

export interface MessageRecord {
  readonly id: string
  readonly threadId: string
  readonly role: ChatMessage['role']
  readonly content: string
  readonly modelId: string | null
  readonly createdAt: string
  readonly stats: AnswerStats | null
  readonly error: ErrorShape | null
  readonly open: boolean
}

export class ChatStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  insertThread(thread: ThreadRecord): void {
    this.#database
      .prepare(
        'INSERT INTO threads (id, title, titled_by_user, model_id, system_prompt, sampling, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      )
      .run(
        thread.id,
        thread.title,
        thread.titledByUser ? 1 : 0,
        thread.modelId,
        thread.systemPrompt,
        JSON.stringify(thread.sampling),
        thread.createdAt,
        thread.updatedAt,
      )
  }

  updateThread(thread: ThreadRecord): void {
    this.#database
      .prepare(
        'UPDATE threads SET title = ?, titled_by_user = ?, model_id = ?, system_prompt = ?, sampling = ?, updated_at = ? WHERE id = ?',
      )
      .run(
        thread.title,
        thread.titledByUser ? 1 : 0,
        thread.modelId,
        thread.systemPrompt,
        JSON.stringify(thread.sampling),
        thread.updatedAt,
        thread.id,
      )
  }

  findThread(id: string): ThreadRecord | null {
    const row = this.#database.prepare('SELECT * FROM threads WHERE id = ?').get(id)
    return row === undefined ? null : toThread(row)
  }

  /** Most recently used first. */
  listThreads(): ChatThread[] {
    return this.#database
      .prepare(
        `SELECT threads.*, (SELECT count(*) FROM messages WHERE thread_id = threads.id) AS message_count
         FROM threads ORDER BY updated_at DESC, rowid DESC`,
      )
      .all()
      .map((row) => publicThread(toThread(row), integer(row, 'message_count')))
  }

  countMessages(threadId: string): number {
    const row = this.#database.prepare('SELECT count(*) AS n FROM messages WHERE thread_id = ?').get(threadId)
    return row === undefined ? 0 : integer(row, 'n')
  }

  removeThread(id: string): void {
    this.#database.prepare('DELETE FROM threads WHERE id = ?').run(id)
  }

  messages(threadId: string): MessageRecord[] {
    return this.#database.prepare('SELECT * FROM messages WHERE thread_id = ? ORDER BY ordinal').all(threadId).map(toMessage)
  }

  /** In one step: drops `replaceFrom` and everything after it, then adds the new messages and saves the thread. */
  append(thread: ThreadRecord, replaceFrom: string | null, messages: readonly MessageRecord[]): void {
    transaction(this.#database, () => {
      if (replaceFrom !== null) {
        this.#database
          .prepare('DELETE FROM messages WHERE thread_id = ? AND ordinal >= (SELECT ordinal FROM messages WHERE id = ?)')
          .run(thread.id, replaceFrom)
      }
      const insert = this.#database.prepare(
        'INSERT INTO messages (id, thread_id, role, content, model_id, created_at, stats, error, open) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
      )
      for (const message of messages) {
        insert.run(
          message.id,
          message.threadId,
          message.role,
          message.content,
          message.modelId,
          message.createdAt,
          message.stats === null ? null : JSON.stringify(message.stats),
          message.error === null ? null : JSON.stringify(message.error),
          message.open ? 1 : 0,
        )
      }
      this.updateThread(thread)
    })
  }

  updateMessage(message: MessageRecord): void {
    this.#database
      .prepare('UPDATE messages SET content = ?, stats = ?, error = ?, open = ? WHERE id = ?')
      .run(
        message.content,
        message.stats === null ? null : JSON.stringify(message.stats),
        message.error === null ? null : JSON.stringify(message.error),
        message.open ? 1 : 0,
        message.id,
      )
  }

  /** The newest message with this text of each thread, newest first; case is ignored for ASCII letters. */
  search(sought: string, most: number): MessageRecord[] {
    if (sought === '') return []
    const pattern = `%${sought.replaceAll(/[!%_]/g, '!$&')}%`
    return this.#database
      .prepare(
        `SELECT * FROM messages WHERE ordinal IN (
           SELECT max(ordinal) FROM messages WHERE content LIKE ? ESCAPE '!' GROUP BY thread_id
         ) ORDER BY ordinal DESC LIMIT ?`,
      )
      .all(pattern, most)
      .map(toMessage)
  }

  drafts(): Record<string, string> {
    const rows = this.#database.prepare('SELECT key, text FROM drafts').all()
    return Object.fromEntries(rows.map((row) => [text(row, 'key'), text(row, 'text')]))
  }

  saveDraft(key: string, draft: string): void {
    if (draft === '') this.#database.prepare('DELETE FROM drafts WHERE key = ?').run(key)
    else
      this.#database
        .prepare('INSERT INTO drafts (key, text) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET text = excluded.text')
        .run(key, draft)
  }

  /** Answers that were being written when the process ended. */
  openMessages(): MessageRecord[] {
    return this.#database.prepare('SELECT * FROM messages WHERE open = 1').all().map(toMessage)
  }
}

export function publicThread(thread: ThreadRecord, messageCount: number): ChatThread {
  return {
    id: thread.id,
    title: thread.title,
    modelId: thread.modelId,
    systemPrompt: thread.systemPrompt,
    sampling: thread.sampling,
    createdAt: thread.createdAt,
    updatedAt: thread.updatedAt,
    messageCount,
  }
}

export function publicMessage(message: MessageRecord): ChatMessage {
  return {
    id: message.id,
    role: message.role,
    content: message.content,
    modelId: message.modelId,
    createdAt: message.createdAt,
    stats: message.stats,
    error: message.error === null ? null : { ...message.error },
  }
}

function toThread(row: Row): ThreadRecord {
  return {
    id: text(row, 'id'),
    title: text(row, 'title'),
    titledByUser: flag(row, 'titled_by_user'),
    modelId: textOrNull(row, 'model_id'),
    systemPrompt: text(row, 'system_prompt'),
    sampling: json(row, 'sampling', SamplingSchema),
    createdAt: text(row, 'created_at'),
    updatedAt: text(row, 'updated_at'),
  }
}

function toMessage(row: Row): MessageRecord {
  const role = text(row, 'role')
  if (role !== 'system' && role !== 'user' && role !== 'assistant')
    throw new Error(`The library file holds a message of unknown role "${role}".`)
  return {
    id: text(row, 'id'),
    threadId: text(row, 'thread_id'),
    role,
    content: text(row, 'content'),
    modelId: textOrNull(row, 'model_id'),
    createdAt: text(row, 'created_at'),
    stats: jsonOrNull(row, 'stats', AnswerStatsSchema),
    error: jsonOrNull(row, 'error', ErrorSchema) as ErrorShape | null,
    open: flag(row, 'open'),
  }
}
