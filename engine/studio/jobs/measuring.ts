/**
 * What the jobs that measure models share, wherever a model runs: what they need of the studio, which models they take, and the provenance of their
 * figures. Knows nothing of what is measured.
 */
import type { Provenance } from '../../contract/index.ts'
import type { OpenAiClient } from '../../evaluate/remote/openai-client.ts'
import type { Library } from '../library.ts'
import type { CurrentAdapter, GpuPort, ModelsPort, TokenizerPort } from '../ports.ts'
import type { Remotes } from '../remotes.ts'
import type { Results } from '../results.ts'
import type { ModelRecord } from '../store/model-store.ts'
import type { EvaluatorParts } from './evaluator.ts'

export interface MeasuringParts {
  readonly library: Library
  readonly results: Results
  readonly remotes: Remotes
  readonly models: ModelsPort
  readonly tokenizers: TokenizerPort
  readonly gpu: GpuPort
  readonly loadSettings: EvaluatorParts['loadSettings']
  readonly latheVersion: string
}

/** A server of the library, or a folder that can be run here. Throws the LatheError that says why a folder can't. */
export async function measurable(library: Library, modelId: string): Promise<ModelRecord> {
  const record = library.record(modelId)
  return record.origin === 'remote' && record.removedAt === null ? record : library.runnable(modelId)
}

/** Of a figure measured now. */
export function provenanceOn(parts: Pick<MeasuringParts, 'latheVersion'>, where: CurrentAdapter | OpenAiClient): Provenance {
  const device =
    'baseUrl' in where
      ? { adapter: `remote: ${where.baseUrl}`, adapterType: 'unknown' as const, driver: '' }
      : { adapter: where.name, adapterType: where.type, driver: where.driver }
  return {
    ...device,
    latheVersion: parts.latheVersion,
    platform: `${process.platform} ${process.arch}`,
    measuredAt: new Date().toISOString(),
  }
}
