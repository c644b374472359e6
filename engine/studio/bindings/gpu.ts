/**
 * The GPU port over engine/gpu: one backend at a time, opened when first needed, opened anew after the device is lost, and never changed while
 * a model is loaded on it.
 */
import { memoryOf } from '../../gpu/adapter-memory.ts'
import type { AdapterMemory } from '../../gpu/adapter-memory.ts'
import { chooseAdapter, listAdapters } from '../../gpu/adapters.ts'
import type { Backend } from '../../gpu/program.ts'
import { openBackend } from '../../gpu/webgpu/backend.ts'
import type { Adapter, Hardware, HardwareBenchmark } from '../../contract/index.ts'
import type { CurrentAdapter, GpuPort, Log } from '../ports.ts'
import { benchmarkHardware } from './hardware-benchmark.ts'

/** Asking the driver's own tool takes tens of milliseconds; a panel that refreshes every second needs no more. */
const MEMORY_STALE_MS = 2000

export class GpuBinding implements GpuPort {
  readonly #log: Log
  readonly #memory = new Map<string, AdapterMemory>()
  #memoryAt = -Infinity
  #wanted: string | null
  #backend: Promise<Backend> | null = null
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

  async state(): Promise<Pick<Hardware, 'adapters' | 'advice' | 'ledger' | 'gpuBytesInUse' | 'gpuBudgetBytes'>> {
    const adapters = await this.#adaptersNow()
    const usage = await this.#usage()
    const ledger = Array.from(usage, ([owner, { bytes, buffers }]) => ({ owner, bytes, buffers })).toSorted((a, b) => b.bytes - a.bytes)
    return {
      adapters,
      advice: [...adviceForChoice(adapters, this.#wanted), ...adviceFor(adapters)],
      ledger,
      gpuBytesInUse: ledger.reduce((sum, entry) => sum + entry.bytes, 0),
      gpuBudgetBytes: adapters.find((adapter) => adapter.selected)?.memory.totalBytes ?? null,
    }
  }

  /** Bytes that models may take on the current adapter; null where nobody knows. */
  async budgetBytes(): Promise<number | null> {
    return (await chooseAdapter(this.#wanted)).adapter.memory.totalBytes
  }

  async current(): Promise<CurrentAdapter> {
    const { adapter } = await chooseAdapter(this.#wanted)
    return { id: adapter.id, name: adapter.name, type: adapter.type, driver: adapter.driver }
  }

  async benchmark(signal: AbortSignal): Promise<HardwareBenchmark> {
    return benchmarkHardware(await this.backend(), await this.current(), signal)
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

  async #usage(): Promise<ReturnType<Backend['usage']>> {
    // a backend that never opened holds nothing
    const backend = await this.#backend?.catch(() => null)
    return backend?.usage() ?? new Map()
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

/** What is missing on this machine, and the command that brings it. */
function adviceFor(adapters: readonly Adapter[]): { what: string; why: string; fix: string }[] {
  const gpus = adapters.filter((adapter) => adapter.usable && adapter.type !== 'reference')
  const linux = process.platform === 'linux'
  if (gpus.length === 0) {
    return [
      {
        what: 'No GPU driver was found',
        why: 'Models can only run on the f64 reference backend, which is correct but far too slow to use.',
        fix: linux
          ? 'sudo apt install mesa-vulkan-drivers (or your GPU vendor’s Vulkan driver)'
          : 'Install your GPU vendor’s current driver.',
      },
    ]
  }
  const advice = []
  if (gpus.every((adapter) => adapter.type === 'software')) {
    advice.push({
      what: 'Only a software adapter was found',
      why: 'Models run on the CPU: correct, but slow, and speeds say nothing about a GPU.',
      fix: linux
        ? 'Install your GPU vendor’s Vulkan driver, e.g. sudo apt install nvidia-driver or mesa-vulkan-drivers'
        : 'Install your GPU vendor’s current driver.',
    })
  }
  for (const adapter of gpus) {
    if (adapter.type === 'software' || adapter.features.f16) continue
    advice.push({
      what: `${adapter.name} has no 16-bit float shaders`,
      why: 'Its driver does not offer shader-f16, so some kernels run at half speed.',
      fix: 'Update the GPU driver.',
    })
  }
  return advice
}
