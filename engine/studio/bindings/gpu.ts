/**
 * The GPU port over engine/gpu: one backend at a time, opened when first needed, opened anew after the device is lost, and never changed while
 * a model is loaded on it.
 */
import { chooseEnergySource } from '../../benchmark/energy/choose-source.ts'
import type { EnergyChoice } from '../../benchmark/energy/energy-source.ts'
import { memoryOf } from '../../gpu/adapter-memory.ts'
import type { AdapterMemory } from '../../gpu/adapter-memory.ts'
import { chooseAdapter, listAdapters } from '../../gpu/adapters.ts'
import { benchmarkHardware } from '../../gpu/calibration.ts'
import { advise, systemFacts } from '../../gpu/diagnosis.ts'
import type { SystemFacts } from '../../gpu/diagnosis.ts'
import type { Backend } from '../../gpu/program.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import { LatheError } from '../../contract/index.ts'
import type { Adapter, Hardware, HardwareBenchmark } from '../../contract/index.ts'
import type { CurrentAdapter, GpuPort, Log } from '../ports.ts'

/** Asking the driver's own tool takes tens of milliseconds; a panel that refreshes every second needs no more. */
const MEMORY_STALE_MS = 2000

export class GpuBinding implements GpuPort {
  readonly #log: Log
  readonly #memory = new Map<string, AdapterMemory>()
  #memoryAt = -Infinity
  readonly #own = new Set<Backend>()
  #wanted: string | null
  #backend: Promise<Backend> | null = null
  #systemFacts: Promise<SystemFacts> | null = null
  /** Unloads every model; set by whoever loads them. */
  unloadAll: () => Promise<void> = async () => {}

  constructor(wanted: string | null, log: Log) {
    this.#wanted = wanted
    this.#log = log
  }

  /** The open backend of the current adapter. */
  backend(): Promise<Backend> {
    if (this.#backend !== null) return this.#backend
    const opening = openBackend(this.#wanted)
    this.#backend = opening
    const forget = (): void => {
      if (this.#backend === opening) this.#backend = null
    }
    opening.then(
      async (backend) => {
        const reason = await backend.lost
        if (this.#backend === opening) this.#log('error', `The device of ${backend.id} was lost: ${reason}. The next use opens it again.`)
        forget()
      },
      // the caller gets the error; the next one tries again
      forget,
    )
    return opening
  }

  /** A device of its own on another adapter; null where that is the current one. The caller disposes it. */
  async openOn(adapterId: string): Promise<Backend | null> {
    const { adapter } = await chooseAdapter(adapterId)
    return adapter.id === (await this.current()).id ? null : openBackend(adapterId)
  }

  /** A second device on the current adapter, whose memory is returned apart and shown with the rest; the caller disposes it. */
  async openOwn(): Promise<Backend> {
    const backend = await openBackend(this.#wanted)
    this.#own.add(backend)
    // disposing it, too, loses it
    void backend.lost.then(() => this.#own.delete(backend))
    return backend
  }

  async state(): Promise<Pick<Hardware, 'adapters' | 'advice' | 'ledger' | 'gpuBytesInUse' | 'gpuBudgetBytes'>> {
    const adapters = await this.#adaptersNow()
    const usage = await this.#usage()
    const ledger = Array.from(usage, ([owner, { bytes, buffers }]) => ({ owner, bytes, buffers })).toSorted((a, b) => b.bytes - a.bytes)
    return {
      adapters,
      advice: [...adviceForChoice(adapters, this.#wanted), ...advise(await this.#facts(), adapters)],
      ledger,
      gpuBytesInUse: ledger.reduce((sum, entry) => sum + entry.bytes, 0),
      gpuBudgetBytes: adapters.find((adapter) => adapter.selected)?.memory.totalBytes ?? null,
    }
  }

  /** Bytes that models may take on the current adapter; null where nobody knows. */
  async budgetBytes(): Promise<number | null> {
    return (await chooseAdapter(this.#wanted)).adapter.memory.totalBytes
  }

  /** False without an adapter too. */
  async isHardware(): Promise<boolean> {
    const adapter = await this.current().catch((error: unknown) => {
      if (error instanceof LatheError) return null
      throw error
    })
    return adapter !== null && adapter.type !== 'software' && adapter.type !== 'reference'
  }

  async current(): Promise<CurrentAdapter> {
    const { adapter } = await chooseAdapter(this.#wanted)
    return { id: adapter.id, name: adapter.name, type: adapter.type, driver: adapter.driver }
  }

  async benchmark(signal: AbortSignal): Promise<HardwareBenchmark> {
    return benchmarkHardware(await this.backend(), { name: (await this.current()).name, signal })
  }

  async energy(): Promise<EnergyChoice> {
    return chooseEnergySource(await this.current())
  }

  async select(adapterId: string | null): Promise<void> {
    const before = await this.current().catch(() => null)
    const { adapter } = await chooseAdapter(adapterId)
    if (adapter.id !== before?.id) await this.close()
    this.#wanted = adapterId
  }

  /** Unloads what is loaded and gives the device back. Throws `model.busy` while something is in use. */
  async close(): Promise<void> {
    await this.unloadAll()
    const open = this.#backend
    this.#backend = null
    if (open === null) return
    const backend = await open.catch(() => null)
    await backend?.[Symbol.asyncDispose]()
  }

  /** The scan happens once per process; what is free of the memory changes all the time. */
  async #adaptersNow(): Promise<Adapter[]> {
    const adapters = await listAdapters(this.#wanted)
    const now = performance.now()
    if (now - this.#memoryAt > MEMORY_STALE_MS) {
      this.#memoryAt = now
      for (const adapter of adapters) {
        if (adapter.type !== 'reference') this.#memory.set(adapter.id, await memoryOf(adapter.name, adapter.type))
      }
    }
    return adapters.map((adapter) => ({ ...adapter, memory: this.#memory.get(adapter.id) ?? adapter.memory }))
  }

  /** Drivers and permissions don't change under a running process that has looked; the panel asks every two seconds. */
  #facts(): Promise<SystemFacts> {
    this.#systemFacts ??= systemFacts()
    return this.#systemFacts
  }

  async #usage(): Promise<ReturnType<Backend['usage']>> {
    // a backend that never opened holds nothing
    const backend = await this.#backend?.catch(() => null)
    const all = new Map(backend?.usage())
    for (const own of this.#own) {
      for (const [owner, { bytes, buffers }] of own.usage()) {
        const before = all.get(owner)
        all.set(owner, { bytes: bytes + (before?.bytes ?? 0), buffers: buffers + (before?.buffers ?? 0) })
      }
    }
    return all
  }
}

/** A device that was asked for and is not there stops everything that computes; nobody silently gets another. */
function adviceForChoice(adapters: readonly Adapter[], wanted: string | null): { what: string; why: string; fix: string }[] {
  const named = wanted ?? process.env['LATHE_ADAPTER'] ?? ''
  if (named === '' || adapters.some((adapter) => adapter.selected)) return []
  return [
    {
      what: `No usable adapter matches "${named}"`,
      why: 'It was asked for by the settings, --adapter or LATHE_ADAPTER, so models are refused until it is back or another is chosen.',
      fix: `Choose one of: ${adapters
        .filter((adapter) => adapter.usable)
        .map((adapter) => adapter.id)
        .join(', ')}.`,
    },
  ]
}
