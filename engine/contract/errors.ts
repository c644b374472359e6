/**
 * Every way Lathe can refuse or fail, as one class with a machine-readable code.
 * The message says what happened, the hint says what to do about it; both are written for the person at the screen.
 * This file knows nothing about transports: the RPC layer and the CLI turn a LatheError into their own shapes.
 */

export const ERROR_CODES = [
  // checkpoint: what is on disk is not what it claims to be
  'checkpoint.not-found',
  'checkpoint.not-a-model',
  'checkpoint.unsupported-file',
  'checkpoint.invalid-config',
  'checkpoint.invalid-header',
  'checkpoint.invalid-tensor',
  'checkpoint.missing-shard',
  'checkpoint.missing-tensor',
  'checkpoint.unsafe-path',
  'checkpoint.non-finite',
  'checkpoint.unsupported-scheme',
  'checkpoint.already-exists',
  // tokenizer
  'tokenizer.missing',
  'tokenizer.invalid',
  'tokenizer.no-chat-template',
  'tokenizer.template-failed',
  // model
  'model.unsupported-architecture',
  'model.not-found',
  'model.busy',
  // gpu
  'gpu.no-adapter',
  'gpu.out-of-memory',
  'gpu.device-lost',
  'gpu.invalid-operation',
  'gpu.unsupported',
  // runtime
  'runtime.context-exceeded',
  'runtime.invalid-request',
  'runtime.aborted',
  'runtime.non-finite',
  'runtime.no-token',
  'runtime.queue-full',
  // compression
  'compress.invalid-recipe',
  'compress.invalid-calibration',
  'compress.nothing-to-do',
  'compress.already-compressed',
  'compress.journal-mismatch',
  'compress.verification-failed',
  // evaluation
  'evaluate.invalid-data',
  'evaluate.incomparable',
  // monitoring: a server's /metrics
  'monitor.unreachable',
  'monitor.invalid-metrics',
  'evaluate.unsupported-task',
  // other servers
  'remote.unreachable',
  'remote.refused',
  'remote.unsupported',
  'remote.invalid-response',
  // host and files
  'disk.full',
  'disk.permission',
  'disk.io',
  // studio: the library, its store, chat threads, jobs
  'studio.in-use',
  'studio.data-too-new',
  'model.mismatch',
  'chat.not-found',
  'chat.busy',
  'job.not-found',
  'job.cancelled',
  'job.invalid-state',
  'request.invalid',
  'host.port-in-use',
  'host.refused-root',
  'request.forbidden',
  'internal',
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

/** The wire form of a LatheError; also what the CLI prints as `{error}`. */
export interface ErrorShape {
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string
  /** Facts a program may act on, e.g. `{needBytes, freeBytes}`. JSON only. */
  readonly data?: Readonly<Record<string, unknown>>
}

/** Thrown by every layer for an expected failure. A plain Error reaching the surface is a bug and is reported as `internal`. */
export class LatheError extends Error {
  override readonly name = 'LatheError'
  readonly code: ErrorCode
  readonly hint: string
  readonly data: Readonly<Record<string, unknown>> | undefined

  constructor(code: ErrorCode, message: string, hint: string, options: { data?: Record<string, unknown>; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.hint = hint
    this.data = options.data
  }

  toShape(): ErrorShape {
    const shape = { code: this.code, message: this.message, hint: this.hint }
    return this.data === undefined ? shape : { ...shape, data: this.data }
  }
}

/** Turns anything thrown into the wire form, so that no caller ever sees a stack trace or an empty message. */
export function toErrorShape(thrown: unknown): ErrorShape {
  if (thrown instanceof LatheError) return thrown.toShape()
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return { code: 'internal', message, hint: 'This is a defect in Lathe. Copy the details and report it.' }
}

/** Exhaustiveness check for string unions. */
export function assertNever(value: never, what: string): never {
  throw new Error(`Unexpected ${what}: ${String(value)}`)
}
