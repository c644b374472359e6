/** The models port over engine/runtime's manager: loads on the current backend, shares loads, and answers what a model holds of the device. */
import { openRuntime } from '../../runtime/open-runtime.ts'
import { scorePair } from '../../runtime/pair.ts'
import type { ModelLease, ModelManager } from '../../runtime/types.ts'
import { LatheError } from '../../contract/index.ts'
import type { AcquireModel, ModelsPort } from '../ports.ts'
import type { GpuBinding } from './gpu.ts'

export class ModelsBinding implements ModelsPort {
  readonly scorePair = scorePair
  readonly #gpu: GpuBinding
  readonly #manager: ModelManager
  /** Most bytes seen per model; everything is allocated at load, so looking after each load and use is enough. */
  readonly #peaks = new Map<string, number>()

  constructor(gpu: GpuBinding, manager: ModelManager) {
    this.#gpu = gpu
    this.#manager = manager
    gpu.unloadAll = () => this.unloadAll()
  }

  async acquire({ modelId, name, folder, contextTokens, kvDtype, signal, onProgress }: AcquireModel): Promise<ModelLease> {
    const lease = await this.#manager.acquire({
      modelId,
      name,
      contextTokens,
      kvDtype,
      estimatedBytes: null,
      signal,
      onProgress,
      open: async (options) =>
        openRuntime({ ...options, source: folder, backend: await this.#gpu.backend(), modelId, contextTokens, kvDtype }),
    })
    this.#notePeak(lease)
    return lease
  }

  loaded(): ReturnType<ModelsPort['loaded']> {
    return this.#manager.loaded()
  }

  async unload(modelId: string): Promise<void> {
    await this.#manager.unload(modelId)
    this.#peaks.delete(modelId)
  }

  async unloadAll(): Promise<void> {
    for (const modelId of new Set(this.loaded().map((model) => model.modelId))) await this.unload(modelId)
  }

  peakGpuBytes(modelId: string): number {
    return this.#peaks.get(modelId) ?? 0
  }

  async profile(): ReturnType<ModelsPort['profile']> {
    throw new LatheError(
      'gpu.unsupported',
      'Profiling single kernels is not in this build yet.',
      'Measure whole steps instead: evaluate throughput.',
    )
  }

  #notePeak({ runtime: { info } }: ModelLease): void {
    const bytes = info.weightBytes + info.kvBytes + info.otherBytes
    this.#peaks.set(info.modelId, Math.max(this.#peaks.get(info.modelId) ?? 0, bytes))
  }
}
