/** The job list, split the way the screens need it. Pure functions, so that rail, tray and page agree. */
import { useQuery } from '@tanstack/react-query'
import type { Job } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'

export interface JobLists {
  readonly running: readonly Job[]
  readonly queued: readonly Job[]
  /** Newest first. */
  readonly finished: readonly Job[]
}

const NO_JOBS: JobLists = { running: [], queued: [], finished: [] }

export function isActive(job: Job): boolean {
  return job.state === 'running' || job.state === 'cancelling' || job.state === 'queued'
}

export function splitJobs(jobs: readonly Job[] | undefined): JobLists {
  if (jobs === undefined) return NO_JOBS
  return {
    running: jobs.filter((job) => job.state === 'running' || job.state === 'cancelling'),
    queued: jobs.filter((job) => job.state === 'queued').sort((one, other) => one.queuePosition - other.queuePosition),
    finished: jobs
      .filter((job) => !isActive(job))
      .sort((one, other) => (other.endedAt ?? other.createdAt).localeCompare(one.endedAt ?? one.createdAt)),
  }
}

/** Jobs count equally: their own progress is already weighted by time. */
export function overallProgress(jobs: readonly Job[]): number {
  if (jobs.length === 0) return 0
  return jobs.reduce((sum, job) => sum + job.progress, 0) / jobs.length
}

export function useJobs(): JobLists & { readonly isPending: boolean; readonly error: unknown; readonly refetch: () => void } {
  const { queries } = useEngine()
  const query = useQuery(queries.jobs.list.queryOptions())
  return { ...splitJobs(query.data), isPending: query.isPending, error: query.error, refetch: () => void query.refetch() }
}
