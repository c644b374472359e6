/** Tells of job milestones: a toast and a system notification when one ends, a polite live region for each phase. Never every percent. */
import { useEffect, useRef, useState } from 'react'
import { useLocation } from 'wouter'
import { useQuery } from '@tanstack/react-query'
import type { Job } from '../../engine/contract/index.ts'
import { useEngine } from '../data/engine.tsx'
import { isActive, overallProgress } from '../features/jobs/queries.ts'
import { useHost } from '../ui/host-context.tsx'
import { showToast } from '../ui/toast.tsx'

export function JobAnnouncer({ notifications }: { readonly notifications: boolean }) {
  const { queries } = useEngine()
  const host = useHost()
  const [, navigate] = useLocation()
  const { data: jobs } = useQuery(queries.jobs.list.queryOptions())
  const known = useRef<ReadonlyMap<string, Job> | null>(null)
  const [spoken, setSpoken] = useState('')
  useEffect(() => {
    if (jobs === undefined) return
    const before = known.current
    known.current = new Map(jobs.map((job) => [job.id, job]))
    if (before === null) return
    for (const job of jobs) {
      const milestone = milestoneOf(before.get(job.id), job)
      if (milestone === null) continue
      setSpoken(milestone.text)
      if (milestone.ended) {
        showToast({
          type: job.state === 'succeeded' ? 'success' : job.state === 'failed' ? 'error' : 'info',
          title: milestone.text,
          ...(job.error === null ? {} : { description: job.error.message }),
          action: { title: 'Show', onPress: () => navigate(job.state === 'succeeded' ? `/compare/${job.modelId}` : `/jobs/${job.id}`) },
        })
        if (notifications && job.state !== 'cancelled') host.notify(milestone.text, job.error?.message ?? '')
      }
    }
  }, [jobs, navigate, host, notifications])
  useEffect(() => {
    const active = (jobs ?? []).filter(isActive)
    host.setProgress(active.length === 0 ? null : overallProgress(active))
  }, [jobs, host])
  useEffect(() => host.guardQuit(() => [...(known.current?.values() ?? [])].some(isActive)), [host])
  return (
    <div aria-live="polite" className="visually-hidden">
      {spoken}
    </div>
  )
}

export function milestoneOf(before: Job | undefined, now: Job): { readonly text: string; readonly ended: boolean } | null {
  if (before === undefined) return { text: `${now.title}: ${now.state === 'running' ? 'started' : 'queued'}`, ended: false }
  if (before.state !== now.state) {
    switch (now.state) {
      case 'running':
        return { text: `${now.title}: started`, ended: false }
      case 'succeeded':
        return { text: `${now.title}: finished`, ended: true }
      case 'failed':
        return { text: `${now.title}: failed`, ended: true }
      case 'cancelled':
        return { text: `${now.title}: cancelled`, ended: true }
      default:
        return null
    }
  }
  const phase = now.phases.find((candidate) => candidate.state === 'running')
  const phaseBefore = before.phases.find((candidate) => candidate.state === 'running')
  return phase !== undefined && phase.id !== phaseBefore?.id ? { text: `${now.title}: ${phase.title}`, ended: false } : null
}
