/** The jobs at a glance beside any screen. Opens by itself when a job is started, and stays until it is closed. */
import { useCallback } from 'react'
import { useLocation } from 'wouter'
import { useViewStore } from '../../shell/view-store.ts'
import { ButtonLink } from '../../ui/button.tsx'
import { Drawer } from '../../ui/dialog.tsx'
import { JobCard } from './job-card.tsx'
import styles from './jobs.module.css'
import { useJobs } from './queries.ts'

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
  return (
    <div className={styles.trayPanel}>
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
