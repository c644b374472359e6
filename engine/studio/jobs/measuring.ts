/**
 * What the jobs that measure models share, wherever a model runs: what they need of the studio, which models they take, and the provenance of their
 * figures. Knows nothing of what is measured.
 */
import type { Provenance } from '../../contract/index.ts'
import type { OpenAiClient, RemoteModel } from '../../evaluate/remote/openai-client.ts'
import type { RuntimeInfo } from '../../runtime/types.ts'
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

/** A server as a figure's provenance names it: address, model and, as far as it says, what runs there. Never its key. */
export interface ServerIdentity {
  readonly baseUrl: string
  readonly model: string
  readonly software: string | null
}

export async function identityOf(client: OpenAiClient, model: RemoteModel, signal: AbortSignal): Promise<ServerIdentity> {
  return { baseUrl: client.baseUrl, model: model.id, software: await client.software(model, signal) }
}

/**
 * What makes answers that are kept those of one engine: another version, driver or arithmetic answers anew (specs/evaluation.md §11). Measurements do
 * not load models for matrix units; if one ever runs on them, its answers are apart.
 */
export function engineFingerprint(
  { latheVersion }: Pick<MeasuringParts, 'latheVersion'>,
  { driver }: Pick<CurrentAdapter, 'driver'>,
  { matrixUnits }: Pick<RuntimeInfo, 'matrixUnits'>,
): string {
  return `lathe-${latheVersion}:${driver}${matrixUnits === true ? ':matrix-units' : ''}`
}

/** Of a figure measured now. */
export function provenanceOn(parts: Pick<MeasuringParts, 'latheVersion'>, where: CurrentAdapter | ServerIdentity): Provenance {
  const device =
    'baseUrl' in where
      ? {
          adapter: `remote: ${where.baseUrl}`,
          adapterType: 'unknown' as const,
          driver: where.software === null ? where.model : `${where.model}, ${where.software}`,
        }
      : { adapter: where.name, adapterType: where.type, driver: where.driver }
  return {
    ...device,
    latheVersion: parts.latheVersion,
    platform: `${process.platform} ${process.arch}`,
    measuredAt: new Date().toISOString(),
  }
}
