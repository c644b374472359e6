/**
 * The studio's own origin: one loopback HTTP server that carries the page (static files), its session, its procedures (oRPC over WebSocket) and
 * bulk bytes. The only file of the engine that opens this socket. What the procedures do is the router's business; who may call is decided in
 * request-policy.ts and session.ts. It never binds anything but 127.0.0.1: there is no option for it.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { AnyRouter } from '@orpc/server'
import { RPCHandler } from '@orpc/server/ws'
import { WebSocketServer } from 'ws'
import { BLOB_PATH, LatheError, RPC_PATH, SESSION_PATH, STATUS_PATH, toErrorShape } from '../../contract/index.ts'
import { refuseRequest, securityHeaders } from './request-policy.ts'
import type { Refusal } from './request-policy.ts'
import { assertToken, cookieName, createToken, equalsToken, isAuthorized, sessionCookie } from './session.ts'
import { StaticFiles } from './static-files.ts'

/** Bytes that a client fetches by id. */
export interface StoredBlob {
  readonly contentType: string
  readonly bytes: Uint8Array
}

export interface HostOptions {
  /** Any oRPC router that needs no context. */
  readonly router: AnyRouter
  /** Absolute folder of the built page. */
  readonly pageFolder: string
  /** 0 = any free port. */
  readonly port?: number
  /** 256 bits of base64url; made here when left out. */
  readonly token?: string
  /** Body of STATUS_PATH. */
  readonly status: () => object
  /** Bytes behind BLOB_PATH; null = there is no such blob. The signal aborts when the client goes away. */
  readonly blob?: (id: string, signal: AbortSignal) => Promise<StoredBlob | null>
  readonly log: (level: 'info' | 'warn' | 'error', text: string) => void
}

export interface Host {
  /** "http://127.0.0.1:<port>" */
  readonly origin: string
  readonly port: number
  readonly token: string
  /** Name of the session cookie. */
  readonly cookie: string
  close(): Promise<void>
}

/** A chat message may have a million characters of up to 4 bytes; beyond this a message is not from our page. */
const MAX_MESSAGE_BYTES = 8 * 2 ** 20
/** `{"token":"…43 characters…"}` with room to spare. */
const MAX_SESSION_BODY_BYTES = 1024
/** One per open tab. A page in a reconnect loop must not exhaust the process. */
const MAX_SOCKETS = 64
/** Loopback clients send their headers at once; slow ones only hold sockets open. */
const HEADERS_TIMEOUT_MS = 10_000
/** Time for a client to answer a close frame before the socket is cut. */
const CLOSE_GRACE_MS = 500

/** Starts serving. Throws `host.port-in-use` when the wanted port is taken. */
export async function startHost(options: HostOptions): Promise<Host> {
  const token = options.token ?? createToken()
  assertToken(token)
  const server = createServer({ maxHeaderSize: 16 * 1024, headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: 30_000 })
  server.maxHeadersCount = 64
  server.maxConnections = 4 * MAX_SOCKETS
  const port = await listen(server, options.port ?? 0)
  const routes = new Routes({ ...options, token, port })
  server.on('error', (error) => options.log('error', `server: ${error.message}`))
  server.on('request', (request, response) => void routes.answer(request, response))
  server.on('upgrade', (request, socket, head) => routes.upgrade(request, socket, head))
  return {
    origin: `http://127.0.0.1:${port}`,
    port,
    token,
    cookie: cookieName(port),
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      await routes.close()
      server.closeAllConnections()
      await closed
    },
  }
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE' || error.code === 'EACCES'
      reject(
        taken
          ? new LatheError('host.port-in-use', `Port ${port} of this machine is taken.`, 'Close what uses it, or choose another port.')
          : error,
      )
    })
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => resolve((server.address() as AddressInfo).port))
  })
}

class Routes {
  readonly #options: HostOptions & { readonly token: string; readonly port: number }
  readonly #page: StaticFiles
  readonly #headers: Readonly<Record<string, string>>
  readonly #rpc: RPCHandler<Record<never, never>>
  readonly #sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false })

  constructor(options: HostOptions & { readonly token: string; readonly port: number }) {
    this.#options = options
    this.#page = new StaticFiles(options.pageFolder)
    this.#headers = securityHeaders(options.port)
    this.#rpc = new RPCHandler(options.router)
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(this.#headers)) response.setHeader(name, value)
    try {
      const refusal = refuseRequest(request, this.#options.port, 'request')
      if (refusal) return this.#refuse(request, response, refusal)
      await this.#route(request, response)
    } catch (error) {
      // A client that leaves in the middle is no failure of ours.
      if (response.destroyed) return
      this.#options.log('error', `${request.method} ${request.url}: ${error instanceof Error ? error.stack : String(error)}`)
      if (response.headersSent) response.destroy()
      else sendJson(response, 500, { error: toErrorShape(error) })
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pathname = pathOf(request)
    if (request.method === 'POST') {
      if (pathname === SESSION_PATH) return this.#openSession(request, response)
      return this.#refuse(request, response, { status: 405, reason: 'nothing here takes a POST' })
    }
    if (pathname === STATUS_PATH || pathname.startsWith(BLOB_PATH)) {
      if (!isAuthorized(request.headers, this.#options.port, this.#options.token)) {
        return this.#refuse(request, response, { status: 403, reason: 'no valid session' })
      }
      response.setHeader('Cache-Control', 'no-store')
      if (pathname === STATUS_PATH) return sendJson(response, 200, this.#options.status())
      return this.#sendBlob(pathname.slice(BLOB_PATH.length), request, response)
    }
    return this.#sendPage(pathname, request, response)
  }

  async #openSession(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A form cannot send JSON, and a script of another origin could only after a preflight that is never granted.
    if (!/^application\/json(;|$)/i.test(request.headers['content-type'] ?? '')) {
      return sendError(response, 415, 'The body must be application/json.')
    }
    const body = await readBody(request, MAX_SESSION_BODY_BYTES)
    if (body === null) return sendError(response, 413, `The body is larger than ${MAX_SESSION_BODY_BYTES} bytes.`)
    const token = tokenOf(body)
    if (token === null) return sendError(response, 400, 'The body must be {"token": string}.')
    if (!equalsToken(token, this.#options.token)) {
      return this.#refuse(request, response, { status: 403, reason: 'wrong token' })
    }
    response.setHeader('Set-Cookie', sessionCookie(this.#options.port, this.#options.token))
    response.setHeader('Cache-Control', 'no-store')
    response.writeHead(204).end()
  }

  async #sendPage(pathname: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const document = !pathname.startsWith('/assets/') && (request.headers.accept ?? '').includes('text/html')
    const file = await this.#page.find(pathname, { document })
    if (file === null) {
      const notBuilt = document || pathname === '/'
      return sendError(
        response,
        notBuilt ? 503 : 404,
        notBuilt ? 'The page is not built. `npm start` builds it, `npm run build` too.' : 'There is no such file.',
      )
    }
    response.writeHead(200, { 'Content-Type': file.contentType, 'Cache-Control': file.cacheControl })
    if (request.method === 'HEAD') response.end()
    else await pipeline(file.open(), response)
  }

  async #sendBlob(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    const blob = /^[\w-]{1,128}$/.test(id) ? await this.#options.blob?.(id, gone.signal) : null
    if (!blob) return sendError(response, 404, 'There is no such blob.')
    response.writeHead(200, { 'Content-Type': blob.contentType, 'Content-Length': blob.bytes.byteLength })
    if (request.method === 'HEAD') response.end()
    else await pipeline(Readable.from([blob.bytes]), response)
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy()) // the client went away during the handshake
    const { port, token } = this.#options
    const refusal =
      refuseRequest(request, port, 'upgrade') ??
      (pathOf(request) === RPC_PATH ? null : { status: 403, reason: 'no socket at this path' }) ??
      (isAuthorized(request.headers, port, token) ? null : { status: 403, reason: 'no valid session' }) ??
      (this.#sockets.clients.size < MAX_SOCKETS ? null : { status: 403, reason: 'too many connections' })
    if (refusal) {
      this.#logRefusal(request, refusal)
      const body = JSON.stringify({ error: { code: 'request.forbidden', message: `Refused: ${refusal.reason}.`, hint: '' } })
      socket.end(
        `HTTP/1.1 ${refusal.status} Forbidden\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      )
      return
    }
    this.#sockets.handleUpgrade(request, socket, head, (client) => {
      client.on('error', (error) => this.#options.log('warn', `connection of the page: ${error.message}`))
      void this.#rpc.upgrade(client, { context: {} })
    })
  }

  async close(): Promise<void> {
    const open = [...this.#sockets.clients]
    if (open.length === 0) return
    const closed = Promise.all(open.map((client) => new Promise<void>((resolve) => client.once('close', () => resolve()))))
    for (const client of open) client.close(1001, 'The engine is stopping.')
    const timer = setTimeout(() => open.forEach((client) => client.terminate()), CLOSE_GRACE_MS)
    await closed
    clearTimeout(timer)
  }

  #refuse(request: IncomingMessage, response: ServerResponse, refusal: Refusal): void {
    this.#logRefusal(request, refusal)
    sendError(response, refusal.status, `Refused: ${refusal.reason}.`)
  }

  #logRefusal(request: IncomingMessage, { reason }: Refusal): void {
    // The path may come from an attacker: cut and stripped, so that it can neither flood nor forge the log.
    const path = (request.url ?? '').slice(0, 80).replaceAll(/[^\x21-\x7e]/g, '?')
    this.#options.log('warn', `refused ${request.method} ${path}: ${reason}`)
  }
}

/** The path as sent, without the query. Not normalised: every route compares it whole. */
function pathOf(request: IncomingMessage): string {
  return /^[^?#]*/.exec(request.url ?? '')?.[0] ?? ''
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' }).end(JSON.stringify(body))
}

function sendError(response: ServerResponse, status: number, message: string): void {
  const code = status === 403 || status === 405 ? 'request.forbidden' : 'request.invalid'
  const hint = status === 403 ? 'Open the address that Lathe printed when it started.' : ''
  // The connection is not reused: what is left of a refused body must not be read as the next request.
  response.setHeader('Connection', 'close')
  sendJson(response, status, { error: { code, message, hint } })
}

/** The whole body as text, or null when it is larger than `limit` bytes; then reading stops at once. */
async function readBody(request: IncomingMessage, limit: number): Promise<string | null> {
  if (Number(request.headers['content-length'] ?? 0) > limit) return null
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.byteLength
    if (size > limit) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function tokenOf(body: string): string | null {
  try {
    const value: unknown = JSON.parse(body)
    return typeof value === 'object' && value !== null && 'token' in value && typeof value.token === 'string' ? value.token : null
  } catch {
    return null // not JSON: the caller answers 400
  }
}
