/**
 * Errors as an OpenAI client expects them, in vLLM's dialect: the integer status as `code`, class-like `type` (specs/runtime.md §14).
 * The one place where a LatheError becomes an HTTP status.
 */
import { LatheError, toErrorShape } from '../contract/errors.ts'
import type { ErrorCode } from '../contract/errors.ts'

export interface ApiErrorBody {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: number }
}

const TYPE_BY_STATUS: Readonly<Record<number, string>> = {
  400: 'BadRequestError',
  401: 'AuthenticationError',
  403: 'PermissionDeniedError',
  404: 'NotFoundError',
  405: 'MethodNotAllowedError',
  409: 'ConflictError',
  413: 'RequestTooLargeError',
  415: 'UnsupportedMediaTypeError',
  429: 'RateLimitError',
  500: 'InternalServerError',
  501: 'NotImplementedError',
  503: 'ServiceUnavailableError',
}

const ANTHROPIC_TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
}

export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number
  readonly param: string | null
  /** Seconds for a Retry-After header; null = none. */
  readonly retryAfterSeconds: number | null
  /** Methods that the path knows, for an Allow header; null = it is not about the method. */
  readonly allowed: readonly string[] | null

  constructor(
    status: number,
    message: string,
    options: {
      readonly param?: string
      readonly retryAfterSeconds?: number
      readonly allowed?: readonly string[]
      readonly cause?: unknown
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.status = status
    this.param = options.param ?? null
    this.retryAfterSeconds = options.retryAfterSeconds ?? null
    this.allowed = options.allowed ?? null
  }

  body(): ApiErrorBody {
    return {
      error: { message: this.message, type: TYPE_BY_STATUS[this.status] ?? 'InternalServerError', param: this.param, code: this.status },
    }
  }

  /** As Anthropic's clients expect it. */
  anthropicBody(): object {
    return { type: 'error', error: { type: ANTHROPIC_TYPES[this.status] ?? 'api_error', message: this.message } }
  }
}

/** Client mistakes are 4xx, a full queue asks to come back, everything about this machine is 5xx. */
const STATUS_BY_CODE: Partial<Record<ErrorCode, number>> = {
  'runtime.invalid-request': 400,
  'runtime.context-exceeded': 400,
  'runtime.no-token': 400,
  'request.invalid': 400,
  'request.forbidden': 403,
  'tokenizer.no-chat-template': 400,
  'tokenizer.template-failed': 400,
  'model.not-found': 404,
  'model.busy': 409,
  'runtime.queue-full': 429,
  'gpu.out-of-memory': 503,
  'gpu.device-lost': 500,
}

/** Seconds that OpenAI's own clients would wait at least; a step takes far less. */
const QUEUE_RETRY_SECONDS = 1

/** The queue knows best how long it will take. */
function retryAfter(data: unknown): number {
  const seconds = typeof data === 'object' && data !== null && 'retryAfterSeconds' in data ? Number(data.retryAfterSeconds) : Number.NaN
  return Number.isFinite(seconds) ? Math.max(QUEUE_RETRY_SECONDS, Math.ceil(seconds)) : QUEUE_RETRY_SECONDS
}

/** The field of the request that is to blame, where whoever refused it knows. */
function paramOf(data: unknown): string | null {
  return typeof data === 'object' && data !== null && 'param' in data && typeof data.param === 'string' ? data.param : null
}

export function toApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown
  const { code, message, hint, data } = toErrorShape(thrown)
  const status = thrown instanceof LatheError ? (STATUS_BY_CODE[code] ?? 500) : 500
  // A defect's own message may hold paths or prompt text; a LatheError's was written to be read.
  const text = thrown instanceof LatheError ? `${message} ${hint}` : 'The server failed to answer. Its log says why.'
  const param = paramOf(data)
  return new ApiError(status, text, {
    cause: thrown,
    ...(param !== null && { param }),
    ...(status === 429 && { retryAfterSeconds: retryAfter(data) }),
  })
}
