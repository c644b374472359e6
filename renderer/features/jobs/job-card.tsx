/** One job: where it stands, how long it will take, what can be done with it. The same card in the tray and on the page. */
import { useMutation } from '@tanstack/react-query'
import { FileText, GitCompareArrows, Play, TriangleAlert, X } from 'lucide-react'
import { useState, type ReactNode } from 'react'
import { Link } from 'wouter'
import type { Job } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatBytes, formatDuration, formatEta, formatRelativeTime } from '../../lib/format.ts'
import { toUiError } from '../../lib/errors.ts'
import { useNow } from '../../lib/use-now.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button, ButtonLink, IconButton } from '../../ui/button.tsx'
import { DotList } from '../../ui/dot-list.tsx'
import { ProgressBar, Stepper } from '../../ui/progress.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { showToast } from '../../ui/toast.tsx'
import { elapsedSeconds, layerLine, stalledSeconds, stateView, statusLine, takenOverLine } from './job-view.ts'
import styles from './jobs.module.css'
import { LayerStrip } from './layer-strip.tsx'
import { isActive } from './queries.ts'

function failed(error: unknown): void {
  showToast({ type: 'error', title: 'That did not work', description: toUiError(error).message })
}

export function useJobActions() {
  const { client } = useEngine()
  const cancel = useMutation({ mutationFn: (jobId: string) => client.jobs.cancel({ jobId }), onError: failed })
  const resume = useMutation({ mutationFn: (jobId: string) => client.jobs.resume({ jobId }), onError: failed })
  const remove = useMutation({ mutationFn: (jobId: string) => client.jobs.remove({ jobId }), onError: failed })
  return { cancel, resume, remove }
}

/** Seconds since this job last changed, so that a stall shows even if the engine says nothing at all. */
function useSecondsSinceNews(job: Job): number {
  const active = isActive(job)
  const now = useNow(active ? 1000 : null)
  const [news, setNews] = useState({ job, at: now })
  if (news.job !== job) setNews({ job, at: now })
  return active ? Math.max(0, (now - news.at) / 1000) : 0
}

export function JobCard({ job, compact = false }: { readonly job: Job; readonly compact?: boolean }) {
  const { cancel, resume, remove } = useJobActions()
  const active = isActive(job)
  const sinceNews = useSecondsSinceNews(job)
  const now = useNow(active ? 1000 : 60_000)
  const view = stateView(job.state)
  const stalled = stalledSeconds(job, sinceNews)
  const elapsed = elapsedSeconds(job, now)
  // The button answers at once; the engine follows within a step.
  const cancelling = job.state === 'cancelling' || (cancel.isPending && active)
  const takenOver = job.layers === null ? null : takenOverLine(job.layers)
  const eta = job.etaSeconds === null ? null : formatEta(job.etaSeconds)
  const facts = [
    ...(cancelling
      ? ['finishing the current step']
      : statusLine(job, sinceNews).map((fact) => (fact === eta ? <Estimated key="eta">{fact}</Estimated> : fact))),
    ...(elapsed === null ? [] : [active ? `${formatDuration(elapsed)} elapsed` : `took ${formatDuration(elapsed)}`]),
    ...(job.peakRssBytes === null ? [] : [`${formatBytes(job.peakRssBytes, 'memory')} peak memory`]),
    ...(typeof job.layers?.deviceBytes === 'number' ? [`${formatBytes(job.layers.deviceBytes, 'memory')} peak GPU memory`] : []),
    ...(compact && takenOver !== null ? [takenOver] : []),
    ...(job.endedAt === null ? [] : [formatRelativeTime(job.endedAt, now)]),
  ]
  return (
    <article className={styles.card} data-compact={compact || undefined} aria-label={job.title}>
      <div className={styles.head}>
        <h3 className={styles.title}>
          <Link href={`/jobs/${job.id}`}>{job.title}</Link>
        </h3>
        <Badge tone={cancelling ? 'warning' : view.tone}>{cancelling ? 'Cancelling…' : view.title}</Badge>
        {!active && !compact && <IconButton label="Remove from the list" icon={X} size="small" onClick={() => remove.mutate(job.id)} />}
      </div>
      {job.state !== 'succeeded' && (
        <ProgressBar
          label={`Progress of ${job.title}`}
          value={job.state === 'running' && job.progress === 0 ? null : job.progress}
          tone={stalled !== null ? 'warning' : cancelling ? 'warning' : view.bar}
        />
      )}
      {!compact && (active || job.state === 'failed' || job.state === 'interrupted') && <Stepper phases={job.phases} halted={!active} />}
      <DotList className={styles.facts} items={facts} />
      {active && !compact && (layerLine(job.layers) ?? job.currentItem) !== null && (
        <p className={styles.item}>{layerLine(job.layers) ?? job.currentItem}</p>
      )}
      {job.layers !== null && job.layers.total > 0 && !compact && <LayerStrip job={job} layers={job.layers} />}
      {stalled !== null && (
        <p className={styles.stalled}>
          <TriangleAlert size={14} aria-hidden /> No progress for {stalled} s
        </p>
      )}
      {job.error !== null && job.state !== 'cancelled' && <ErrorCard error={job.error} />}
      <div className={styles.actions}>
        {active && (
          <Button size="small" icon={X} disabled={cancelling} onClick={() => cancel.mutate(job.id)}>
            {cancelling ? 'Cancelling…' : 'Cancel'}
          </Button>
        )}
        {job.resumable && !active && (
          <Button size="small" variant="primary" icon={Play} busy={resume.isPending} onClick={() => resume.mutate(job.id)}>
            Resume
          </Button>
        )}
        {job.state === 'succeeded' && (
          <ButtonLink size="small" variant={compact ? 'secondary' : 'primary'} icon={GitCompareArrows} href={`/compare/${job.modelId}`}>
            Compare
          </ButtonLink>
        )}
        {job.state === 'succeeded' && job.variantId !== null && (
          <ButtonLink size="small" href={`/models/${job.variantId}`}>
            Open the variant
          </ButtonLink>
        )}
        {!compact && (
          <ButtonLink size="small" variant="ghost" icon={FileText} href={`/jobs/${job.id}`}>
            Log
          </ButtonLink>
        )}
      </div>
    </article>
  )
}

/** Everything else in the row is measured; what is guessed looks different, as everywhere. */
function Estimated({ children }: { readonly children: ReactNode }) {
  return (
    <span className={styles.estimate} title="An estimate, from the speed so far">
      {children}
    </span>
  )
}
