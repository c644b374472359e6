/** Measuring what stands on a board: folders as they always are, servers by text, by the tasks that their original has answered, and by a load. */
import { useMutation } from '@tanstack/react-query'
import type { EvaluationOptions, Job } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { plural } from '../../lib/format.ts'
import { useViewStore } from '../../shell/view-store.ts'
import { showToast } from '../../ui/toast.tsx'
import type { Entry } from './metrics.ts'
import { canBeMeasured } from './queries.ts'

interface Measure {
  readonly entries: readonly Entry[]
  readonly source: Entry | undefined
  /** Pinned; drift is measured from it. */
  readonly baseline: Entry
  readonly evaluate: EvaluationOptions
}

/** Tasks that were run on the original, by their own names. */
function tasksOf(source: Entry | undefined): string[] {
  const tasks = source?.result?.tasks.filter((task) => task.origin === 'measured' && task.outputType !== 'probe') ?? []
  return [...new Set(tasks.map((task) => task.task ?? task.name))]
}

export function useMeasure() {
  const { client } = useEngine()
  const setJobsTrayOpen = useViewStore((state) => state.setJobsTrayOpen)
  return useMutation({
    mutationFn: async ({ entries, source, baseline, evaluate }: Measure): Promise<readonly Job[]> => {
      const idsOf = (origin: Entry['model']['origin']) =>
        entries.filter((entry) => entry.model.origin === origin && canBeMeasured(entry)).map((entry) => entry.model.id)
      const [folders, servers] = [idsOf('folder'), idsOf('remote')]
      const tasks = tasksOf(source)
      const baselineId = baseline.isSource || !canBeMeasured(baseline) ? null : baseline.model.id
      const jobs: Job[] = []
      if (folders.length > 0) jobs.push(...(await client.results.evaluate({ modelIds: folders, evaluate, baselineId })))
      if (evaluate.perplexity && servers.length > 0) {
        const text = { perplexity: true, tasks: false, throughput: false }
        jobs.push(...(await client.results.evaluate({ modelIds: servers, evaluate: text, baselineId })))
      }
      if (evaluate.tasks && servers.length > 0 && tasks.length > 0)
        jobs.push(...(await client.results.evaluateTasks({ modelIds: servers, options: { tasks } })))
      if (evaluate.throughput) for (const modelId of servers) jobs.push(await client.benchmarks.start({ modelId, profile: 'concurrent' }))
      return jobs
    },
    onSuccess: (jobs) => {
      setJobsTrayOpen(true)
      showToast({ title: jobs.length === 1 ? 'One measurement is queued' : `${plural(jobs.length, 'measurement')} are queued` })
    },
  })
}
