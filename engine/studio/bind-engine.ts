/**
 * The real engine behind the studio's ports: the one place that names concrete implementations. The studio and the command line both start here.
 */
import { hashTensor, inspectModelFolder, readTensorStats } from './bindings/checkpoint.ts'
import { bindCompress } from './bindings/compress.ts'
import { bindFit } from './bindings/fit.ts'
import { GpuBinding } from './bindings/gpu.ts'
import { ModelsBinding } from './bindings/models.ts'
import { TokenizerBinding } from './bindings/tokenizer.ts'
import type { BindOptions, EnginePorts } from './ports.ts'

/** Nothing is opened before it is used. */
export function bindEngine({ adapterId, log, onModelsChanged, overheads }: BindOptions): EnginePorts {
  const gpu = new GpuBinding(adapterId, log)
  const models = new ModelsBinding(gpu, onModelsChanged, overheads)
  return {
    gpu,
    models,
    checkpoint: { inspect: inspectModelFolder, tensorStats: readTensorStats, hashTensor },
    tokenizers: new TokenizerBinding(),
    compressor: bindCompress({
      open: () => gpu.openOwn(),
      isHardware: () => gpu.isHardware(),
      budgetBytes: () => gpu.budgetBytes(),
      makeRoom: () => models.unloadIdle(),
      reserve: (options) => models.reserve(options),
    }),
    fit: bindFit(gpu, overheads),
    close: async () => {
      await models.close()
      await gpu.close()
    },
  }
}
