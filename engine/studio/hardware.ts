/** What this machine offers and what Lathe holds of it right now: adapters and memory from the GPU port, the host from the operating system. */
import { cpus, freemem, totalmem } from 'node:os'
import type { Hardware } from '../contract/index.ts'
import type { GpuPort, ModelsPort } from './ports.ts'

export async function readHardware(gpu: GpuPort, models: ModelsPort): Promise<Hardware> {
  const processors = cpus()
  return {
    ...(await gpu.state()),
    host: {
      platform: `${process.platform} ${process.arch}`,
      cpu: processors[0]?.model.trim() ?? 'unknown',
      cores: processors.length,
      totalMemoryBytes: totalmem(),
      freeMemoryBytes: freemem(),
      nodeVersion: process.versions.node,
      engineRssBytes: process.memoryUsage.rss(),
    },
    loaded: models.loaded().map((model) => ({ ...model })),
  }
}
