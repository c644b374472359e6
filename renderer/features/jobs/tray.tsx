/** The jobs at a glance beside any screen. Opens by itself when a job is started, and goes when all are done. */
import { useCallback, useEffect, useRef } from 'react'
import { useLocation } from 'wouter'
import { useViewStore } from '../../shell/view-store.ts'
import { ButtonLink } from '../../ui/button.tsx'
import { Drawer } from '../../ui/dialog.tsx'
import { JobCard } from './job-card.tsx'
import styles from './jobs.module.css'
import { useJobs } from './queries.ts'

/** Long enough to read the result and press Compare. */
const CLOSE_AFTER_MS = 8000
/** Older ones are on the page. */
const FINISHED_SHOWN = 3

export function JobsTray() {
  const open = useViewStore((state) => state.jobsTrayOpen)
  const [location] = useLocation()
  // The page shows the same cards, larger.
  return open && !location.startsWith('/jobs') ? <OpenTray /> : null
}

function OpenTray() {
  const setOpen = useViewStore((state) => state.setJobsTrayOpen)
  const { running, queued, finished } = useJobs()
  const jobs = [...running, ...queued, ...finished.slice(0, FINISHED_SHOWN)]
  const close = useCallback(() => setOpen(false), [setOpen])
  const panel = useRef<HTMLDivElement>(null)
  const idle = running.length === 0 && queued.length === 0
  const hasWorked = useRef(!idle)
  useEffect(() => {
    if (!idle) hasWorked.current = true
    if (!idle || !hasWorked.current) return
    // Opened to watch jobs, it goes when they are done, unless somebody is using it.
    const timer = setInterval(() => {
      if (panel.current?.matches(':hover, :focus-within') !== true) close()
    }, CLOSE_AFTER_MS)
    return () => clearInterval(timer)
  }, [idle, close])
  return (
    <div ref={panel} className={styles.trayPanel}>
      <Drawer
        title="Jobs"
        onClose={close}
        footer={
          <ButtonLink size="small" href="/jobs">
            All jobs
          </ButtonLink>
        }
      >
        {jobs.length === 0 ? (
          <p className={styles.quiet}>Nothing is running.</p>
        ) : (
          <div className={styles.tray}>
            {jobs.map((job) => (
              <JobCard key={job.id} job={job} compact />
            ))}
          </div>
        )}
      </Drawer>
    </div>
  )
}
