/** What the server is doing, request by request: who waits, who is read in, who writes, how fast, and what the cache saved. */
import { X } from 'lucide-react'
import type { LiveServerRequest, ServerView } from '../../../engine/contract/index.ts'
import { formatInteger, formatPercent } from '../../lib/format.ts'
import { Badge, type Tone } from '../../ui/badge.tsx'
import { IconButton } from '../../ui/button.tsx'
import { Duration, Rate } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { ProgressBar } from '../../ui/progress.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { useAbortRequest } from './queries.ts'
import styles from './server.module.css'

const STATES: Readonly<Record<LiveServerRequest['state'], { readonly title: string; readonly tone: Tone }>> = {
  queued: { title: 'Queued', tone: 'neutral' },
  prefill: { title: 'Reading', tone: 'accent' },
  decode: { title: 'Writing', tone: 'accent' },
  finished: { title: 'Finished', tone: 'positive' },
  aborted: { title: 'Aborted', tone: 'warning' },
  failed: { title: 'Failed', tone: 'danger' },
}

export function isRunning({ state }: LiveServerRequest): boolean {
  return state === 'queued' || state === 'prefill' || state === 'decode'
}

export function RequestsCard({ view }: { readonly view: ServerView }) {
  const abort = useAbortRequest()
  const running = view.requests.filter(isRunning).length
  return (
    <Card
      title="Requests"
      actions={
        <span className={styles.quiet}>
          {formatInteger(running)} running, {formatInteger(view.blocksUsed)} of {formatInteger(view.blocksTotal)} KV blocks in use
        </span>
      }
    >
      {abort.error !== null && <ErrorCard error={abort.error} />}
      {view.requests.length === 0 ? (
        <p className={styles.quiet}>None yet. Each request appears here as it arrives.</p>
      ) : (
        <Table label="Requests" dense onSurface className={styles.requests}>
          <thead>
            <tr>
              <HeaderCell>Request</HeaderCell>
              <HeaderCell>State</HeaderCell>
              <HeaderCell align="end">Prompt</HeaderCell>
              <HeaderCell align="end">Cached</HeaderCell>
              <HeaderCell align="end">Written</HeaderCell>
              <HeaderCell align="end">First token</HeaderCell>
              <HeaderCell align="end">Speed</HeaderCell>
              <HeaderCell align="end">Blocks</HeaderCell>
              <HeaderCell>
                <span className="visually-hidden">Actions</span>
              </HeaderCell>
            </tr>
          </thead>
          <tbody>
            {view.requests.map((request, index) => (
              // An id may be used again by a client; its place in the list tells two of them apart.
              <RequestRow key={`${request.id} ${request.startedAt} ${index}`} request={request} onAbort={() => abort.mutate(request.id)} />
            ))}
          </tbody>
        </Table>
      )}
    </Card>
  )
}

function RequestRow({ request, onAbort }: { readonly request: LiveServerRequest; readonly onAbort: () => void }) {
  const { title, tone } = STATES[request.state]
  const running = isRunning(request)
  return (
    <Row data-state={request.state}>
      <Cell>
        <span className={styles.requestId} title={request.id}>
          {request.endpoint} <span className={styles.quiet}>{request.model}</span>
        </span>
      </Cell>
      <Cell>
        <span className={styles.state} title={request.reason ?? undefined}>
          <Badge tone={tone}>{title}</Badge>
          {request.state === 'prefill' && (
            <span className={styles.progress}>
              <ProgressBar
                label={`Prompt of ${request.id} read`}
                value={request.promptTokens === 0 ? 1 : request.prefilledTokens / request.promptTokens}
              />
            </span>
          )}
        </span>
      </Cell>
      <Cell align="end">{formatInteger(request.promptTokens)}</Cell>
      <Cell align="end">
        {request.cachedTokens === null
          ? '—'
          : formatPercent(request.promptTokens === 0 ? 0 : request.cachedTokens / request.promptTokens, 0)}
      </Cell>
      <Cell align="end">
        {formatInteger(request.generatedTokens)}
        <span className={styles.quiet}> / {formatInteger(request.maxTokens)}</span>
      </Cell>
      <Cell align="end">{request.firstTokenMs === null ? '—' : <Duration seconds={request.firstTokenMs / 1000} />}</Cell>
      <Cell align="end">{request.tokensPerSecond === null ? '—' : <Rate value={request.tokensPerSecond} />}</Cell>
      <Cell align="end">{request.blocks === 0 ? '—' : formatInteger(request.blocks)}</Cell>
      <Cell align="end">{running && <IconButton size="small" label={`Abort ${request.id}`} icon={X} onClick={onAbort} />}</Cell>
    </Row>
  )
}
