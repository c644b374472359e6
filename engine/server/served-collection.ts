/**
 * Several models behind one server: loaded when first asked for, one load at a time per model, kept while in use, unloaded after lying idle unless
 * pinned (specs/runtime.md §18). Where the memory comes from and who else must make room is the source's business: the model manager never
 * evicts a model in use, and this file holds a model exactly as long as a request does.
 */
import { LatheError } from '../contract/errors.ts'
import type { Runtime } from '../runtime/types.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { createServedModel, servedName } from './served-model.ts'
import type { ServedModel, ServedModelCard, ServedModels } from './served-model.ts'

export interface ServedEntry {
  readonly name: string
  readonly aliases?: readonly string[]
  /** Loaded at the start, and kept. */
  readonly pinned?: boolean
}

export interface ModelSource<E extends ServedEntry> {
  /** A loaded model, held until it is released. One load however many ask. Rejects with the signal's reason when aborted. */
  acquire(entry: E, signal: AbortSignal): Promise<{ readonly runtime: Runtime; release(): void }>
  /** Throws `model.busy` while it is in use. */
  unload(entry: E): Promise<unknown>
  tokenizer(entry: E): Promise<Tokenizer>
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
  pin: { release(): void } | null
}

/** `idleMs` null = never unload for lying idle. */
export function createServedCollection<E extends ServedEntry>(
  entries: readonly E[],
  source: ModelSource<E>,
  options: { readonly idleMs: number | null; readonly log: (level: 'info' | 'warn' | 'error', text: string) => void },
): ServedCollection {
  return new Collection(entries, source, options)
}

class Collection<E extends ServedEntry> implements ServedCollection {
  readonly #slots: readonly Slot<E>[]
  readonly #source: ModelSource<E>
  readonly #idleMs: number | null
  readonly #log: (level: 'info' | 'warn' | 'error', text: string) => void
  #asleep = false
  #closed = false

  constructor(
    entries: readonly E[],
    source: ModelSource<E>,
    options: { readonly idleMs: number | null; readonly log: (level: 'info' | 'warn' | 'error', text: string) => void },
  ) {
    const created = Math.floor(Date.now() / 1000)
    this.#slots = entries.map((entry) => ({
      entry,
      name: servedName(entry.name),
      created,
      holders: 0,
      served: null,
      idleTimer: null,
      pin: null,
    }))
    this.#source = source
    this.#idleMs = options.idleMs
    this.#log = options.log
    const names = this.#slots.flatMap((slot) => [slot.name, ...(slot.entry.aliases ?? [])])
    const twice = names.find((name, index) => names.indexOf(name) !== index)
    if (twice !== undefined)
      throw new LatheError('request.invalid', `Two of the models would be called "${twice}".`, 'Give each a name of its own.')
  }

  async start(signal: AbortSignal): Promise<void> {
    for (const slot of this.#slots) if (slot.entry.pinned === true) slot.pin ??= await this.#hold(slot, signal)
  }

  cards(): readonly ServedModelCard[] {
    return this.#slots.map(({ name, entry, created, served }) => ({
      name,
      aliases: entry.aliases ?? [],
      created,
      contextLimit: served === null || served.runtime.failure !== null ? null : served.runtime.info.contextLimit,
    }))
  }

  runtimes(): readonly Runtime[] {
    return this.#slots.flatMap(({ served }) => (served === null || served.runtime.failure !== null ? [] : [served.runtime]))
  }

  async acquire(name: string, signal: AbortSignal): ReturnType<ServedModels['acquire']> {
    const slot = this.#slots.find((one) => one.name === name || one.entry.aliases?.includes(name) === true)
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    for (const slot of this.#slots) {
      if (slot.idleTimer !== null) clearTimeout(slot.idleTimer)
      slot.pin?.release()
      await slot.served?.[Symbol.asyncDispose]()
      slot.served = null
    }
  }

  async #hold(slot: Slot<E>, signal: AbortSignal): Promise<{ readonly model: ServedModel; release(): void }> {
    signal.throwIfAborted()
    if (this.#closed) throw new LatheError('runtime.aborted', 'The server is closing.', 'Start it again.')
    if (slot.idleTimer !== null) clearTimeout(slot.idleTimer)
    slot.idleTimer = null
    slot.holders++
    try {
      const lease = await this.#source.acquire(slot.entry, signal)
      try {
        const model = await this.#servedBy(slot, lease.runtime)
        return { model, release: once(() => this.#letGo(slot, lease)) }
      } catch (error) {
        lease.release()
        throw error
      }
    } catch (error) {
      slot.holders--
      throw error
    }
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
      slot.idleTimer = null
      this.#unload(slot).catch((error: unknown) => this.#log('warn', `${slot.name} was not unloaded: ${String(error)}`))
    }
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
    } catch (error) {
      // The chat or a job of the studio uses the same load: it stays.
      if (!(error instanceof LatheError && error.code === 'model.busy')) throw error
    }
  }
}

function once(action: () => void): () => void {
  let done = false
  return () => {
    if (done) return
    done = true
    action()
  }
}
