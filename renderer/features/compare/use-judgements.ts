/**
 * Comparisons of tasks with the pinned baseline: those on the board where the baseline is the one that it was made with, else made on demand from
 * the stored items.
 */
import { useQueries } from '@tanstack/react-query'
import type { PairedComparison, TaskComparison } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import type { Entry } from './metrics.ts'
import { isShareOf } from './task-metrics.ts'

export interface Judgement {
  readonly modelId: string
  readonly task: string
  readonly title: string
  readonly n: number
  /** Written in points of a percentage; else in the metric's own unit. */
  readonly isShare: boolean
  readonly paired: PairedComparison | null
  /** Why it is null. */
  readonly reason: string | null
}

/** One row of the table, whoever made the judgement. */
function judgementKey(task: string, metric: string, filter: string): string {
  return `${task} ${metric} ${filter}`
}

/** What the board itself says against this baseline; empty where it was made against another. */
export function boardJudgements(entry: Entry, baselineId: string): readonly Judgement[] {
  return (entry.result?.tasks ?? []).flatMap((task) =>
    task.paired?.baselineId === baselineId && task.paired.verdict !== null
      ? [
          {
            modelId: entry.model.id,
            task: judgementKey(task.task ?? task.name, task.metric, task.filter),
            title: task.title,
            n: task.n,
            isShare: isShareOf(task),
            paired: task.paired,
            reason: null,
          },
        ]
      : [],
  )
}

function madeJudgement(modelId: string, comparison: TaskComparison): Judgement {
  const { task, metric, filter, title, n, paired, reason, value } = comparison
  const isShare = comparison.higherIsBetter && value !== null && value >= 0 && value <= 1
  const isBlind = paired !== null && paired.pairing === 'unpaired' && paired.standardError === null
  return {
    modelId,
    task: judgementKey(task, metric, filter),
    title,
    n,
    isShare,
    paired: paired?.verdict === null ? null : paired,
    reason: isBlind ? 'One of the two scores comes without a standard error: there is no telling whether they differ.' : reason,
  }
}

export function useJudgements(others: readonly Entry[], baseline: Entry, margin: number): readonly Judgement[] {
  const { queries } = useEngine()
  const known = others.map((entry) => boardJudgements(entry, baseline.model.id))
  const wanted = others.filter((entry, index) => known[index]?.length === 0 && (entry.result?.tasks.length ?? 0) > 0)
  const made = useQueries({
    queries: wanted.map((entry) =>
      queries.results.compare.queryOptions({ input: { baselineId: baseline.model.id, modelId: entry.model.id, margin } }),
    ),
  })
  const onDemand = wanted.flatMap((entry, index) => made[index]?.data?.map((comparison) => madeJudgement(entry.model.id, comparison)) ?? [])
  return [...known.flat(), ...onDemand]
}
