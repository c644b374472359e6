/** The models port over engine/runtime's manager: loads on the current backend, shares loads, and answers what a model holds of the device. */
import { modelShapeOf } from '../../capacity/model-shape.ts'
import { loadErrorBytes } from '../../capacity/overhead.ts'
import { resolveKvWish } from '../../gpu/kv-format.ts'
import { LatheError } from '../../contract/index.ts'
import { createModelManager } from '../../runtime/manager.ts'
import { openRuntime } from '../../runtime/open-runtime.ts'
import { scorePair } from '../../runtime/pair.ts'
import type { Disaggregation, MemoryReservation, ModelLease, ModelManager, ReserveOptions, RuntimeInfo } from '../../runtime/types.ts'
import type { AcquireModel, FolderFacts, ModelsPort, OverheadPort } from '../ports.ts'
import { inspectModelFolder } from './checkpoint.ts'
import type { GpuBinding } from './gpu.ts'
import { loadEstimateBytes } from './load-estimate.ts'
import { profileRuntime } from './profile.ts'

export class ModelsBinding implements ModelsPort {
  readonly scorePair = scorePair
  readonly #gpu: GpuBinding
  readonly #manager: ModelManager
  readonly #overheads: OverheadPort | null
  #budgetBytes: number | null = null

  constructor(gpu: GpuBinding, onChange: () => void, overheads: OverheadPort | null = null) {
    this.#gpu = gpu
    this.#overheads = overheads
    this.#manager = createModelManager({ budgetBytes: () => this.#budgetBytes, onChange })
    gpu.unloadAll = () => this.unloadAll()
  }

  async acquire({
    modelId,
    name,
    folder,
    contextTokens,
    kvDtype: kvWish,
    room,
    kvTokens = room?.kvTokens,
    maxSequences = room?.sequences,
    speculation,
    disaggregation,
    maxQueued,
    matrixUnits,
    signal,
    onProgress,
  }: AcquireModel): Promise<ModelLease> {
    this.#budgetBytes = await this.#gpu.budgetBytes()
    const { prefillEngines = 0, prefillAdapter = null } = disaggregation ?? {}
    // What can't be read the load itself explains.
    const facts = await inspectModelFolder(folder).catch(() => null)
    const kvDtype = resolveKvWish(kvWish, facts?.kvCacheDtype ?? null)
    const adapter = await this.#gpu.current()
    const oneBytes =
      facts === null
        ? null
        : loadEstimateBytes(facts, {
            contextTokens,
            kvTokens,
            sequences: maxSequences,
            kvDtype,
            software: adapter.type === 'software' || adapter.type === 'reference',
            overhead: this.#overheads?.get(adapter) ?? null,
          })
    return this.#manager.acquire({
      modelId,
      name,
      contextTokens,
      kvDtype,
      matrixUnits,
      room,
      // Readers on the same adapter hold the weights again.
      estimatedBytes: oneBytes === null ? null : oneBytes * (1 + (prefillAdapter === null ? prefillEngines : 0)),
      signal,
      onProgress,
      open: async (options) => {
        const runtime = await openRuntime({
          ...options,
          source: folder,
          backend: await this.#gpu.backend(),
          modelId,
          contextTokens,
          kvDtype,
          kvTokens,
          maxSequences,
          speculation,
          matrixUnits,
          maxQueued,
          disaggregation: prefillEngines === 0 ? undefined : await this.#readers(prefillEngines, prefillAdapter),
        })
        // Drafts, readers and matrix units hold memory of their own, which says nothing of a plain load.
        const plain = (speculation ?? null) === null && prefillEngines === 0 && matrixUnits !== true
        if (plain && facts !== null) await this.#remember(facts, runtime.info)
        return runtime
      },
    })
  }

  /** How far the plan of such a load was off. */
  async #remember({ config, inputElements: inputs }: FolderFacts, info: RuntimeInfo): Promise<void> {
    const adapter = await this.#gpu.current().catch(() => null)
    if (this.#overheads === null || adapter === null || adapter.id !== info.adapterId || adapter.type === 'reference') return
    const { contextLimit: contextTokens, maxSequences: sequences, kvDtype, software, otherBytes } = info
    this.#overheads.add(adapter, loadErrorBytes(modelShapeOf(config), { contextTokens, sequences, kvDtype, software, inputs, otherBytes }))
  }

  async #readers(prefillEngines: number, adapter: string | null): Promise<Disaggregation> {
    const prefillBackend = adapter === null ? null : await this.#gpu.openOn(adapter)
    return prefillBackend === null ? { prefillEngines } : { prefillEngines, prefillBackend }
  }

  loaded(): ReturnType<ModelsPort['loaded']> {
    return this.#manager.loaded()
  }

  async unload(modelId: string): Promise<void> {
    await this.#manager.unload(modelId)
  }

  /** Device memory for work beside the models; waits for those in use. */
  async reserve(options: ReserveOptions): Promise<MemoryReservation> {
    this.#budgetBytes = await this.#gpu.budgetBytes()
    return this.#manager.reserve(options)
  }

  /** Unloads what nobody is using. Returns the name of a model that stays, or null. */
  async unloadIdle(): Promise<string | null> {
    for (const { modelId } of this.loaded().filter((model) => !model.busy)) {
      // one that was taken into use meanwhile stays
      await this.unload(modelId).catch((error: unknown) => {
        if (!(error instanceof LatheError && error.code === 'model.busy')) throw error
      })
    }
    return this.loaded()[0]?.name ?? null
  }

  /** All or, when one is in use, none. */
  async unloadAll(): Promise<void> {
    const loaded = this.loaded()
    const busy = loaded.find((model) => model.busy)
    if (busy !== undefined) throw new LatheError('model.busy', `${busy.name} is in use.`, 'Stop the chat or job that uses it first.')
    for (const modelId of new Set(loaded.map((model) => model.modelId))) await this.unload(modelId)
  }

  /** Everything is allocated when a model loads and nothing after, so what it holds is what it held at most. */
  peakGpuBytes(modelId: string): number {
    const own = this.loaded().filter((model) => model.modelId === modelId)
    return Math.max(0, ...own.map((model) => model.weightBytes + model.kvBytes + model.otherBytes))
  }

  async profile(model: AcquireModel): ReturnType<ModelsPort['profile']> {
    using lease = await this.acquire(model)
    return await profileRuntime(lease.runtime, model.signal)
  }

  /** Aborts what loads, unloads everything. */
  async close(): Promise<void> {
    await this.#manager[Symbol.asyncDispose]()
  }
}
