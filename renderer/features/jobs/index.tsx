/** All jobs: what runs, what waits, what is done. One that is opened shows its log beside the list. */
import { ListChecks } from 'lucide-react'
import { useCallback } from 'react'
import { useLocation } from 'wouter'
import type { Job } from '../../../engine/contract/index.ts'
import { useDelayed } from '../../lib/use-now.ts'
import { Button, ButtonLink } from '../../ui/button.tsx'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard } from '../../ui/state.tsx'
import { JobCard, useJobActions } from './job-card.tsx'
import { JobLog } from './job-log.tsx'
import styles from './jobs.module.css'
import { useJobs } from './queries.ts'

export function JobsScreen({ jobId }: { readonly jobId: string | undefined }) {
  const { running, queued, finished, isPending, error, refetch } = useJobs()
  const { remove } = useJobActions()
  const [, navigate] = useLocation()
  const close = useCallback(() => navigate('/jobs', { replace: true }), [navigate])
  const slow = useDelayed(isPending, 150)
  const all = [...running, ...queued, ...finished]
  const opened = all.find((job) => job.id === jobId)
  return (
    <Page
      title="Jobs"
      body="fill"
      actions={
        finished.length > 0 && (
          <Button
            onClick={() => {
              for (const job of finished) if (job.state === 'succeeded' || job.state === 'cancelled') remove.mutate(job.id)
            }}
            disabled={finished.every((job) => job.state !== 'succeeded' && job.state !== 'cancelled')}
          >
            Clear finished
          </Button>
        )
      }
    >
      <div className={styles.layout}>
        <div className={styles.lists}>
          {error !== null && all.length === 0 ? (
            <ErrorCard error={error} onRetry={refetch} />
          ) : isPending ? (
            slow && <SkeletonLines label="Reading the jobs" lines={6} height="2rem" />
          ) : all.length === 0 ? (
            <EmptyState
              icon={ListChecks}
              title="No jobs"
              actions={
                <ButtonLink variant="primary" href="/optimize">
                  Optimize a model
                </ButtonLink>
              }
            >
              Compressions and evaluations run here, one at a time. They survive a restart, and what is finished stays until you clear it.
            </EmptyState>
          ) : (
            <>
              <JobList title="Running" jobs={running} />
              <JobList title="Queued" jobs={queued} />
              <JobList title="Finished" jobs={finished} />
            </>
          )}
        </div>
        {opened !== undefined && <JobLog key={opened.id} job={opened} onClose={close} />}
      </div>
    </Page>
  )
}

function JobList({ title, jobs }: { readonly title: string; readonly jobs: readonly Job[] }) {
  if (jobs.length === 0) return null
  return (
    <section className={styles.section} aria-label={title}>
      <h2 className={styles.sectionTitle}>
        {title} <span className="numeric">{jobs.length}</span>
      </h2>
      {jobs.map((job) => (
        <JobCard key={job.id} job={job} />
      ))}
    </section>
  )
}
