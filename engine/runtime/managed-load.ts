/**
 * One load of a model, from its start until its memory is released: what it serves, who holds it, what it takes. When loads begin, share, make room
 * and end is manager.ts's business.
 */
import { LatheError } from '../contract/errors.ts'
import type { LoadedModel } from '../contract/index.ts'
import type { AcquireOptions, LoadProgress, ModelKey, Runtime } from './types.ts'

export class ManagedLoad {
  readonly key: ModelKey
  readonly name: string
  readonly estimatedBytes: number
  readonly abort = new AbortController()
  readonly listeners = new Set<(progress: LoadProgress) => void>()
  /** Resolves when loaded. */
  readonly loading: Promise<Runtime>
  runtime: Runtime | null = null
  /** Leases handed out, and callers waiting for the load: as long as there is one, it stays. */
  holders = 0
  lastUsedAt = Date.now()
  closing: Promise<void> | null = null

  constructor(options: AcquireOptions, load: (self: ManagedLoad) => Promise<Runtime>) {
    const { modelId, contextTokens, kvDtype, matrixUnits, room } = options
    this.key = { modelId, contextTokens, kvDtype, matrixUnits, room }
    this.name = options.name
    this.estimatedBytes = options.estimatedBytes ?? 0
    this.loading = load(this)
  }

  get busy(): boolean {
    return this.holders > 0 || (this.runtime?.active ?? 0) > 0
  }

  /** Ready, unused and not on its way out. */
  get idle(): boolean {
    return this.runtime !== null && this.closing === null && !this.busy
  }

  get bytes(): number {
    if (this.runtime === null) return this.estimatedBytes
    const { weightBytes, kvBytes, otherBytes } = this.runtime.info
    return weightBytes + kvBytes + otherBytes
  }

  /** The same model, computing the same numbers: there need not be two. */
  isLike({ modelId, kvDtype, matrixUnits = false }: ModelKey): boolean {
    const { key } = this
    return key.modelId === modelId && key.kvDtype === kvDtype && (key.matrixUnits ?? false) === matrixUnits
  }

  serves(asked: ModelKey): boolean {
    const { key } = this
    const { room } = asked
    const roomy =
      room === undefined || (key.room !== undefined && key.room.sequences >= room.sequences && key.room.kvTokens >= room.kvTokens)
    return this.isLike(asked) && key.contextTokens >= asked.contextTokens && roomy
  }

  /** As screens show it; null while it loads and once it closes. */
  described(): LoadedModel | null {
    const { runtime, key, name, busy, lastUsedAt, closing } = this
    if (runtime === null || closing !== null) return null
    const { weightBytes, kvBytes, otherBytes, contextLimit, kvDtype, kvScales, checkpointKvDtype, matrixUnits } = runtime.info
    const cache = {
      kvDtype,
      ...(kvScales !== undefined && { kvScales }),
      ...(checkpointKvDtype === kvDtype && { kvNamedByCheckpoint: true as const }),
      ...(matrixUnits === true && { matrixUnits: true as const }),
    }
    const used = new Date(lastUsedAt).toISOString()
    return { modelId: key.modelId, name, weightBytes, kvBytes, otherBytes, contextLimit, ...cache, busy, lastUsedAt: used }
  }

  /** Nobody waits for this load any more. */
  abandon(): void {
    this.abort.abort(new LatheError('runtime.aborted', `Loading ${this.name} was cancelled.`, 'Load it again when you need it.'))
  }
}

/** Rejects with the signal's reason as soon as it aborts; the promise itself goes on. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  const aborted = Promise.withResolvers<never>()
  const onAbort = (): void => aborted.reject(signal.reason)
  signal.addEventListener('abort', onAbort)
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
