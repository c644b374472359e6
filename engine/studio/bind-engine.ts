/**
 * The real engine behind the studio's ports: the one place that names concrete implementations. The studio and the command line both start here.
 */
import { hashTensor, inspectModelFolder, readTensorStats } from './bindings/checkpoint.ts'
import { compressBinding } from './bindings/compress.ts'
import { bindFit } from './bindings/fit.ts'
import { GpuBinding } from './bindings/gpu.ts'
import { ModelsBinding } from './bindings/models.ts'
import { createSharingManager } from './bindings/pending.ts'
import { TokenizerBinding } from './bindings/tokenizer.ts'
import type { EnginePorts, Log } from './ports.ts'

/** Nothing is opened before it is used. null = LATHE_ADAPTER, else the adapter that fits best. */
export function bindEngine(adapterId: string | null, log: Log): EnginePorts {
  const gpu = new GpuBinding(adapterId, log)
  return {
    gpu,
    checkpoint: { inspect: inspectModelFolder, tensorStats: readTensorStats, hashTensor },
    tokenizers: new TokenizerBinding(),
    models: new ModelsBinding(gpu, createSharingManager()),
    compressor: compressBinding,
    fit: bindFit(gpu),
    close: () => gpu.close(),
  }
}
