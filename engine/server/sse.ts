/**
 * Server-sent events to one client (specs/runtime.md §13). Writes never block the engine: while a socket is full, frames wait here; a client
 * that lets more than a set amount pile up is dropped. Comments keep idle connections alive during long prefills.
 */
import type { ServerResponse } from 'node:http'
import type { ApiError } from './api-error.ts'

/** A reader this far behind has gone away or will never catch up: hours of text. */
const MAX_PENDING_BYTES = 4 * 2 ** 20
/** Below the 15 s after which common proxies give up on a silent response. */
const PING_MS = 10_000

export class EventStream {
  readonly #response: ServerResponse
  readonly #onDrop: () => void
  #pending: string[] = []
  #pendingBytes = 0
  #blocked = false
  #ended = false
  readonly #ping: NodeJS.Timeout
  readonly #terminator: 'done' | 'none'

  /**
   * Sends the headers at once. `onDrop` is called when the client is too slow and the connection has been destroyed. OpenAI's streams end in
   * [DONE]; Anthropic's in their last event.
   */
  constructor(response: ServerResponse, onDrop: () => void, terminator: 'done' | 'none' = 'done') {
    this.#terminator = terminator
    this.#response = response
    this.#onDrop = onDrop
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      connection: 'keep-alive',
      'x-accel-buffering': 'no',
    })
    response.flushHeaders()
    response.on('drain', () => {
      this.#blocked = false
      this.#flush()
    })
    this.#ping = setInterval(() => this.#write(': ping\n\n'), PING_MS)
    response.once('close', () => {
      clearInterval(this.#ping)
      this.#pending = []
    })
  }

  send(payload: unknown): void {
    this.#write(`data: ${JSON.stringify(payload)}\n\n`)
  }

  /** An event with a name, as Anthropic's streams have them. */
  event(name: string, payload: object): void {
    this.#write(`event: ${name}\ndata: ${JSON.stringify({ type: name, ...payload })}\n\n`)
  }

  /** Tells of a failure inside of the stream, since the status has gone out, and ends it. */
  fail(error: ApiError): void {
    if (this.#terminator === 'done') this.send(error.body())
    else this.#write(`event: error\ndata: ${JSON.stringify(error.anthropicBody())}\n\n`)
    this.end()
  }

  /** Ends the stream with the terminator clients wait for, also after an error. */
  end(): void {
    if (this.#ended) return
    if (this.#terminator === 'done') this.#write('data: [DONE]\n\n')
    this.#ended = true
    clearInterval(this.#ping)
    this.#flush()
  }

  #write(frame: string): void {
    if (this.#ended || this.#response.destroyed) return
    this.#pending.push(frame)
    this.#pendingBytes += frame.length
    if (this.#pendingBytes > MAX_PENDING_BYTES) {
      this.#ended = true
      this.#response.destroy()
      this.#onDrop()
      return
    }
    this.#flush()
  }

  #flush(): void {
    if (this.#response.destroyed) return
    if (!this.#blocked && this.#pending.length > 0) {
      const frames = this.#pending.join('')
      this.#pending = []
      this.#pendingBytes = 0
      this.#blocked = !this.#response.write(frames)
    }
    if (this.#ended && this.#pending.length === 0 && !this.#response.writableEnded) this.#response.end()
  }
}
