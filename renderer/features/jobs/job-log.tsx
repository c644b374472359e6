/** The log of one job, following its end for as long as the reader is at the end. */
import { useQuery } from '@tanstack/react-query'
import { useVirtualizer } from '@tanstack/react-virtual'
import { Copy } from 'lucide-react'
import { useEffect, useRef } from 'react'
import type { Job } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useDelayed } from '../../lib/use-now.ts'
import { Button } from '../../ui/button.tsx'
import { Drawer } from '../../ui/dialog.tsx'
import { useHost } from '../../ui/host-context.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { showToast } from '../../ui/toast.tsx'
import styles from './jobs.module.css'

const LINE_PX = 20
/** Nearer to the end than this counts as "at the end". */
const STICK_PX = 24

const timeFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })

export function JobLog({ job, onClose }: { readonly job: Job; readonly onClose: () => void }) {
  const { queries } = useEngine()
  const host = useHost()
  const log = useQuery(queries.jobs.log.queryOptions({ input: { jobId: job.id } }))
  const slow = useDelayed(log.isPending, 150)
  const box = useRef<HTMLDivElement>(null)
  const following = useRef(true)
  const lines = log.data ?? []
  const virtualizer = useVirtualizer({
    count: lines.length,
    getScrollElement: () => box.current,
    estimateSize: () => LINE_PX,
    overscan: 20,
    initialRect: { width: 320, height: 600 },
  })
  useEffect(() => {
    if (following.current && lines.length > 0) virtualizer.scrollToIndex(lines.length - 1, { align: 'end' })
  }, [lines.length, virtualizer])
  const copy = async () => {
    await host.copyText(lines.map((line) => `${line.at} ${line.level} ${line.text}`).join('\n'))
    showToast({ title: 'Log copied' })
  }
  return (
    <Drawer
      title={job.title}
      onClose={onClose}
      footer={
        <Button size="small" icon={Copy} disabled={lines.length === 0} onClick={() => void copy()}>
          Copy log
        </Button>
      }
    >
      {log.error !== null ? (
        <ErrorCard error={log.error} onRetry={() => void log.refetch()} />
      ) : log.data === undefined ? (
        slow && <SkeletonLines label="Reading the log" lines={10} />
      ) : lines.length === 0 ? (
        <p className={styles.quiet}>Nothing logged yet.</p>
      ) : (
        <div
          ref={box}
          className={styles.log}
          tabIndex={0}
          role="log"
          aria-label={`Log of ${job.title}`}
          aria-live="off"
          onScroll={(event) => {
            const { scrollHeight, scrollTop, clientHeight } = event.currentTarget
            following.current = scrollHeight - scrollTop - clientHeight < STICK_PX
          }}
        >
          <div style={{ height: virtualizer.getTotalSize(), position: 'relative' }}>
            {virtualizer.getVirtualItems().map((item) => {
              const line = lines[item.index]
              return line === undefined ? null : (
                <p
                  key={item.key}
                  data-index={item.index}
                  ref={virtualizer.measureElement}
                  className={styles.line}
                  data-level={line.level}
                  style={{ transform: `translateY(${item.start}px)` }}
                >
                  <time dateTime={line.at}>{timeFormat.format(Date.parse(line.at))}</time>
                  {line.level !== 'info' && <strong>{line.level === 'warn' ? 'warning' : 'error'}</strong>} {line.text}
                </p>
              )
            })}
          </div>
        </div>
      )}
    </Drawer>
  )
}
