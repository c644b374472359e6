/** The board of a family as entries with a stable identity. */
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { useMemo } from 'react'
import type { ModelSummary, ResultSet } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import type { Entry } from './metrics.ts'

/** The source is series 0; variants follow by age, so that a new one never changes the colours of the old. */
export function entriesOf(models: readonly ModelSummary[], results: readonly ResultSet[]): readonly Entry[] {
  const byId = new Map(results.map((result) => [result.modelId, result]))
  const source = models.find((model) => model.parentId === null)
  const variants = models.filter((model) => model !== source).sort((one, other) => one.createdAt.localeCompare(other.createdAt))
  return [...(source === undefined ? [] : [source]), ...variants].map((model, index) => ({
    model,
    result: byId.get(model.id) ?? null,
    series: source === undefined ? index + 1 : index,
    isSource: model === source,
  }))
}

/** Verdicts are made against `margin`, the loss that the user allows; the earlier board stays while they are made anew. */
export function useBoard(modelId: string, margin: number) {
  const { queries } = useEngine()
  const query = useQuery({
    ...queries.results.board.queryOptions({ input: { modelId, margin } }),
    placeholderData: keepPreviousData,
  })
  const entries = useMemo(() => (query.data === undefined ? null : entriesOf(query.data.models, query.data.results)), [query.data])
  return { entries, error: query.error, isPending: query.isPending, refetch: () => void query.refetch() }
}

export function isMeasured(entry: Entry): boolean {
  const { result } = entry
  return (
    result !== null &&
    (result.perplexity !== null || result.throughput !== null || result.tasks.length > 0 || result.drift !== null || result.served !== null)
  )
}

/** Whether it can be asked anything: a results file can't, nor a folder that is gone. Its figures stay on the board. */
export function canBeMeasured({ model }: Entry): boolean {
  return model.origin !== 'published' && model.status !== 'missing'
}
