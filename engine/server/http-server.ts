/**
 * The OpenAI-compatible HTTP surface: routing, authentication, limits, disconnects (specs/runtime.md §12–14, electron-and-rpc.md §12.8). Its own
 * port and its own key, apart from the studio's origin. Loopback unless told otherwise; Host and Origin are checked because any web page can
 * post to a loopback address; no CORS unless an origin was allowed by name.
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { z } from 'zod'
import { ApiError, toApiError } from './api-error.ts'
import { chatCompletion, streamChatCompletion } from './chat-completions.ts'
import { completion, streamCompletion } from './completions.ts'
import { METRICS_CONTENT_TYPE } from './metrics.ts'
import { parseChatRequest, parseCompletionRequest } from './request-schema.ts'
import type { ServedModel, ServedModels } from './served-model.ts'
import { ServingMetrics } from './serving-metrics.ts'
import { EventStream } from './sse.ts'

/** A million-token prompt as text is about 4 MB; JSON escapes and history double it. */
const MAX_BODY_BYTES = 16 * 2 ** 20

export interface ServerOptions {
  readonly models: ServedModels
  /** null = no key: only for tests and for people who asked for it. */
  readonly apiKey: string | null
  /** 0 = any free one. */
  readonly port: number
  /** Default 127.0.0.1. Anything else exposes the server to the network. */
  readonly hostname?: string
  /** Origins that browsers may call from; default none. */
  readonly allowedOrigins?: readonly string[]
  readonly version: string
  readonly log: (level: 'info' | 'warn' | 'error', text: string) => void
}

export interface RunningServer {
  readonly url: string
  readonly port: number
  /** Requests being answered now. */
  readonly inFlight: number
  /** Aborts what is running, ends connections, frees the port. */
  close(): Promise<void>
}

interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly signal: AbortSignal
  /** Set once a stream has begun: from then on errors travel inside it. */
  stream: EventStream | null
}

type Handler = (exchange: Exchange) => Promise<void>

/** Equal lengths for the constant-time comparison, whatever was sent. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function sameSecret(given: string, expected: string): boolean {
  return timingSafeEqual(digest(given), digest(expected))
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) {
    throw new ApiError(415, 'The request body must be sent as application/json.')
  }
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BODY_BYTES) throw new ApiError(413, `The request body is larger than ${MAX_BODY_BYTES} bytes.`)
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown
  } catch (cause) {
    throw new ApiError(400, `The request body is not valid JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
}

function sendJson(response: ServerResponse, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  if (response.destroyed || response.headersSent) return
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers })
  response.end(JSON.stringify(body))
}

const TokenizeSchema = z.object({
  model: z.string().nullish(),
  prompt: z.string().nullish(),
  messages: z.array(z.object({ role: z.string(), content: z.string() })).nullish(),
  add_special_tokens: z.boolean().nullish(),
  add_generation_prompt: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
})
const DetokenizeSchema = z.object({ model: z.string().nullish(), tokens: z.array(z.number().int().min(0)) })

function parseBody<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new ApiError(400, `"${issue?.path.join('.') ?? ''}": ${issue?.message ?? 'invalid'}`, { param: issue?.path.join('.') ?? '' })
}

/** Starts listening and resolves when requests are accepted. Rejects with the socket's error, e.g. EADDRINUSE. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { models, log } = options
  const hostname = options.hostname ?? '127.0.0.1'
  const allowedOrigins = new Set(options.allowedOrigins ?? [])
  const metricsByModel = new Map<string, ServingMetrics>()
  const active = new Set<AbortController>()
  let port = 0

  async function withModel<T>(
    name: string,
    signal: AbortSignal,
    use: (model: ServedModel, metrics: ServingMetrics) => Promise<T>,
  ): Promise<T> {
    const lease = await models.acquire(name, signal)
    if (lease === null) throw new ApiError(404, `The model \`${name}\` does not exist.`, { param: 'model' })
    try {
      const { model } = lease
      let metrics = metricsByModel.get(model.name)
      if (metrics === undefined) {
        metrics = new ServingMetrics(model.name, model.runtime.info.contextLimit, () =>
          model.runtime.failure === null ? model.runtime.telemetry() : null,
        )
        metricsByModel.set(model.name, metrics)
      }
      return await use(model, metrics)
    } finally {
      lease.release()
    }
  }

  /** For the routes whose `model` is optional: the only one, or the one named. */
  function defaultModelName(asked: string | null | undefined): string {
    const name = asked ?? models.cards()[0]?.name
    if (name === undefined) throw new ApiError(404, 'No model is being served.')
    return name
  }

  function openStream(exchange: Exchange, abort: () => void): EventStream {
    const stream = new EventStream(exchange.response, () => {
      log('warn', 'A client read its stream too slowly and was dropped.')
      abort()
    })
    exchange.stream = stream
    return stream
  }

  const controllers = new WeakMap<Exchange, AbortController>()
  const abortOf = (exchange: Exchange) => (): void => controllers.get(exchange)?.abort()

  const routes: Readonly<Record<string, Handler>> = {
    'GET /health': async ({ response }) => {
      response.writeHead(200).end()
    },
    'GET /ping': async ({ response }) => {
      response.writeHead(200).end()
    },
    'GET /version': async ({ response }) => sendJson(response, 200, { version: options.version }),
    'GET /load': async ({ response }) => sendJson(response, 200, { server_load: Math.max(0, active.size - 1) }),
    'GET /metrics': async ({ response }) => {
      response.writeHead(200, { 'content-type': METRICS_CONTENT_TYPE })
      response.end([...metricsByModel.values()].map((metrics) => metrics.expose()).join(''))
    },
    'GET /v1/models': async ({ response }) => {
      const data = models.cards().flatMap((card) =>
        [card.name, ...card.aliases].map((id) => ({
          id,
          object: 'model',
          created: card.created,
          owned_by: 'lathe',
          root: card.name,
          parent: null,
          max_model_len: card.contextLimit,
          permission: [],
        })),
      )
      sendJson(response, 200, { object: 'list', data })
    },
    'POST /v1/chat/completions': async (exchange) => {
      const fields = parseChatRequest(await readJson(exchange.request))
      await withModel(fields.model, exchange.signal, async (model, metrics) => {
        const run = { model, metrics, signal: exchange.signal }
        if (fields.stream) {
          await streamChatCompletion(run, fields, () => openStream(exchange, abortOf(exchange)))
          exchange.stream?.end()
        } else sendJson(exchange.response, 200, await chatCompletion(run, fields))
      })
    },
    'POST /v1/completions': async (exchange) => {
      const fields = parseCompletionRequest(await readJson(exchange.request))
      await withModel(fields.model, exchange.signal, async (model, metrics) => {
        const run = { model, metrics, signal: exchange.signal }
        if (fields.stream) {
          await streamCompletion(run, fields, () => openStream(exchange, abortOf(exchange)))
          exchange.stream?.end()
        } else sendJson(exchange.response, 200, await completion(run, fields))
      })
    },
    'POST /tokenize': async ({ request, response, signal }) => {
      const body = parseBody(TokenizeSchema, await readJson(request))
      await withModel(defaultModelName(body.model), signal, async (model) => {
        const { messages, prompt } = body
        let tokens: Uint32Array
        if (messages !== null && messages !== undefined) {
          const text = model.renderChat(messages, { addGenerationPrompt: body.add_generation_prompt ?? true })
          tokens = model.tokenizer.encode(text, { addSpecialTokens: body.add_special_tokens ?? false })
        } else if (prompt !== null && prompt !== undefined) {
          tokens = model.tokenizer.encode(prompt, { addSpecialTokens: body.add_special_tokens ?? true })
        } else throw new ApiError(400, 'Send "prompt" or "messages".', { param: 'prompt' })
        const ids = [...tokens]
        const strings = body.return_token_strs === true ? ids.map((id) => new TextDecoder().decode(model.tokenizer.tokenBytes(id))) : null
        sendJson(response, 200, { count: ids.length, max_model_len: model.runtime.info.contextLimit, tokens: ids, token_strs: strings })
      })
    },
    'POST /detokenize': async ({ request, response, signal }) => {
      const body = parseBody(DetokenizeSchema, await readJson(request))
      await withModel(defaultModelName(body.model), signal, async (model) => {
        const foreign = body.tokens.find((id) => id >= model.runtime.info.vocabulary)
        if (foreign !== undefined) throw new ApiError(400, `Token ${foreign} is outside the vocabulary.`, { param: 'tokens' })
        sendJson(response, 200, { prompt: model.tokenizer.decode(Uint32Array.from(body.tokens), { skipSpecialTokens: false }) })
      })
    },
  }
  const paths = new Map<string, string[]>()
  for (const route of Object.keys(routes)) {
    const [method = '', path = ''] = route.split(' ')
    paths.set(path, [...(paths.get(path) ?? []), method])
  }

  function guard(request: IncomingMessage, path: string): void {
    const host = request.headers.host ?? ''
    if (hostname === '127.0.0.1' && host !== `127.0.0.1:${port}` && host !== `localhost:${port}`) {
      throw new ApiError(403, `Requests for host "${host}" are not answered here.`)
    }
    const { origin } = request.headers
    if (origin !== undefined && !allowedOrigins.has(origin))
      throw new ApiError(403, `Requests from web pages of ${origin} are not allowed.`)
    if (options.apiKey === null || path === '/health') return
    const [scheme = '', key = ''] = (request.headers.authorization ?? '').split(' ')
    if (scheme.toLowerCase() !== 'bearer' || !sameSecret(key, options.apiKey)) {
      throw new ApiError(401, 'The API key is missing or wrong. Send it as "Authorization: Bearer …".')
    }
  }

  function fail(exchange: Exchange, thrown: unknown): void {
    const error = toApiError(thrown)
    if (error.status >= 500) log('error', error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : error.message)
    if (exchange.stream !== null) {
      exchange.stream.send(error.body())
      exchange.stream.end()
      return
    }
    const headers: Record<string, string> = {}
    if (error.retryAfterSeconds !== null) headers['retry-after'] = String(error.retryAfterSeconds)
    // What is left of an oversize body is not worth reading.
    if (error.status === 413) headers['connection'] = 'close'
    sendJson(exchange.response, error.status, error.body(), headers)
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const controller = new AbortController()
    active.add(controller)
    const exchange: Exchange = { request, response, signal: controller.signal, stream: null }
    controllers.set(exchange, controller)
    response.setHeader('x-request-id', request.headers['x-request-id'] ?? randomUUID())
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
      const path = (request.url ?? '/').split('?')[0] ?? '/'
      if (request.method === 'OPTIONS' && origin !== undefined && allowedOrigins.has(origin)) {
        // A preflight carries no key.
        response.writeHead(204, {
          'access-control-allow-methods': 'GET, POST',
          'access-control-allow-headers': 'authorization, content-type, x-request-id',
          'access-control-max-age': '600',
        })
        response.end()
        return
      }
      guard(request, path)
      const handler = routes[`${request.method} ${path}`]
      if (handler === undefined) {
        const methods = paths.get(path)
        if (methods !== undefined) throw new ApiError(405, `${path} answers ${methods.join(' and ')} only.`)
        throw new ApiError(404, `There is nothing at ${path}.`)
      }
      await handler(exchange)
    } catch (thrown) {
      if (!controller.signal.aborted || !response.destroyed) fail(exchange, thrown)
    } finally {
      active.delete(controller)
    }
  }

  const server: Server = createServer((request, response) => void answer(request, response))
  // A long prefill or a slow answer is not a stalled connection: clients decide how long they wait.
  server.requestTimeout = 0
  server.timeout = 0
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, hostname, resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The server has no port')
  port = address.port
  return {
    url: `http://${hostname === '127.0.0.1' ? hostname : `[${hostname}]`.replace(/^\[([\d.]+)\]$/, '$1')}:${port}/v1`,
    port,
    get inFlight() {
      return active.size
    },
    close: async () => {
      for (const controller of active) controller.abort()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}
