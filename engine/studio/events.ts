/**
 * The one event stream of the studio: every change gets the next sequence number, recent ones are kept so that a window which lost its
 * connection can resume, and updates of a running job are coalesced. oRPC has no back-pressure (specs/electron-and-rpc.md §11), so every
 * reader has a bounded queue: one that falls behind gets a fresh `hello` with `resumed: false` instead of an endless backlog.
 * Knows nothing of what the events mean.
 */
import type { StudioEvent } from '../contract/index.ts'

type WithoutSeq<T> = T extends unknown ? Omit<T, 'seq'> : never
/** An event before the hub numbers it. `hello` is the hub's own. */
export type StudioEventBody = Exclude<WithoutSeq<StudioEvent>, { kind: 'hello' }>

export interface EventHubOptions {
  readonly runId: string
  /** Events kept for resuming; 4096 covers minutes of the busiest job at 10 updates a second. */
  readonly historyLength?: number
  /** Events a reader may lag behind before it is told to refetch. */
  readonly queueLength?: number
  /** Shortest time between two coalesced events of one key. */
  readonly coalesceMs?: number
  readonly now?: () => number
}

export interface WatchPosition {
  readonly runId: string | null
  readonly after: number | null
}

const DEFAULT_HISTORY = 4096
const DEFAULT_QUEUE = 1024
/** ≤ 10 updates a second per job (specs/electron-and-rpc.md §11.3). */
const DEFAULT_COALESCE_MS = 100

export class EventHub {
  readonly runId: string
  readonly #historyLength: number
  readonly #queueLength: number
  readonly #coalesceMs: number
  readonly #now: () => number
  readonly #history: StudioEvent[] = []
  readonly #readers = new Set<Reader>()
  readonly #pending = new Map<string, { make: () => StudioEventBody; timer: NodeJS.Timeout }>()
  readonly #lastSent = new Map<string, number>()
  #seq = 0
  #closed = false

  constructor(options: EventHubOptions) {
    this.runId = options.runId
    this.#historyLength = options.historyLength ?? DEFAULT_HISTORY
    this.#queueLength = options.queueLength ?? DEFAULT_QUEUE
    this.#coalesceMs = options.coalesceMs ?? DEFAULT_COALESCE_MS
    this.#now = options.now ?? (() => performance.now())
  }

  /** Number of the newest event. */
  get seq(): number {
    return this.#seq
  }

  publish(body: StudioEventBody): void {
    if (this.#closed) return
    this.#seq += 1
    const event: StudioEvent = { ...body, seq: this.#seq }
    this.#history.push(event)
    if (this.#history.length > this.#historyLength) this.#history.shift()
    for (const reader of this.#readers) this.#deliver(reader, event)
  }

  /** Publishes at most once per interval and key; the last state always arrives because `make` is called at sending time. */
  publishCoalesced(key: string, make: () => StudioEventBody): void {
    if (this.#closed) return
    const pending = this.#pending.get(key)
    if (pending !== undefined) {
      pending.make = make
      return
    }
    const wait = (this.#lastSent.get(key) ?? -Infinity) + this.#coalesceMs - this.#now()
    if (wait <= 0) {
      this.#sendCoalesced(key, make)
      return
    }
    const timer = setTimeout(() => {
      const latest = this.#pending.get(key)
      this.#pending.delete(key)
      if (latest !== undefined) this.#sendCoalesced(key, latest.make)
    }, wait)
    timer.unref()
    this.#pending.set(key, { make, timer })
  }

  /** Drops what is waiting under `key`; call before publishing the final state at once, or when the subject is gone. */
  forget(key: string): void {
    clearTimeout(this.#pending.get(key)?.timer)
    this.#pending.delete(key)
    this.#lastSent.delete(key)
  }

  /** One reader's stream: `hello` first, then what it missed (if that is still kept), then everything new until `signal` aborts or the hub closes. */
  async *watch(position: WatchPosition, signal: AbortSignal | undefined): AsyncGenerator<StudioEvent, void, undefined> {
    const missed = this.#missedSince(position)
    const reader: Reader = { queue: [], overflowed: false, wake: null }
    // The queue starts before the first await: nothing published from here on can be lost.
    this.#readers.add(reader)
    const onAbort = (): void => reader.wake?.()
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      yield this.#hello(missed === null ? this.#seq - reader.queue.length : (position.after ?? 0), missed !== null)
      if (missed !== null) yield* missed
      for (;;) {
        if (signal?.aborted === true) return
        if (reader.overflowed) {
          reader.overflowed = false
          reader.queue.length = 0
          yield this.#hello(this.#seq, false)
          continue
        }
        const event = reader.queue.shift()
        if (event !== undefined) {
          yield event
          continue
        }
        if (this.#closed) return
        await new Promise<void>((resolve) => {
          reader.wake = resolve
        })
        reader.wake = null
      }
    } finally {
      signal?.removeEventListener('abort', onAbort)
      this.#readers.delete(reader)
    }
  }

  /** Ends every stream after what is already queued. */
  close(): void {
    for (const [key, pending] of this.#pending) {
      clearTimeout(pending.timer)
      this.#pending.delete(key)
      this.#sendCoalesced(key, pending.make)
    }
    this.#closed = true
    for (const reader of this.#readers) reader.wake?.()
  }

  #hello(seq: number, resumed: boolean): StudioEvent {
    return { seq, kind: 'hello', resumed, runId: this.runId }
  }

  /** Events after the position, or null when they can't be given completely. */
  #missedSince(position: WatchPosition): readonly StudioEvent[] | null {
    if (position.runId !== this.runId || position.after === null || position.after > this.#seq) return null
    const oldest = this.#history[0]?.seq ?? this.#seq + 1
    const after = position.after
    return after < oldest - 1 ? null : this.#history.filter((event) => event.seq > after)
  }

  #sendCoalesced(key: string, make: () => StudioEventBody): void {
    this.#lastSent.set(key, this.#now())
    this.publish(make())
  }

  #deliver(reader: Reader, event: StudioEvent): void {
    if (reader.queue.length >= this.#queueLength) {
      reader.overflowed = true
      reader.queue.length = 0
    } else if (!reader.overflowed) {
      reader.queue.push(event)
    }
    reader.wake?.()
  }
}

interface Reader {
  readonly queue: StudioEvent[]
  overflowed: boolean
  wake: (() => void) | null
}
