/** What the server is doing, request by request: who waits, who is read in, who writes, how fast, and what the cache saved. */
import { Send, X } from 'lucide-react'
import type { LiveServerRequest, ServerTest, ServerView } from '../../../engine/contract/index.ts'
import { formatInteger, formatPercent, plural } from '../../lib/format.ts'
import { useQueryChoice } from '../../lib/url-state.ts'
import { Badge, type Tone } from '../../ui/badge.tsx'
import { Button, IconButton } from '../../ui/button.tsx'
import { Info } from '../../ui/info.tsx'
import { Duration, Rate } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { ProgressBar } from '../../ui/progress.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
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

/** What may be looked at; a table of fifty is too long to search by eye. */
const FILTERS = ['all', 'running', 'failed'] as const
const FILTER_TITLES: Readonly<Record<(typeof FILTERS)[number], string>> = { all: 'All', running: 'Running', failed: 'Failed' }

interface RequestsCardProps {
  readonly view: ServerView
  /** null while the server can't be asked. */
  readonly test: { readonly busy: boolean; readonly result: ServerTest | null; readonly send: () => void } | null
}

export function RequestsCard({ view, test }: RequestsCardProps) {
  const abort = useAbortRequest()
  const [filter, setFilter] = useQueryChoice('requests', FILTERS, 'all')
  const shown = view.requests.filter(
    (request) =>
      filter === 'all' || (filter === 'running' ? isRunning(request) : request.state === 'failed' || request.state === 'aborted'),
  )
  const { totals } = view
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
      <div className={styles.bar}>
        {view.requests.length > 0 && (
          <Segmented
            label="Requests to show"
            value={filter}
            onChange={setFilter}
            options={FILTERS.map((value) => ({ value, title: FILTER_TITLES[value] }))}
          />
        )}
        {test !== null && (
          <Button size="small" icon={Send} busy={test.busy} onClick={test.send}>
            Send test request
          </Button>
        )}
        {test !== null && test.result !== null && (
          <span className={styles.quiet} role="status">
            {test.result.status} after <Duration seconds={test.result.milliseconds / 1000} />: {test.result.answer.trim() || 'no text'}
          </span>
        )}
      </div>
      {totals.requests > 0 && (
        <p className={styles.totals}>
          <span>{plural(totals.requests, 'request')} answered</span>
          {totals.failed > 0 && <span>{formatInteger(totals.failed)} failed</span>}
          <span>
            {formatInteger(totals.promptTokens)} tokens read
            {totals.promptTokens > 0 && `, ${formatPercent(totals.cachedTokens / totals.promptTokens, 0)} of them from the cache`}
          </span>
          <span>{formatInteger(totals.generatedTokens)} written</span>
        </p>
      )}
      {shown.length === 0 ? (
        <p className={styles.quiet}>
          {view.requests.length === 0 ? 'None yet. Each request appears here as it arrives.' : 'None of this kind.'}
        </p>
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
            {shown.map((request, index) => (
              // An id may be used again by a client; its place in the list tells two of them apart.
              <RequestRow key={`${request.id} ${request.startedAt} ${index}`} request={request} onAbort={() => abort.mutate(request.id)} />
            ))}
          </tbody>
        </Table>
      )}
    </Card>
  )
}

/** How much of the prompt was there already, and on request why not more. */
function Cached({ share, miss }: { readonly share: number; readonly miss: LiveServerRequest['cacheMiss'] }) {
  const text = formatPercent(share, 0)
  return miss === null ? text : <Info card={cacheMissText(miss)}>{text}</Info>
}

const MISSES: Readonly<Record<NonNullable<LiveServerRequest['cacheMiss']>['reason'], string>> = {
  disabled: 'The prefix cache is off.',
  short: 'What is left is shorter than a block of the cache.',
  new: 'Nobody has asked with this beginning before.',
  diverged: 'The prompt differs from an earlier one from here on: an edited turn, or a date in the system prompt.',
  evicted: 'It was computed before, and its memory was needed since.',
  fresh: 'The client asked for log-probabilities of the prompt, which a cache does not hold.',
}

export function cacheMissText({ reason, position }: NonNullable<LiveServerRequest['cacheMiss']>): string {
  return `Cached up to token ${formatInteger(position)}. ${MISSES[reason]}`
}

function RequestRow({ request, onAbort }: { readonly request: LiveServerRequest; readonly onAbort: () => void }) {
  const { title, tone } = STATES[request.state]
  const running = isRunning(request)
  return (
    <Row data-state={request.state}>
      <Cell>
        <span className={styles.requestId} title={`${request.model}, ${request.id}`}>
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
        {request.cachedTokens === null ? (
          '—'
        ) : (
          <Cached share={request.promptTokens === 0 ? 0 : request.cachedTokens / request.promptTokens} miss={request.cacheMiss} />
        )}
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
