/** The GPU port over engine/gpu: which adapter work runs on, and what it holds. */
import { chooseAdapter, listAdapters } from '../../gpu/adapters.ts'
import type { CurrentAdapter, GpuPort } from '../ports.ts'
import { LatheError } from '../../contract/index.ts'

export class GpuBinding implements GpuPort {
  #wanted: string | null

  constructor(wanted: string | null) {
    this.#wanted = wanted
  }

  async state(): ReturnType<GpuPort['state']> {
    const adapters = (await listAdapters(this.#wanted)).map((adapter) => ({ ...adapter }))
    const budget = adapters.find((adapter) => adapter.selected)?.memory.totalBytes ?? null
    return { adapters, advice: [], ledger: [], gpuBytesInUse: 0, gpuBudgetBytes: budget }
  }

  async current(): Promise<CurrentAdapter> {
    const { adapter } = await chooseAdapter(this.#wanted)
    return { id: adapter.id, name: adapter.name, type: adapter.type, driver: adapter.driver }
  }

  async benchmark(): ReturnType<GpuPort['benchmark']> {
    throw new LatheError('internal', 'The hardware benchmark is not in this build yet.', 'Update Lathe.')
  }

  async select(adapterId: string | null): Promise<void> {
    await chooseAdapter(adapterId)
    this.#wanted = adapterId
  }
}
