/**
 * Several models behind one server: loaded when first asked for, one load at a time per model, kept while in use, unloaded after lying idle unless
 * pinned (specs/runtime.md §18). Where the memory comes from and who else must make room is the source's business: the model manager never
 * evicts a model in use, and this file holds a model exactly as long as a request does.
 */
import { LatheError } from '../contract/errors.ts'
import type { LoadProgress, Runtime } from '../runtime/types.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { cacheOf, createServedModel, servedName } from './served-model.ts'
import type { FitEstimate, FitWish, ServedModel, ServedModelCard, ServedModelStatus, ServedModels } from './served-model.ts'

export interface ServedEntry {
  readonly name: string
  readonly aliases?: readonly string[]
  /** Loaded at the start, and kept. */
  readonly pinned?: boolean
}

export interface ModelSource<E extends ServedEntry> {
  /** A loaded model, held until it is released. One load however many ask. Rejects with the signal's reason when aborted. */
  acquire(
    entry: E,
    signal: AbortSignal,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<{ readonly runtime: Runtime; release(): void }>
  /** Throws `model.busy` while it is in use. */
  unload(entry: E): Promise<unknown>
  tokenizer(entry: E): Promise<Tokenizer>
  /** Of one of these models, or (null) of another that the source knows by that name. null = it knows none. Absent = can't estimate. */
  fit?(entry: E | null, name: string, wish: FitWish): Promise<FitEstimate | null>
}

export interface ServedCollection extends ServedModels, AsyncDisposable {
  /** Loads what is pinned. */
  start(signal: AbortSignal): Promise<void>
  /** Loaded runtimes now. */
  runtimes(): readonly Runtime[]
}

interface Slot<E> {
  readonly entry: E
  readonly name: string
  readonly created: number
  holders: number
  served: ServedModel | null
  idleTimer: NodeJS.Timeout | null
  unloadAt: number | null
  /** The hold that keeps a pinned model, on the load that it was taken of. */
  pin: Held | null
  loading: LoadProgress | null
  /** A load that nobody waits for: after its device was lost. */
  reviving: Promise<unknown> | null
}

interface Held {
  readonly model: ServedModel
  release(): void
}

export interface CollectionOptions {
  /** null = never unload for lying idle. */
  readonly idleMs: number | null
  readonly log: (level: 'info' | 'warn' | 'error', text: string) => void
  /** A model's state or the progress of its load has changed. */
  readonly onChange?: () => void
}

export function createServedCollection<E extends ServedEntry>(
  entries: readonly E[],
  source: ModelSource<E>,
  options: CollectionOptions,
): ServedCollection {
  return new Collection(entries, source, options)
}

class Collection<E extends ServedEntry> implements ServedCollection {
  readonly #slots: readonly Slot<E>[]
  readonly #source: ModelSource<E>
  readonly #idleMs: number | null
  readonly #log: (level: 'info' | 'warn' | 'error', text: string) => void
  readonly #onChange: () => void
  readonly fit?: NonNullable<ServedModels['fit']>
  readonly #closing = new AbortController()
  #asleep = false
  #closed = false

  constructor(entries: readonly E[], source: ModelSource<E>, options: CollectionOptions) {
    const created = Math.floor(Date.now() / 1000)
    this.#slots = entries.map((entry) => ({
      entry,
      name: servedName(entry.name),
      created,
      holders: 0,
      served: null,
      idleTimer: null,
      unloadAt: null,
      pin: null,
      loading: null,
      reviving: null,
    }))
    this.#source = source
    this.#idleMs = options.idleMs
    this.#log = options.log
    this.#onChange = options.onChange ?? ((): void => {})
    if (source.fit !== undefined) {
      const estimate = source.fit.bind(source)
      this.fit = async (name, wish) => estimate(this.#slotOf(name)?.entry ?? null, name, wish)
    }
    const names = this.#slots.flatMap((slot) => [slot.name, ...(slot.entry.aliases ?? [])])
    const twice = names.find((name, index) => names.indexOf(name) !== index)
    if (twice !== undefined)
      throw new LatheError('request.invalid', `Two of the models would be called "${twice}".`, 'Give each a name of its own.')
  }

  async start(signal: AbortSignal): Promise<void> {
    for (const slot of this.#slots) if (slot.entry.pinned === true) slot.pin ??= await this.#hold(slot, signal)
  }

  cards(): readonly ServedModelCard[] {
    return this.#slots.map(({ name, entry, created, served }) => {
      const card = { name, aliases: entry.aliases ?? [], created }
      if (served === null || served.runtime.failure !== null) return { ...card, contextLimit: null }
      const { info } = served.runtime
      return { ...card, contextLimit: info.contextLimit, cache: cacheOf(info) }
    })
  }

  runtimes(): readonly Runtime[] {
    return this.#slots.flatMap(({ served }) => (served === null || served.runtime.failure !== null ? [] : [served.runtime]))
  }

  async acquire(name: string, signal: AbortSignal): ReturnType<ServedModels['acquire']> {
    const slot = this.#slotOf(name)
    if (slot === undefined) return null
    this.#asleep = false
    return this.#hold(slot, signal)
  }

  /** Both levels of vLLM come to the same here: weights are read from their files again, and the cache is gone. */
  async sleep(): Promise<void> {
    const busy = this.#slots.find((slot) => slot.holders > (slot.pin === null ? 0 : 1))
    if (busy !== undefined)
      throw new LatheError('model.busy', `${busy.name} is answering requests.`, 'Wait for them or abort them, then try again.')
    for (const slot of this.#slots) {
      slot.pin?.release()
      slot.pin = null
      await this.#unload(slot)
    }
    this.#asleep = true
  }

  async wake(signal: AbortSignal): Promise<void> {
    this.#asleep = false
    await this.start(signal)
  }

  asleep(): boolean {
    return this.#asleep
  }

  status(): readonly ServedModelStatus[] {
    return this.#slots.map((slot) => this.#statusOf(slot))
  }

  async load(
    name: string,
    signal: AbortSignal,
    onProgress: (progress: LoadProgress) => void,
  ): ReturnType<NonNullable<ServedModels['load']>> {
    const slot = this.#slotOf(name)
    if (slot === undefined) return null
    this.#asleep = false
    const held = await this.#hold(slot, signal, onProgress)
    if (slot.entry.pinned === true && slot.pin === null) slot.pin = held
    else held.release()
    return this.#statusOf(slot)
  }

  async unload(name: string): ReturnType<NonNullable<ServedModels['unload']>> {
    const slot = this.#slotOf(name)
    if (slot === undefined) return null
    if (slot.holders > (slot.pin === null ? 0 : 1))
      throw new LatheError('model.busy', `${slot.name} is answering requests.`, 'Wait for them or abort them, then try again.')
    slot.pin?.release()
    slot.pin = null
    if (slot.idleTimer !== null) clearTimeout(slot.idleTimer)
    slot.idleTimer = slot.unloadAt = null
    await this.#unload(slot)
    return this.#statusOf(slot)
  }

  /** A pinned model that lost its device is loaded again without waiting for a request. */
  fault(): Error | null {
    const lost = this.#slots.find((slot) => slot.pin !== null && isLost(slot.pin.model.runtime))
    if (lost === undefined || lost.pin === null) return null
    if (lost.reviving === null && !this.#closed) {
      lost.reviving = this.#hold(lost, this.#closing.signal)
        .then((held) => held.release())
        .catch((error: unknown) => this.#log('error', `${lost.name} could not be loaded again: ${String(error)}`))
        .finally(() => {
          lost.reviving = null
        })
    }
    return lost.pin.model.runtime.failure
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#closing.abort(new LatheError('runtime.aborted', 'The server is closing.', 'Start it again.'))
    for (const slot of this.#slots) {
      if (slot.idleTimer !== null) clearTimeout(slot.idleTimer)
      slot.pin?.release()
      await slot.served?.[Symbol.asyncDispose]()
      slot.served = null
    }
  }

  #slotOf(name: string): Slot<E> | undefined {
    return this.#slots.find((one) => one.name === name || one.entry.aliases?.includes(name) === true)
  }

  #statusOf(slot: Slot<E>): ServedModelStatus {
    const { name, entry, holders, pin, served, loading, unloadAt } = slot
    const info = served?.runtime.info
    const failed = served !== null && served.runtime.failure !== null
    return {
      name,
      aliases: entry.aliases ?? [],
      state:
        loading !== null ? 'loading' : served === null ? 'unloaded' : !failed ? 'loaded' : isLost(served.runtime) ? 'failed' : 'unloaded',
      pinned: entry.pinned === true,
      inUse: holders - (pin === null ? 0 : 1),
      bytes: info === undefined || failed ? null : { weights: info.weightBytes, kv: info.kvBytes, other: info.otherBytes },
      contextLimit: info === undefined || failed ? null : info.contextLimit,
      cache: info === undefined || failed ? null : cacheOf(info),
      loading,
      unloadAt,
    }
  }

  async #hold(slot: Slot<E>, signal: AbortSignal, onProgress?: (progress: LoadProgress) => void): Promise<Held> {
    signal.throwIfAborted()
    if (this.#closed) throw new LatheError('runtime.aborted', 'The server is closing.', 'Start it again.')
    if (slot.idleTimer !== null) clearTimeout(slot.idleTimer)
    slot.idleTimer = slot.unloadAt = null
    slot.holders++
    try {
      const lease = await this.#source.acquire(slot.entry, signal, (progress) => {
        slot.loading = progress
        onProgress?.(progress)
        this.#onChange()
      })
      try {
        const model = await this.#servedBy(slot, lease.runtime)
        this.#repin(slot, model)
        return { model, release: once(() => this.#letGo(slot, lease)) }
      } catch (error) {
        lease.release()
        throw error
      }
    } catch (error) {
      slot.holders--
      throw error
    } finally {
      slot.loading = null
      this.#onChange()
    }
  }

  /** What was pinned on a load whose device is gone is pinned on the next one. */
  #repin(slot: Slot<E>, model: ServedModel): void {
    const { pin } = slot
    if (pin === null || pin.model.runtime === model.runtime || pin.model.runtime.failure === null) return
    slot.pin = null
    pin.release()
    // This model is loaded, so this takes hold of it at once.
    this.#hold(slot, this.#closing.signal).then(
      (held) => {
        if (slot.pin === null && !this.#closed) slot.pin = held
        else held.release()
      },
      (error: unknown) => this.#log('warn', `${slot.name} is no longer kept in memory: ${String(error)}`),
    )
  }

  /** The model on this load of it; a later load has a runtime of its own. */
  async #servedBy(slot: Slot<E>, runtime: Runtime): Promise<ServedModel> {
    if (slot.served?.runtime === runtime) return slot.served
    const tokenizer = await this.#source.tokenizer(slot.entry)
    // Somebody else may have come first while the tokenizer was read.
    const current = slot.served as ServedModel | null
    if (current?.runtime === runtime) return current
    slot.served = createServedModel({ name: slot.name, runtime, tokenizer, created: slot.created })
    if (current !== null) await current[Symbol.asyncDispose]()
    return slot.served
  }

  #letGo(slot: Slot<E>, lease: { release(): void }): void {
    lease.release()
    slot.holders--
    if (slot.holders > 0 || this.#closed || this.#idleMs === null) return
    const idle = (): void => {
      slot.idleTimer = slot.unloadAt = null
      this.#unload(slot).catch((error: unknown) => this.#log('warn', `${slot.name} was not unloaded: ${String(error)}`))
    }
    slot.unloadAt = Date.now() + this.#idleMs
    slot.idleTimer = setTimeout(idle, this.#idleMs)
    slot.idleTimer.unref()
  }

  async #unload(slot: Slot<E>): Promise<void> {
    if (slot.served === null || slot.holders > 0) return
    const { served } = slot
    slot.served = null
    await served[Symbol.asyncDispose]()
    try {
      await this.#source.unload(slot.entry)
      this.#log('info', `${slot.name} was unloaded.`)
      this.#onChange()
    } catch (error) {
      // The chat or a job of the studio uses the same load: it stays.
      if (!(error instanceof LatheError && error.code === 'model.busy')) throw error
    }
  }
}

/** Its device is gone, or hangs. One that was unloaded has failed too, but nothing is wrong with it. */
function isLost(runtime: Runtime): boolean {
  return runtime.failure instanceof LatheError && runtime.failure.code !== 'runtime.aborted'
}

function once(action: () => void): () => void {
  let done = false
  return () => {
    if (done) return
    done = true
    action()
  }
}
