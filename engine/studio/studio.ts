/**
 * The studio over the real engine: the one file that binds the parts of the engine to the studio's ports. Hosts (the engine process, tests) own the
 * process; the studio owns everything behind the router.
 */
import { LatheError } from '../contract/index.ts'
import { inspectModelFolder } from './bindings/checkpoint.ts'
import { bindFit } from './bindings/fit.ts'
import { GpuBinding } from './bindings/gpu.ts'
import { pendingCompressor, pendingModels, pendingTokenizers } from './bindings/pending.ts'
import { composeStudio } from './compose.ts'
import type { Studio, StudioOptions } from './compose.ts'
import type { EnginePorts } from './ports.ts'

export type { Studio, StudioOptions } from './compose.ts'

/** Throws `studio.in-use`, `studio.data-too-new` or `disk.*` when the data folder can't be used. */
export function createStudio(options: StudioOptions): Promise<Studio> {
  return composeStudio(options, bindEngine)
}

export function bindEngine(adapterId: string | null): EnginePorts {
  const gpu = new GpuBinding(adapterId)
  return {
    gpu,
    checkpoint: {
      inspect: inspectModelFolder,
      tensorStats: async () => {
        throw new LatheError('internal', 'Tensor statistics are not in this build yet.', 'Update Lathe.')
      },
    },
    tokenizers: pendingTokenizers,
    models: pendingModels,
    compressor: pendingCompressor,
    fit: bindFit(gpu),
    close: async () => {},
  }
}
