/** One HTTP request and its answer: reading bodies within bounds, sending JSON. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError } from './api-error.ts'
import type { EventStream } from './sse.ts'

/** A million-token prompt as text is about 4 MB; JSON escapes and history double it. */
const MAX_BODY_BYTES = 16 * 2 ** 20

export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Of the request's own query string. */
  readonly query: URLSearchParams
  /** Aborts when the client goes away, when the server closes, and when the request is aborted by its id. */
  readonly signal: AbortSignal
  readonly abort: () => void
  /** The client's name for this request, or a drawn one. */
  readonly requestId: string
  /** The end of the path, for routes that leave it open. */
  readonly rest: string
  /** Set once a stream has begun: from then on errors travel inside it. */
  stream: EventStream | null
}

export type Handler = (exchange: Exchange) => Promise<void>

export async function readJson(request: IncomingMessage): Promise<unknown> {
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) {
    throw new ApiError(415, 'The request body must be sent as application/json.')
  }
  const { charset } = /;\s*charset="?(?<charset>[^\s;"]+)/i.exec(request.headers['content-type'] ?? '')?.groups ?? {}
  if (charset !== undefined && !/^(utf-?8|us-ascii)$/i.test(charset))
    throw new ApiError(415, `JSON is sent as UTF-8; "${charset}" is not read here.`)
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') throw new ApiError(415, `The request body is compressed ("${encoding}"). Send it as it is.`)
  const tooLarge = (): ApiError => new ApiError(413, `The request body is larger than ${MAX_BODY_BYTES} bytes.`)
  // What says so itself is not read first: a dozen such clients at once held 150 MB.
  if (Number(request.headers['content-length']) > MAX_BODY_BYTES) throw tooLarge()
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BODY_BYTES) throw tooLarge()
    chunks.push(chunk)
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
  } catch (cause) {
    // Replacing the broken bytes would answer another prompt than the one that was sent.
    throw new ApiError(400, 'The request body is not valid UTF-8.', { cause })
  }
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    throw new ApiError(400, `The request body is not valid JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
}

/** For routes whose body may be left out. */
export async function readOptionalJson(request: IncomingMessage): Promise<unknown> {
  const length = request.headers['content-length']
  if ((length === undefined || length === '0') && request.headers['transfer-encoding'] === undefined) return {}
  return readJson(request)
}

export function sendJson(response: ServerResponse, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  if (response.destroyed || response.headersSent) return
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers })
  response.end(JSON.stringify(body))
}
