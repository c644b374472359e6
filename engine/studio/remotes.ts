/**
 * Servers elsewhere as entries of the library, and published results files. Keys live in the environment or in this process's memory, never in the
 * store. What runs on such a server is the jobs' business.
 */
import { basename, resolve } from 'node:path'
import { LatheError } from '../contract/index.ts'
import type { AddRemote, ModelSummary, Provenance } from '../contract/index.ts'
import { OpenAiClient } from '../evaluate/remote/openai-client.ts'
import type { RemoteModel } from '../evaluate/remote/openai-client.ts'
import { publishedRows, readPublishedResults } from '../evaluate/published-results.ts'
import type { Library } from './library.ts'
import type { Results } from './results.ts'
import type { ModelRecord } from './store/model-store.ts'

export interface RemotesParts {
  readonly library: Library
  readonly results: Results
  readonly latheVersion: string
  readonly environment?: Readonly<Record<string, string | undefined>>
}

export class Remotes {
  readonly #parts: RemotesParts
  readonly #keys = new Map<string, string>()

  constructor(parts: RemotesParts) {
    this.#parts = parts
  }

  /** Throws `remote.*` when the server can't be used. */
  async add(request: AddRemote, signal?: AbortSignal): Promise<ModelSummary> {
    const apiKey = request.apiKey ?? this.#fromEnvironment(request.apiKeyVariable)
    const client = new OpenAiClient({ url: request.url, apiKey })
    const model = await client.pick(request.model, signal)
    const summary = this.#parts.library.addExternal({
      origin: 'remote',
      path: `${client.baseUrl}#${model.id}`,
      name: request.name ?? `${model.id} at ${new URL(client.baseUrl).host}`,
      parentId: request.parentId,
      endpoint: { url: client.baseUrl, model: model.id, apiKeyVariable: request.apiKeyVariable },
    })
    this.setKey(summary.id, request.apiKey)
    return summary
  }

  setKey(modelId: string, apiKey: string | null): void {
    if (apiKey === null) this.#keys.delete(modelId)
    else this.#keys.set(modelId, apiKey)
  }

  /** A client for an entry, and the model as the server describes it now. */
  async connect(record: ModelRecord, signal?: AbortSignal): Promise<{ readonly client: OpenAiClient; readonly model: RemoteModel }> {
    if (record.endpoint === null) throw new LatheError('request.invalid', `"${record.name}" is no server.`, 'Choose a server, or add one.')
    const apiKey = this.#keys.get(record.id) ?? this.#fromEnvironment(record.endpoint.apiKeyVariable)
    const client = new OpenAiClient({ url: record.endpoint.url, apiKey })
    try {
      return { client, model: await client.pick(record.endpoint.model, signal) }
    } catch (error) {
      if (!(error instanceof LatheError) || error.code !== 'remote.refused' || apiKey !== null) throw error
      throw new LatheError(
        error.code,
        `${error.message} Lathe has no key for "${record.name}": keys are kept in memory until it closes.`,
        'Add the server to the board again, with its key: it stays the same line, and what was measured stays with it.',
        { cause: error },
      )
    }
  }

  /** A results file, or the folder of one, on a family's board: figures to compare with, item by item where its samples files are beside it. */
  async importPublished(modelId: string, path: string): Promise<ModelSummary> {
    const full = resolve(path)
    const published = await readPublishedResults(full)
    const summary = this.#parts.library.addExternal({
      origin: 'published',
      path: full,
      name: `${basename(published.modelName)} (published)`,
      parentId: modelId,
      endpoint: null,
    })
    const provenance: Provenance = {
      adapter: `published, ${published.version}`,
      adapterType: 'unknown',
      driver: '',
      latheVersion: this.#parts.latheVersion,
      platform: 'elsewhere',
      measuredAt: published.date ?? new Date(0).toISOString(),
    }
    const kept = new Set<string>()
    for (const task of published.tasks) {
      const where = { modelId: summary.id, protocolKey: `published:${task.dataset}:${published.limit ?? 'all'}`, provenance, jobId: null }
      const items = `${task.task} ${task.filter}`
      // Once for each filter, with its first figure.
      const samples = kept.has(items) ? [] : publishedRows(published.samples.get(task.task ?? '') ?? [], task.filter, task.metric)
      kept.add(items)
      this.#parts.results.record({ kind: 'task', payload: task, details: { chosen: [], right: [], margins: [] }, samples }, where)
    }
    return summary
  }

  #fromEnvironment(variable: string | null): string | null {
    return variable === null ? null : ((this.#parts.environment ?? process.env)[variable] ?? null)
  }
}
