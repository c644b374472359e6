/**
 * Loaded models, shared by chat, evaluation, benchmark and server (specs/runtime.md §18). One load per model at a time, however many ask for
 * it; a model in use is never unloaded; idle ones make room, least recently used first; a load that nobody waits for any more is aborted.
 * How a model is opened is the caller's: this file knows no backend and no files, only Runtimes and what they say they hold.
 */
import { LatheError } from '../contract/errors.ts'
import type { LoadedModel } from '../contract/index.ts'
import { ManagedLoad, untilAborted } from './managed-load.ts'
import type {
  AcquireOptions,
  LoadProgress,
  MemoryReservation,
  ModelKey,
  ModelLease,
  ModelManager,
  ReserveOptions,
  Runtime,
} from './types.ts'

export interface ModelManagerOptions {
  /** Bytes that all models together may take, asked before each load; null = unknown, and only a failed load tells. */
  readonly budgetBytes: () => number | null
  /** A model was loaded, unloaded, or became busy or idle. */
  readonly onChange?: () => void
}

/** Memory of the device that work beside the models holds. */
interface Reserved {
  readonly name: string
  bytes: number
}

export function createModelManager(options: ModelManagerOptions): ModelManager {
  return new Manager(options)
}

class Manager implements ModelManager {
  readonly #options: ModelManagerOptions
  readonly #entries = new Set<ManagedLoad>()
  readonly #reserved = new Set<Reserved>()
  /** Called at every change; those that wait for memory look again. */
  readonly #waiting = new Set<() => void>()
  /** Loads take turns, so that each sees the memory that the one before left. */
  #lastLoad: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(options: ModelManagerOptions) {
    this.#options = options
  }

  async acquire(options: AcquireOptions): Promise<ModelLease> {
    const { signal, onProgress } = options
    signal?.throwIfAborted()
    if (this.#closed) throw new LatheError('runtime.aborted', 'Lathe is closing.', 'Start it again.')
    const entry = this.#find(options) ?? this.#begin(options)
    entry.holders++
    if (onProgress !== undefined) entry.listeners.add(onProgress)
    try {
      const runtime = await untilAborted(entry.loading, signal)
      return this.#lease(entry, runtime)
    } catch (error) {
      this.#letGo(entry)
      throw error
    } finally {
      if (onProgress !== undefined) entry.listeners.delete(onProgress)
    }
  }

  async unload(modelId: string): Promise<boolean> {
    const found = [...this.#entries].filter(({ key }) => key.modelId === modelId)
    const busy = found.find((entry) => entry.closing === null && (entry.runtime === null || entry.busy))
    if (busy !== undefined) {
      throw new LatheError(
        'model.busy',
        `${busy.name} is ${busy.runtime === null ? 'being loaded' : 'in use'}.`,
        'Stop the chat, evaluation or download that uses it, then unload it.',
        { data: { modelId } },
      )
    }
    await Promise.all(found.map((entry) => this.#close(entry)))
    return found.length > 0
  }

  loaded(): readonly LoadedModel[] {
    return [...this.#entries].flatMap((entry) => entry.described() ?? [])
  }

  async reserve({ name, bytes, signal, onWait }: ReserveOptions): Promise<MemoryReservation> {
    const held: Reserved = { name, bytes: 0 }
    let said: string | null = null
    for (;;) {
      signal?.throwIfAborted()
      const changed = Promise.withResolvers<void>()
      this.#waiting.add(changed.resolve)
      try {
        const lacking = await this.#queue(() => this.#grant(held, bytes))
        if (lacking === null) break
        if (lacking !== said) onWait?.(lacking)
        said = lacking
        signal?.throwIfAborted()
        await untilAborted(changed.promise, signal)
      } finally {
        this.#waiting.delete(changed.resolve)
      }
    }
    return {
      resize: async (wanted) => (await this.#queue(() => this.#grant(held, wanted))) === null,
      [Symbol.dispose]: () => {
        if (!this.#reserved.delete(held)) return
        this.#changed()
      },
    }
  }

  /** null when `bytes` are held; else what to say while models in use leave too little. */
  async #grant(held: Reserved, bytes: number): Promise<string | null> {
    for (;;) {
      await Promise.allSettled([...this.#entries].map(({ closing }) => closing))
      const budget = this.#options.budgetBytes()
      const usedBytes = this.#usedBytes(held)
      const inUse = [...this.#entries].filter((entry) => entry.runtime !== null).map(({ name }) => name)
      const others = [...this.#reserved].filter((other) => other !== held).map(({ name }) => name)
      const alone = inUse.length + others.length === 0
      if (alone || (budget !== null && usedBytes + bytes <= budget)) {
        this.#reserved.add(held)
        held.bytes = bytes
        return null
      }
      const victim = this.#oldestIdle()
      if (victim !== undefined) {
        await this.#close(victim)
        continue
      }
      const names = [...inUse, ...others].join(', ')
      if (budget === null) return `Waiting until nothing else uses the device, since its memory is not known; in use: ${names}.`
      const free = megabytes(Math.max(0, budget - usedBytes))
      return `Waiting for device memory: ${megabytes(bytes)} are needed, ${free} of ${megabytes(budget)} are free; in use: ${names}.`
    }
  }

  /** Aborts loads and unloads everything, in use or not. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    const entries = [...this.#entries]
    for (const entry of entries) entry.abort.abort(new LatheError('runtime.aborted', 'Lathe is closing.', 'Start it again.'))
    await Promise.all(
      entries.map(async (entry) => {
        // A load that fails has released its memory and told those who wait for it.
        await entry.loading.catch(() => null)
        await this.#close(entry)
      }),
    )
  }

  #find(key: ModelKey): ManagedLoad | undefined {
    for (const entry of this.#entries) {
      if (entry.closing !== null || entry.abort.signal.aborted || !entry.serves(key)) continue
      if (entry.runtime === null || entry.runtime.failure === null) return entry
      // A runtime whose device is gone serves nobody any more; those who still hold it learn it from their next request.
      if (!entry.busy) this.#drop(entry)
    }
    return undefined
  }

  #begin(options: AcquireOptions): ManagedLoad {
    const entry = new ManagedLoad(options, (self) => this.#queue(() => this.#load(self, options)))
    this.#entries.add(entry)
    entry.loading.catch(() => {
      this.#entries.delete(entry)
      this.#changed()
    })
    this.#changed()
    return entry
  }

  #queue<T>(load: () => Promise<T>): Promise<T> {
    const turn = this.#lastLoad.then(load)
    // The next load waits for this one's end, whatever it was.
    this.#lastLoad = turn.catch(() => null)
    return turn
  }

  async #load(entry: ManagedLoad, { open, estimatedBytes }: AcquireOptions): Promise<Runtime> {
    const { signal } = entry.abort
    const onProgress = (progress: LoadProgress): void => {
      for (const listener of entry.listeners) listener(progress)
    }
    await this.#closeSmaller(entry)
    if (estimatedBytes !== null) await this.#makeRoom(entry, estimatedBytes)
    for (;;) {
      signal.throwIfAborted()
      try {
        const runtime = await open({ signal, onProgress })
        if (signal.aborted) {
          await runtime[Symbol.asyncDispose]()
          throw signal.reason
        }
        entry.runtime = runtime
        entry.lastUsedAt = Date.now()
        this.#changed()
        return runtime
      } catch (error) {
        const victim = error instanceof LatheError && error.code === 'gpu.out-of-memory' ? this.#oldestIdle() : undefined
        if (victim === undefined) throw error
        await this.#close(victim)
      }
    }
  }

  /** The same model with too little context or room has no use beside the one that is about to be loaded. */
  async #closeSmaller({ key }: ManagedLoad): Promise<void> {
    for (const other of this.#entries) {
      if (other.idle && other.isLike(key)) await this.#close(other)
    }
  }

  async #makeRoom(entry: ManagedLoad, needBytes: number): Promise<void> {
    for (;;) {
      await Promise.allSettled([...this.#entries].map(({ closing }) => closing))
      const budget = this.#options.budgetBytes()
      const usedBytes = this.#usedBytes(entry)
      if (budget === null || usedBytes + needBytes <= budget) return
      const victim = this.#oldestIdle()
      if (victim === undefined) {
        const freeBytes = Math.max(0, budget - usedBytes)
        throw new LatheError(
          'gpu.out-of-memory',
          `${entry.name} needs ${megabytes(needBytes)}; ${megabytes(freeBytes)} of ${megabytes(budget)} are free.`,
          this.#reserved.size > 0
            ? `${[...this.#reserved].map(({ name }) => name).join(', ')} holds part of it: wait for its end, or cancel it.`
            : usedBytes > 0
              ? 'Stop what uses the other loaded models, or choose a smaller context or variant.'
              : 'Choose a smaller context or a more compressed variant of the model.',
          { data: { needBytes, freeBytes, budgetBytes: budget } },
        )
      }
      await this.#close(victim)
    }
  }

  #usedBytes(except: ManagedLoad | Reserved): number {
    let bytes = 0
    for (const held of this.#reserved) if (held !== except) bytes += held.bytes
    // Loads that wait their turn hold nothing yet.
    for (const entry of this.#entries) if (entry !== except && entry.runtime !== null) bytes += entry.bytes
    return bytes
  }

  #oldestIdle(): ManagedLoad | undefined {
    return [...this.#entries].filter((entry) => entry.idle).toSorted((a, b) => a.lastUsedAt - b.lastUsedAt)[0]
  }

  #lease(entry: ManagedLoad, runtime: Runtime): ModelLease {
    let held = true
    const release = (): void => {
      if (!held) return
      held = false
      this.#letGo(entry)
    }
    this.#changed()
    return { runtime, release, [Symbol.dispose]: release }
  }

  #letGo(entry: ManagedLoad): void {
    entry.holders--
    entry.lastUsedAt = Date.now()
    if (entry.holders === 0 && entry.runtime === null) entry.abandon()
    if (entry.holders === 0 && (entry.runtime?.failure ?? null) !== null) this.#drop(entry)
    this.#changed()
  }

  #close(entry: ManagedLoad): Promise<void> {
    entry.closing ??= (async () => {
      try {
        await entry.runtime?.[Symbol.asyncDispose]()
      } finally {
        this.#entries.delete(entry)
        this.#changed()
      }
    })()
    return entry.closing
  }

  /** Closes a runtime that has failed. Its device is gone, so an error of closing it concerns nobody. */
  #drop(entry: ManagedLoad): void {
    this.#close(entry).catch(() => null)
  }

  #changed(): void {
    for (const look of this.#waiting) look()
    this.#options.onChange?.()
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
