/**
 * Turns one event of the stream into changes of the query cache: what an event carries is written, what it only announces is refetched.
 * A snapshot that nobody has asked for is left alone, so that its first reader fetches it whole.
 */
import type { QueryClient, QueryKey } from '@tanstack/react-query'
import {
  assertNever,
  type Job,
  type JobLogLine,
  type ModelDetail,
  type ModelSummary,
  type StudioEvent,
} from '../../engine/contract/index.ts'
import type { EngineQueries } from './engine.tsx'

/** Lines kept per job on screen; the engine keeps them all in the job's log file. */
export const LOG_LINES_KEPT = 5000

export function applyEvent(cache: QueryClient, queries: EngineQueries, event: StudioEvent): void {
  switch (event.kind) {
    case 'hello':
      if (!event.resumed) void cache.invalidateQueries()
      return
    case 'model.changed':
      return changeModel(cache, queries, event.model)
    case 'model.removed':
      cache.setQueryData(queries.models.list.queryKey(), (models?: ModelSummary[]) => models?.filter((model) => model.id !== event.modelId))
      cache.removeQueries({ queryKey: queries.models.get.key({ input: { modelId: event.modelId } }) })
      void cache.invalidateQueries({ queryKey: queries.models.get.key() })
      void cache.invalidateQueries({ queryKey: queries.results.board.key() })
      void cache.invalidateQueries({ queryKey: queries.optimize.presets.key() })
      return
    case 'job.changed':
      cache.setQueryData(queries.jobs.list.queryKey(), (jobs?: Job[]) => upsert(jobs, event.job))
      refetchIfInFlight(cache, queries.jobs.list.queryKey())
      cache.setQueryData(queries.jobs.get.queryKey({ input: { jobId: event.job.id } }), (job?: Job) => job && event.job)
      return
    case 'job.removed':
      cache.setQueryData(queries.jobs.list.queryKey(), (jobs?: Job[]) => jobs?.filter((job) => job.id !== event.jobId))
      cache.removeQueries({ queryKey: queries.jobs.get.key({ input: { jobId: event.jobId } }) })
      return
    case 'job.log':
      cache.setQueryData(queries.jobs.log.queryKey({ input: { jobId: event.jobId } }), (lines?: JobLogLine[]) =>
        lines === undefined ? undefined : [...lines, event.line].slice(-LOG_LINES_KEPT),
      )
      return
    case 'results.changed':
      void cache.invalidateQueries({ queryKey: queries.results.key() })
      void cache.invalidateQueries({ queryKey: queries.optimize.presets.key() })
      void cache.invalidateQueries({ queryKey: queries.capacity.key() })
      void cache.invalidateQueries({ queryKey: queries.monitor.watches.key() })
      return
    case 'threads.changed':
      void cache.invalidateQueries({ queryKey: queries.chat.threads.key() })
      void cache.invalidateQueries({ queryKey: queries.chat.messages.key({ input: { threadId: event.threadId } }) })
      return
    case 'hardware.changed':
      void cache.invalidateQueries({ queryKey: queries.system.hardware.key() })
      return
    case 'server.changed':
      void cache.invalidateQueries({ queryKey: queries.server.view.key() })
      return
    case 'settings.changed':
      void cache.invalidateQueries({ queryKey: queries.settings.get.key() })
      void cache.invalidateQueries({ queryKey: queries.optimize.presets.key() })
      return
    default:
      assertNever(event, 'event')
  }
}

function changeModel(cache: QueryClient, queries: EngineQueries, model: ModelSummary): void {
  cache.setQueryData(queries.models.list.queryKey(), (models?: ModelSummary[]) => upsert(models, model))
  refetchIfInFlight(cache, queries.models.list.queryKey())
  cache.setQueryData(
    queries.models.get.queryKey({ input: { modelId: model.id } }),
    (detail?: ModelDetail) => detail && { ...detail, summary: model },
  )
  if (model.parentId === null) return
  // A variant is listed in its source's detail, on its board, and as "exists already" beside its preset.
  void cache.invalidateQueries({ queryKey: queries.models.get.key({ input: { modelId: model.parentId } }) })
  void cache.invalidateQueries({ queryKey: queries.results.board.key({ input: { modelId: model.parentId } }) })
  void cache.invalidateQueries({ queryKey: queries.optimize.presets.key({ input: { modelId: model.parentId } }) })
}

/** A snapshot under way may have been taken before this event and would overwrite it when it lands: drop it and ask again. */
function refetchIfInFlight(cache: QueryClient, queryKey: QueryKey): void {
  if (cache.getQueryState(queryKey)?.fetchStatus !== 'fetching') return
  // Invalidating alone would join a first fetch instead of replacing it.
  void cache.cancelQueries({ queryKey, exact: true }).then(() => cache.invalidateQueries({ queryKey, exact: true }))
}

function upsert<T extends { readonly id: string }>(items: readonly T[] | undefined, item: T): T[] | undefined {
  if (items === undefined) return undefined
  return items.some((other) => other.id === item.id) ? items.map((other) => (other.id === item.id ? item : other)) : [...items, item]
}
