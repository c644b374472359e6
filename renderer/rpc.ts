/**
 * The only file that knows how the page reaches the engine: oRPC over one WebSocket, with what oRPC v1 leaves out — reconnecting, and calls
 * that wait for the connection instead of failing (specs/electron-and-rpc.md §11). Queries are snapshots, `watchEvents` brings the deltas.
 */
import { createORPCClient, type ClientLink } from '@orpc/client'
import { RPCLink } from '@orpc/client/websocket'
import type { ContractRouterClient } from '@orpc/contract'
import { RPC_PATH, SESSION_PATH, type Contract, type StudioEvent } from '../engine/contract/index.ts'
import { DisconnectedError } from './lib/errors.ts'

export type EngineClient = ContractRouterClient<Contract>

export interface ConnectionState {
  readonly status: 'connecting' | 'open' | 'lost'
  /** True once a connection has been open: the difference between "starting" and "restarting". */
  readonly hasBeenOpen: boolean
  readonly attempt: number
}

/** What the shell needs to show the state of the line; the fake engine has one too. */
export interface Connection {
  readonly getState: () => ConnectionState
  readonly subscribe: (listener: () => void) => () => void
  readonly retryNow: () => void
}

type Socket = Pick<WebSocket, 'addEventListener' | 'removeEventListener' | 'send' | 'readyState' | 'close'>

/** First retry after 150 ms (an engine that restarts is back within a second), then doubling up to 3 s. */
const FIRST_RETRY_MS = 150
const LONGEST_RETRY_MS = 3000

const SOCKET_OPEN = 1

type Stream = AsyncIterableIterator<unknown>

function isStream(answer: unknown): answer is Stream {
  return typeof answer === 'object' && answer !== null && Symbol.asyncIterator in answer && 'next' in answer
}

/** The same stream with its failures told as a call's are. */
function withReasons(stream: Stream, reasonOf: (error: unknown) => unknown): Stream {
  const told = async (step: Promise<IteratorResult<unknown>>): Promise<IteratorResult<unknown>> => {
    try {
      return await step
    } catch (error) {
      throw reasonOf(error)
    }
  }
  return {
    next: () => told(stream.next()),
    return: async (value?: unknown) => (stream.return === undefined ? { done: true, value } : stream.return(value)),
    [Symbol.asyncIterator]() {
      return this
    },
  }
}

export class EngineConnection implements Connection {
  readonly link: ClientLink<Record<never, never>>
  readonly #open: () => Socket
  readonly #listeners = new Set<() => void>()
  #state: ConnectionState = { status: 'connecting', hasBeenOpen: false, attempt: 0 }
  #socket: Socket | null = null
  #rpc: RPCLink<Record<never, never>> | null = null
  #timer: ReturnType<typeof setTimeout> | undefined
  #disposed = false

  constructor(openSocket: () => Socket) {
    this.#open = openSocket
    this.link = { call: (path, input, options) => this.#call(path, input, options) }
    this.#connect()
  }

  getState = (): ConnectionState => this.#state

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  retryNow = (): void => {
    if (this.#state.status !== 'lost') return
    clearTimeout(this.#timer)
    this.#connect()
  }

  dispose(): void {
    this.#disposed = true
    clearTimeout(this.#timer)
    this.#socket?.close()
  }

  #set(state: ConnectionState): void {
    this.#state = state
    for (const listener of this.#listeners) listener()
  }

  #connect(): void {
    const socket = this.#open()
    const rpc = new RPCLink<Record<never, never>>({ websocket: socket })
    this.#socket = socket
    socket.addEventListener('open', () => {
      this.#rpc = rpc
      this.#set({ status: 'open', hasBeenOpen: true, attempt: 0 })
    })
    // A socket that fails to open fires `error` and then `close`; one handler is enough.
    socket.addEventListener('close', () => {
      this.#rpc = null
      if (this.#disposed) return
      const attempt = this.#state.attempt + 1
      this.#set({ status: 'lost', hasBeenOpen: this.#state.hasBeenOpen, attempt })
      this.#timer = setTimeout(() => this.#connect(), Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (attempt - 1)))
    })
  }

  async #call(...[path, input, options]: Parameters<ClientLink<Record<never, never>>['call']>): Promise<unknown> {
    const rpc = this.#rpc ?? (await this.#whenOpen(options.signal))
    const socket = this.#socket
    // oRPC hears of a closed socket first: its promises are rejected before `close` has reached the handler above.
    const reasonOf = (error: unknown): unknown =>
      options.signal?.aborted !== true && (this.#rpc !== rpc || (socket !== null && socket.readyState > SOCKET_OPEN))
        ? new DisconnectedError('connection lost', { cause: error })
        : error
    try {
      const answer = await rpc.call(path, input, options)
      return isStream(answer) ? withReasons(answer, reasonOf) : answer
    } catch (error) {
      throw reasonOf(error)
    }
  }

  #whenOpen(signal: AbortSignal | undefined): Promise<RPCLink<Record<never, never>>> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        if (signal?.aborted !== true && this.#rpc === null) return
        unsubscribe()
        signal?.removeEventListener('abort', settle)
        if (this.#rpc === null || signal?.aborted === true) reject(signal?.reason ?? new DisconnectedError('aborted'))
        else resolve(this.#rpc)
      }
      const unsubscribe = this.subscribe(settle)
      signal?.addEventListener('abort', settle)
      settle()
    })
  }
}

export function connectEngine(view: Window): { client: EngineClient; connection: EngineConnection } {
  const url = new URL(RPC_PATH, view.location.href)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  const connection = new EngineConnection(() => new WebSocket(url))
  return { client: createORPCClient<EngineClient>(connection.link), connection }
}

/**
 * Trades the one-time token of `/#t=<token>` for a session cookie and drops the fragment from the address bar and the history.
 * Resolves false when the token was refused; without a token the cookie is assumed to be there already (Electron sets it itself).
 */
export async function startSession(view: Window): Promise<boolean> {
  const token = new URLSearchParams(view.location.hash.slice(1)).get('t')
  if (token === null) return true
  view.history.replaceState(null, '', view.location.pathname + view.location.search)
  const response = await view.fetch(SESSION_PATH, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ token }),
    credentials: 'same-origin',
  })
  return response.ok
}

/** Pause before asking again for a stream that the engine ended without closing the connection. */
const RESUBSCRIBE_MS = 250

/**
 * Follows the event stream until the signal aborts, through reconnects and engine restarts, resuming after the last event it saw.
 * The stream's own `hello` tells whether something was missed; what to do about it is the receiver's business.
 */
export async function watchEvents(client: EngineClient, receive: (event: StudioEvent) => void, signal: AbortSignal): Promise<void> {
  let runId: string | null = null
  let after: number | null = null
  while (!signal.aborted) {
    try {
      const stream = await client.events.watch({ runId, after }, { signal })
      for await (const event of stream) {
        if (event.kind === 'hello') runId = event.runId
        after = event.seq
        receive(event)
      }
    } catch {
      // The connection banner tells the user; the next turn of the loop waits for the line to come back.
      if (signal.aborted) return
    }
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, RESUBSCRIBE_MS)
      signal.addEventListener('abort', done)
    })
  }
}
