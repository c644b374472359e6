/** Parts of the engine that are not in this build yet. Each says so when it is used; deleted as the real bindings land. */
import { LatheError } from '../../contract/index.ts'
import type { CompressPort, ModelsPort } from '../ports.ts'

function arriving(what: string): never {
  throw new LatheError('internal', `${what} is not in this build yet.`, 'Update Lathe.')
}

export const pendingModels: ModelsPort = {
  acquire: async () => arriving('Running models'),
  loaded: () => [],
  unload: async () => {},
  scorePair: async () => arriving('Running models'),
  peakGpuBytes: () => 0,
  profile: async () => arriving('Running models'),
}

export const pendingCompressor: CompressPort = {
  listPresets: () => [],
  predict: async () => arriving('Compression'),
  compress: async () => arriving('Compression'),
  discardPartial: async () => {},
}
