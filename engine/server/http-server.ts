/**
 * The OpenAI-compatible HTTP surface: listening, authentication, limits, disconnects (specs/runtime.md §12–14, electron-and-rpc.md §12.8). Its own
 * port and its own key, apart from the studio's origin. Loopback unless told otherwise; Host and Origin are checked because any web page can
 * post to a loopback address; no CORS unless an origin was allowed by name. What is at which path is routes.ts's business.
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { LatheError } from '../contract/errors.ts'
import { ApiError, toApiError } from './api-error.ts'
import type { Overlong } from './completion-run.ts'
import type { Exchange } from './http-exchange.ts'
import { sendJson } from './http-exchange.ts'
import { LiveRequests } from './live-requests.ts'
import { ModelService } from './model-service.ts'
import { RefusalLog } from './refusal-log.ts'
import { routeTable } from './route-table.ts'
import { serverRoutes } from './routes.ts'
import type { ServedModels } from './served-model.ts'

export interface ServerOptions {
  readonly models: ServedModels
  /** null = no key: only for tests and for people who asked for it. */
  readonly apiKey: string | null
  /** 0 = any free one. */
  readonly port: number
  /** Default 127.0.0.1. Anything else exposes the server to the network. */
  readonly hostname?: string
  /** Host names under which clients reach it, besides the address itself; for servers behind a name. */
  readonly allowedHosts?: readonly string[]
  /** Origins that browsers may call from; default none. */
  readonly allowedOrigins?: readonly string[]
  readonly version: string
  readonly log: (level: 'info' | 'warn' | 'error', text: string) => void
  /** What happens to a `max_tokens` for which the context has no room; default `reject`. */
  readonly overlong?: Overlong
  /** Default: a new one. Give one to watch the requests. */
  readonly live?: LiveRequests
}

export interface RunningServer {
  readonly url: string
  readonly port: number
  /** Requests being answered now. */
  readonly inFlight: number
  /** Running requests and the last ended ones. */
  readonly live: LiveRequests
  /** Ends the request of that id within a step; false if there is none. */
  abort(requestId: string): boolean
  /** Aborts what is running, ends connections, frees the port. */
  close(): Promise<void>
}

/**
 * How long an idle connection stays. Longer than any client keeps one in its pool (5 s in Python's httpx, 4 s in fetch): with Node's own 5 s, a
 * request that a client sent on a pooled connection could meet a server that was just closing it, and failed for no reason that its user could see.
 */
const KEEP_ALIVE_MS = 75_000

/** What the answers that are running get to end in: an abort takes a step. */
const CLOSING_MS = 1000

/** Equal lengths for the constant-time comparison, whatever was sent. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function sameSecret(given: string, expected: string): boolean {
  return timingSafeEqual(digest(given), digest(expected))
}

/** Ids come back in headers and in logs. */
function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
}

/** Starts listening and resolves when requests are accepted. Rejects with the socket's error, e.g. EADDRINUSE. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { models, log } = options
  // Whoever sends no key sends this one.
  if (options.apiKey === '')
    throw new LatheError('request.invalid', 'The API key is empty.', 'Choose one; without a key anybody could use the models.')
  const hostname = options.hostname ?? '127.0.0.1'
  const allowedOrigins = new Set(options.allowedOrigins ?? [])
  const active = new Set<AbortController>()
  const live = options.live ?? new LiveRequests()
  const service = new ModelService(models, live, log, options.overlong)
  const route = routeTable(serverRoutes(service, { version: options.version, load: () => Math.max(0, active.size - 1) }))
  const refusals = new RefusalLog((text) => log('warn', text))
  let port = 0
  /** Called when nothing is being answered any more. */
  let onLast: (() => void) | null = null

  /** Any host name that a resolver can be made to point here would let a web page in; only known ones are answered. */
  function isKnownHost(host: string): boolean {
    const name = host.replace(/:\d+$/, '').toLowerCase()
    if (options.allowedHosts?.includes(name) === true) return true
    // An address can't be rebound; behind other interfaces clients use those.
    const isAddress = /^\d+\.\d+\.\d+\.\d+$/.test(name) || name.startsWith('[')
    if (hostname !== '127.0.0.1' && hostname !== 'localhost' && hostname !== '::1') return isAddress || name === 'localhost'
    return [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`].includes(host)
  }

  function guard(request: IncomingMessage, path: string): void {
    const host = request.headers.host ?? ''
    if (!isKnownHost(host)) throw new ApiError(403, `Requests for host "${host}" are not answered here.`)
    const { origin } = request.headers
    if (origin !== undefined && !allowedOrigins.has(origin))
      throw new ApiError(403, `Requests from web pages of ${origin} are not allowed.`)
    if (options.apiKey === null || path === '/health') return
    const [scheme = '', bearer = ''] = (request.headers.authorization ?? '').split(' ')
    // Anthropic's clients send the key in a header of its own.
    const key = scheme.toLowerCase() === 'bearer' ? bearer : String(request.headers['x-api-key'] ?? '')
    if (!sameSecret(key, options.apiKey)) {
      throw new ApiError(401, 'The API key is missing or wrong. Send it as "Authorization: Bearer …".')
    }
  }

  function fail(exchange: Exchange & { readonly path: string }, thrown: unknown): void {
    const error = toApiError(thrown)
    const refused = error.status < 500 || error.status === 501
    if (refused) refusals.note(`${exchange.request.method} ${exchange.path} was answered ${error.status}: ${error.message}`)
    else log('error', error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : error.message)
    if (exchange.stream !== null) {
      exchange.stream.fail(error)
      return
    }
    const headers: Record<string, string> = {}
    if (error.allowed !== null) headers['allow'] = error.allowed.join(', ')
    if (error.status === 401) headers['www-authenticate'] = 'Bearer'
    if (error.retryAfterSeconds !== null) headers['retry-after'] = String(error.retryAfterSeconds)
    // What is left of an oversize body is not worth reading.
    if (error.status === 413) headers['connection'] = 'close'
    const anthropic = exchange.request.url?.startsWith('/v1/messages') === true
    sendJson(exchange.response, error.status, anthropic ? error.anthropicBody() : error.body(), headers)
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const controller = new AbortController()
    active.add(controller)
    const requestId = requestIdOf(request)
    const [path = '/', search = ''] = (request.url ?? '/').split('?')
    const query = new URLSearchParams(search)
    const abort = (): void => controller.abort()
    const exchange = { request, response, query, path, signal: controller.signal, abort, requestId, rest: '', stream: null }
    response.setHeader('x-request-id', requestId)
    response.setHeader('x-content-type-options', 'nosniff')
    // `close` also fires after a normal end, when there is nothing left to abort.
    response.once('close', () => {
      if (!response.writableFinished) controller.abort()
    })
    const { origin } = request.headers
    if (origin !== undefined && allowedOrigins.has(origin)) {
      response.setHeader('access-control-allow-origin', origin)
      response.setHeader('vary', 'Origin')
    }
    try {
      if (request.method === 'OPTIONS' && origin !== undefined && allowedOrigins.has(origin)) {
        // A preflight carries no key.
        response.writeHead(204, {
          'access-control-allow-methods': 'GET, POST',
          'access-control-allow-headers': request.headers['access-control-request-headers'] ?? 'authorization, content-type, x-request-id',
          'access-control-max-age': '600',
        })
        response.end()
        return
      }
      guard(request, path)
      const { handler, rest } = route(request.method ?? '', path)
      exchange.rest = rest
      await handler(exchange)
    } catch (thrown) {
      if (!controller.signal.aborted || !response.destroyed) fail(exchange, thrown)
    } finally {
      active.delete(controller)
      if (active.size === 0) onLast?.()
    }
  }

  const server: Server = createServer((request, response) => void answer(request, response))
  // A long prefill or a slow answer is not a stalled connection: clients decide how long they wait.
  server.requestTimeout = 0
  server.timeout = 0
  server.keepAliveTimeout = KEEP_ALIVE_MS
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, hostname, resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The server has no port')
  port = address.port
  return {
    url: `http://${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}/v1`,
    port,
    live,
    abort: (requestId) => service.abort([requestId]).length > 0,
    get inFlight() {
      return active.size
    },
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const controller of active) controller.abort()
      // Streams end with their reason and [DONE], which their clients are waiting for; who does not read it is cut off.
      const late = sleep(CLOSING_MS, undefined, { ref: false })
      if (active.size > 0) await Promise.race([new Promise<void>((resolve) => (onLast = resolve)), late])
      server.closeIdleConnections()
      await Promise.race([closed, late])
      server.closeAllConnections()
      await closed
    },
  }
}
