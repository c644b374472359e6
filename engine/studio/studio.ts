/**
 * The studio over the real engine: the one file that binds the parts of the engine to the studio's ports. Hosts (the engine process, tests) own the
 * process; the studio owns everything behind the router.
 */
import { inspectModelFolder, readTensorStats } from './bindings/checkpoint.ts'
import { bindCompressor } from './bindings/compress.ts'
import { bindFit } from './bindings/fit.ts'
import { GpuBinding } from './bindings/gpu.ts'
import { pendingModels } from './bindings/pending.ts'
import { TokenizerBinding } from './bindings/tokenizer.ts'
import { composeStudio } from './compose.ts'
import type { Studio, StudioOptions } from './compose.ts'
import type { EnginePorts, Log } from './ports.ts'

export type { Studio, StudioOptions } from './compose.ts'

/** Throws `studio.in-use`, `studio.data-too-new` or `disk.*` when the data folder can't be used. */
export function createStudio(options: StudioOptions): Promise<Studio> {
  return composeStudio(options, bindEngine)
}

/** The engine's parts as ports; nothing is opened before it is used. null = the adapter that fits best. */
export function bindEngine(adapterId: string | null, log: Log): EnginePorts {
  const gpu = new GpuBinding(adapterId, log)
  return {
    gpu,
    checkpoint: { inspect: inspectModelFolder, tensorStats: readTensorStats },
    tokenizers: new TokenizerBinding(),
    models: pendingModels,
    compressor: bindCompressor(),
    fit: bindFit(gpu),
    close: () => gpu.close(),
  }
}
