/**
 * Requests to a server with OpenAI's interface: addresses, keys, retries, and errors that say which server did what. Keys go into headers and
 * nowhere else: no message, log line or stored result has them. Knows nothing of evaluation.
 */
import { LatheError } from '../../contract/errors.ts'

export interface RemoteAddress {
  /** With or without "/v1" at its end. */
  readonly url: string
  readonly apiKey: string | null
}

export interface RemoteModel {
  readonly id: string
  /** vLLM's and our server's `max_model_len`; null where not said. */
  readonly contextLimit: number | null
  /** What the name stands for, where the server says so. */
  readonly root: string | null
  /** Who made the server, by its own word: "vllm", "llamacpp", "lathe"; null where not said. */
  readonly owner: string | null
}

/** A server that is loading or full answers within this many tries, or it is not one to measure. */
const TRIES = 4
const FIRST_WAIT_MS = 500
/** A long answer of a slow model; a connection silent for longer is dead. */
const REQUEST_LIMIT_MS = 15 * 60_000

/** Characters of what a server calls itself. */
const MOST_NAME = 80

const textOrNull = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null)
const isId = (token: unknown): token is number => typeof token === 'number' && Number.isSafeInteger(token) && token >= 0

export class OpenAiClient {
  /** Ends in /v1. */
  readonly baseUrl: string
  /** Without /v1: where /tokenize and /metrics are. */
  readonly rootUrl: string
  readonly #apiKey: string | null
  readonly #waitMs: number

  /** Throws `request.invalid` for what is no http address. `waitMs` is the first pause between tries. */
  constructor(address: RemoteAddress, waitMs = FIRST_WAIT_MS) {
    let url: URL
    try {
      url = new URL(address.url)
    } catch (cause) {
      throw new LatheError('request.invalid', `"${address.url}" is not an address.`, 'Write it like http://host:8000/v1.', { cause })
    }
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw new LatheError('request.invalid', `${url.protocol}// is not spoken here.`, 'Write the address like http://host:8000/v1.')
    if (url.username !== '' || url.password !== '')
      throw new LatheError('request.invalid', 'The address holds a password.', 'Give the key as an API key instead.')
    const path = url.pathname.replace(/\/+$/, '')
    this.rootUrl = url.origin + path.replace(/\/v1$/, '')
    this.baseUrl = path.endsWith('/v1') ? url.origin + path : `${url.origin}${path}/v1`
    this.#apiKey = address.apiKey
    this.#waitMs = waitMs
  }

  get headers(): Readonly<Record<string, string>> {
    return { 'content-type': 'application/json', ...(this.#apiKey === null ? {} : { authorization: `Bearer ${this.#apiKey}` }) }
  }

  async models(signal?: AbortSignal): Promise<readonly RemoteModel[]> {
    const body = await this.request('GET', `${this.baseUrl}/models`, null, signal)
    const data = isObject(body) && Array.isArray(body['data']) ? (body['data'] as unknown[]) : null
    if (data === null) throw invalidResponse(`${this.baseUrl}/models`, 'has no list of models')
    return data.filter(isObject).flatMap((model) => {
      const { id, max_model_len: limit, root, owned_by: owner } = model
      if (typeof id !== 'string') return []
      return [{ id, contextLimit: typeof limit === 'number' ? limit : null, root: textOrNull(root), owner: textOrNull(owner) }]
    })
  }

  /** The named model, or the only one. Throws `remote.unsupported` naming what there is. */
  async pick(name: string | null, signal?: AbortSignal): Promise<RemoteModel> {
    const models = await this.models(signal)
    const found = name === null ? models[0] : models.find((model) => model.id === name)
    // Aliases of one model have the same root.
    const distinct = new Set(models.map(({ id, root }) => root ?? id)).size
    if (found !== undefined && (name !== null || distinct === 1)) return found
    const list = models
      .map(({ id }) => id)
      .slice(0, 10)
      .join(', ')
    throw new LatheError(
      'remote.unsupported',
      name === null
        ? `${this.baseUrl} serves ${models.length} models: ${list}.`
        : `${this.baseUrl} has no model "${name}"; it serves ${list || 'none'}.`,
      'Name one of them.',
    )
  }

  /**
   * Token ids of a text as the server counts them; none are added unless asked for. Throws `remote.unsupported` where there is no /tokenize, and
   * `remote.invalid-response` for an answer that is not whole numbers from 0: ids of which one is missing would be another text.
   */
  async tokenize(
    model: string,
    text: string,
    options: { readonly addSpecialTokens?: boolean; readonly signal?: AbortSignal | undefined } = {},
  ): Promise<number[]> {
    const url = `${this.rootUrl}/tokenize`
    const asked = { model, prompt: text, add_special_tokens: options.addSpecialTokens ?? false }
    const body = await this.request('POST', url, asked, options.signal)
    const tokens: unknown = isObject(body) ? body['tokens'] : null
    if (!Array.isArray(tokens) || !tokens.every(isId)) throw invalidResponse(url, 'has no token ids')
    return tokens
  }

  /** The text of tokens, special ones written out. Throws as `tokenize`. */
  async detokenize(model: string, tokens: readonly number[], signal?: AbortSignal): Promise<string> {
    const url = `${this.rootUrl}/detokenize`
    const body = await this.request('POST', url, { model, tokens }, signal)
    const text: unknown = isObject(body) ? body['prompt'] : null
    if (typeof text !== 'string') throw invalidResponse(url, 'has no text')
    return text
  }

  /** "vllm 0.25.1", as far as the server says; null where it says nothing. */
  async software(model: Pick<RemoteModel, 'owner'>, signal?: AbortSignal): Promise<string | null> {
    const body = await this.request('GET', `${this.rootUrl}/version`, null, signal).catch((error: unknown) => {
      // Many have no /version, and a figure without it is still a figure.
      if (error instanceof LatheError) return null
      throw error
    })
    const words = [model.owner, textOrNull(isObject(body) ? body['version'] : null)].filter((word) => word !== null)
    return words.length === 0 ? null : words.join(' ').slice(0, MOST_NAME)
  }

  /** Whether `tokenize` works. Throws what has nothing to do with it: a server that is gone, a refused key. */
  async canTokenize(model: string, signal?: AbortSignal): Promise<boolean> {
    try {
      return (await this.tokenize(model, 'word', { signal })).length > 0
    } catch (error) {
      if (error instanceof LatheError && (error.code === 'remote.unsupported' || error.code === 'remote.invalid-response')) return false
      throw error
    }
  }

  /**
   * The parsed answer. Busy servers (429, 503) and broken connections are tried again. Throws `remote.unreachable`, `remote.refused` (keys),
   * `remote.unsupported` (what the server does not do, with its words) and `remote.invalid-response`.
   */
  async request(method: 'GET' | 'POST', url: string, body: unknown, signal?: AbortSignal): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted()
      const limit = AbortSignal.timeout(REQUEST_LIMIT_MS)
      const both = signal === undefined ? limit : AbortSignal.any([signal, limit])
      let response: Response
      try {
        response = await fetch(url, {
          method,
          headers: this.headers,
          signal: both,
          ...(body === null ? {} : { body: JSON.stringify(body) }),
        })
      } catch (cause) {
        signal?.throwIfAborted()
        if (attempt < TRIES && !limit.aborted) {
          await wait(this.#waitMs * 2 ** (attempt - 1), signal)
          continue
        }
        throw new LatheError(
          'remote.unreachable',
          `${url} can't be reached: ${reasonOf(cause)}.`,
          'Check the address, and that the server runs and accepts connections from here.',
          { cause },
        )
      }
      const text = await response.text()
      if (response.ok) return parse(url, text)
      if ((response.status === 429 || response.status === 503) && attempt < TRIES) {
        const asked = Number(response.headers.get('retry-after'))
        await wait(Number.isFinite(asked) && asked > 0 ? Math.min(asked, 60) * 1000 : this.#waitMs * 2 ** (attempt - 1), signal)
        continue
      }
      throw refusal(url, response.status, text)
    }
  }
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function invalidResponse(url: string, problem: string): LatheError {
  return new LatheError(
    'remote.invalid-response',
    `The answer of ${url} ${problem}.`,
    'This server is not one that Lathe understands, or something between here and there changes answers.',
  )
}

function parse(url: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw invalidResponse(url, `is not JSON (${JSON.stringify(text.slice(0, 60))})`)
  }
}

function refusal(url: string, status: number, text: string): LatheError {
  let words = text.slice(0, 200)
  try {
    const body: unknown = JSON.parse(text)
    const error = isObject(body) ? body['error'] : null
    if (isObject(error) && typeof error['message'] === 'string') words = error['message'].slice(0, 300)
    else if (isObject(body) && typeof body['message'] === 'string') words = body['message'].slice(0, 300)
  } catch {
    // Not JSON: the words themselves are shown.
  }
  const data = { status }
  if (status === 401 || status === 403)
    return new LatheError('remote.refused', `${url} refused the key (${status}): ${words}`, 'Give the right API key.', { data })
  if (status === 429 || status >= 500)
    return new LatheError('remote.unreachable', `${url} failed (${status}): ${words}`, 'Look at the server’s log, or try again later.', {
      data,
    })
  return new LatheError(
    'remote.unsupported',
    `${url} does not do this (${status}): ${words}`,
    'Use what the server offers, or another server.',
    { data },
  )
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  if (cause instanceof Error && 'code' in cause && typeof cause.code === 'string') return cause.code
  return cause instanceof Error ? cause.message : String(cause)
}

function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onAbort = (): void => {
    clearTimeout(timer)
    reject(signal?.reason)
  }
  const timer = setTimeout(() => {
    signal?.removeEventListener('abort', onAbort)
    resolve()
  }, ms)
  signal?.addEventListener('abort', onAbort, { once: true })
  return promise
}
