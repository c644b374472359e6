/** Server: models of the library behind an OpenAI-compatible address, set up, started, watched and stopped. */
import { Square } from 'lucide-react'
import { useState } from 'react'
import type { ServerLogLine, ServerView } from '../../../engine/contract/index.ts'
import { toUiError } from '../../lib/errors.ts'
import { formatClock, formatDateTime } from '../../lib/format.ts'
import { Badge, type Tone } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Card, Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { AddressCard } from './address-card.tsx'
import { ModelsCard } from './models-card.tsx'
import { useServer, useStartServer, useStopServer, useTestServer } from './queries.ts'
import { RequestsCard } from './requests-card.tsx'
import styles from './server.module.css'
import { SetupCard } from './setup-card.tsx'

const STATES: Readonly<Record<ServerView['state'], { readonly title: string; readonly tone: Tone }>> = {
  stopped: { title: 'Stopped', tone: 'neutral' },
  starting: { title: 'Starting', tone: 'accent' },
  running: { title: 'Running', tone: 'positive' },
  stopping: { title: 'Stopping', tone: 'neutral' },
}

export function ServerScreen() {
  const server = useServer()
  const start = useStartServer()
  const stop = useStopServer()
  const test = useTestServer()
  const [otherPort, setOtherPort] = useState<number | null>(null)
  const view = server.data
  if (view === undefined) {
    return (
      <Page title="Server">
        {server.error === null ? (
          <SkeletonLines label="Asking for the server" lines={4} height="3rem" />
        ) : (
          <ErrorCard error={server.error} onRetry={() => void server.refetch()} />
        )}
      </Page>
    )
  }
  const failure = view.state === 'stopped' ? (start.error ?? view.error) : null
  // What was just pressed is answered where it was pressed; what the last run left stands at the top.
  const pressed = start.error !== null
  const nextPort = freePortAfter(failure, view.config?.port ?? null)
  const up = view.state === 'running' || view.state === 'stopping'
  const state = STATES[view.state]
  const failed = failure !== null && (
    <ErrorCard
      error={failure}
      actions={
        nextPort !== null &&
        nextPort !== otherPort && (
          <Button size="small" variant="primary" onClick={() => setOtherPort(nextPort)}>
            Use {nextPort}
          </Button>
        )
      }
    />
  )
  return (
    <Page
      title="Server"
      titleExtra={<Badge tone={state.tone}>{state.title}</Badge>}
      subtitle="Your models behind an address that OpenAI’s and Anthropic’s clients understand."
      actions={
        up && (
          <Button icon={Square} busy={stop.isPending || view.state === 'stopping'} onClick={() => stop.mutate()}>
            Stop server
          </Button>
        )
      }
    >
      <div className={styles.screen}>
        {server.error !== null && <ErrorCard error={server.error} onRetry={() => void server.refetch()} />}
        {stop.error !== null && <ErrorCard error={stop.error} />}
        {test.error !== null && <ErrorCard error={test.error} />}
        {!pressed && failed}
        {up ? (
          <>
            <AddressCard view={view} />
            <ModelsCard view={view} />
          </>
        ) : (
          <SetupCard
            key={`${view.config === null ? 'new' : view.config.modelIds.join(' ')} ${otherPort} ${view.keyHint}`}
            config={view.config}
            keyHint={view.keyHint}
            port={otherPort}
            starting={start.isPending || view.state === 'starting'}
            onStart={(config) => start.mutate(config)}
            onCancel={() => stop.mutate()}
          >
            {pressed && failed}
          </SetupCard>
        )}
        {view.state === 'starting' && view.models.length > 0 && <ModelsCard view={view} />}
        {(up || view.requests.length > 0) && (
          <RequestsCard
            view={view}
            test={view.state === 'running' ? { busy: test.isPending, result: test.data ?? null, send: () => test.mutate() } : null}
          />
        )}
        {view.log.length > 0 && <LogCard log={view.log} />}
      </div>
    </Page>
  )
}

/** The port after one that somebody else has; null where that is not what went wrong. */
function freePortAfter(failure: unknown, port: number | null): number | null {
  const { message } = failure === null ? { message: '' } : toUiError(failure)
  return port !== null && port > 0 && port < 65_535 && message === `Port ${port} is in use.` ? port + 1 : null
}

function LogCard({ log }: { readonly log: readonly ServerLogLine[] }) {
  return (
    <Card title="Log">
      <ol className={styles.log} aria-label="Log of the server, newest first" tabIndex={0}>
        {log.toReversed().map((line, index) => (
          <li key={log.length - index} data-level={line.level}>
            <time dateTime={line.at} title={formatDateTime(line.at)}>
              {formatClock(line.at)}
            </time>
            {line.level !== 'info' && <Badge tone={line.level === 'error' ? 'danger' : 'warning'}>{line.level}</Badge>}
            <span>{line.text}</span>
          </li>
        ))}
      </ol>
    </Card>
  )
}
