/** One text, token by token: shaded by how differently two models predicted it, with what each thought most likely. */
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { useId, useState, type KeyboardEvent } from 'react'
import type { TokenRow } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatInteger, formatPercent, formatSignificant } from '../../lib/format.ts'
import { useQueryChoice, useQueryParameter } from '../../lib/url-state.ts'
import { Card } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import { Term } from '../../ui/term.tsx'
import styles from './evidence.module.css'
import type { Entry } from './metrics.ts'
import { Pager } from './pager.tsx'
import { driftFrom, driftReference } from './quality-metrics.ts'
import { entryTitle } from './series.tsx'
import { shownText, tokenLevel } from './token-level.ts'
import { VariantSelect } from './variant-select.tsx'

const PAGE = 400

interface TokensProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
}

export function Tokens({ entries, baseline, source }: TokensProps) {
  const reference = driftReference(entries, baseline)
  const candidates = entries.filter((entry) => driftFrom(entry, reference)?.hasTokens === true)
  const [chosenId, setChosenId] = useQueryParameter('read')
  const [order, setOrder] = useQueryChoice('order', ['text', 'worst'], 'text')
  const entry = candidates.find((candidate) => candidate.model.id === chosenId) ?? candidates.at(-1)
  if (entry === undefined) return null
  return (
    <Card
      title={<Term name="kld">Where the words differ</Term>}
      actions={
        <>
          <VariantSelect candidates={candidates} chosen={entry} source={source} onChoose={setChosenId} />
          <Segmented
            label="Order"
            value={order}
            onChange={setOrder}
            options={[
              { value: 'text', title: 'As text' },
              { value: 'worst', title: 'Worst first' },
            ]}
          />
        </>
      }
    >
      <TokenPages
        key={`${entry.model.id} ${reference?.model.id ?? ''} ${order}`}
        modelId={entry.model.id}
        baselineId={reference?.model.id ?? null}
        told={{
          from: reference === null ? 'the original' : entryTitle(reference, source),
          atLeast: (driftFrom(entry, reference)?.boundedByTop ?? null) !== null,
        }}
        order={order}
      />
    </Card>
  )
}

/** How a position is told of. */
interface Told {
  /** Whom the model is compared with. */
  readonly from: string
  /** Divergences are lower bounds. */
  readonly atLeast: boolean
}

interface TokenPagesProps {
  readonly modelId: string
  readonly baselineId: string | null
  readonly told: Told
  readonly order: 'text' | 'worst'
}

function TokenPages({ modelId, baselineId, told, order }: TokenPagesProps) {
  const { queries } = useEngine()
  const [offset, setOffset] = useState(0)
  const limit = order === 'text' ? PAGE : 25
  const page = useQuery({
    ...queries.results.tokens.queryOptions({ input: { modelId, baselineId, offset, limit, sort: order === 'text' ? 'position' : 'kld' } }),
    placeholderData: keepPreviousData,
  })
  if (page.error !== null) return <ErrorCard error={page.error} onRetry={() => void page.refetch()} />
  if (page.data === undefined) return <SkeletonLines label="Reading the positions" lines={6} />
  const { rows, total, dataset } = page.data
  return (
    <>
      {order === 'text' ? <TokenText rows={rows} told={told} /> : <TokenTable rows={rows} told={told} />}
      <Pager label="positions" offset={offset} count={rows.length} total={total} step={limit} onMove={setOffset}>
        of {dataset}
      </Pager>
    </>
  )
}

function probability(logprob: number | null): string {
  return logprob === null ? '—' : formatPercent(Math.exp(logprob), 1)
}

/** One stop for Tab; arrows move from token to token. What is current is told in words below. */
function TokenText({ rows, told }: { readonly rows: readonly TokenRow[]; readonly told: Told }) {
  const [current, setCurrent] = useState(0)
  const statusId = useId()
  const row = rows[current] ?? rows[0]
  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0
    if (step === 0) return
    event.preventDefault()
    setCurrent((now) => Math.min(rows.length - 1, Math.max(0, now + step)))
  }
  return (
    <>
      <div
        className={styles.text}
        tabIndex={0}
        role="listbox"
        aria-label={`${rows.length} tokens, shaded by divergence. Arrow keys move from one to the next.`}
        aria-activedescendant={`${statusId}-${current}`}
        aria-describedby={statusId}
        onKeyDown={onKeyDown}
      >
        {rows.map((token, index) => (
          <span
            key={token.position}
            id={`${statusId}-${index}`}
            role="option"
            tabIndex={-1}
            aria-selected={index === current}
            className={styles.token}
            data-level={tokenLevel(token.kld)}
            data-other={!token.agrees || undefined}
            data-current={index === current || undefined}
            onMouseEnter={() => setCurrent(index)}
          >
            {shownText(token.text)}
          </span>
        ))}
      </div>
      <Legend />
      {row !== undefined && (
        <p id={statusId} className={styles.detail} role="status">
          <code>{shownText(row.text)}</code> was given {probability(row.baselineLogprob)} by {told.from}, {probability(row.logprob)} by this
          variant; {row.kld === null ? 'no finite divergence' : `${told.atLeast ? 'at least ' : ''}${formatSignificant(row.kld)} nats`}.{' '}
          {row.agrees ? (
            <>
              Both thought <code>{shownText(row.top)}</code> most likely.
            </>
          ) : (
            <>
              Most likely: <code>{shownText(row.baselineTop)}</code> for {told.from}, <code>{shownText(row.top)}</code> here.
            </>
          )}
        </p>
      )}
    </>
  )
}

function Legend() {
  return (
    <ul className={styles.legend} aria-label="Shades">
      {(['below 0.01', '0.01', '0.1', '0.5', '2 nats and more'] as const).map((title, level) => (
        <li key={title}>
          <span className={styles.token} data-level={level} aria-hidden>
            {' '}
          </span>
          {title}
        </li>
      ))}
      <li>
        <span className={styles.token} data-other aria-hidden>
          ab
        </span>
        another most likely token
      </li>
    </ul>
  )
}

function TokenTable({ rows, told }: { readonly rows: readonly TokenRow[]; readonly told: Told }) {
  const isOriginal = told.from === 'the original'
  return (
    <Table label="Positions, worst first" onSurface dense>
      <thead>
        <tr>
          <HeaderCell align="end">Position</HeaderCell>
          <HeaderCell>Token</HeaderCell>
          <HeaderCell align="end">{told.atLeast ? 'Divergence, nats, at least' : 'Divergence, nats'}</HeaderCell>
          <HeaderCell align="end">{isOriginal ? 'Original' : 'Baseline'} gave it</HeaderCell>
          <HeaderCell align="end">This gives it</HeaderCell>
          <HeaderCell>{isOriginal ? 'Original' : 'Baseline'}’s first</HeaderCell>
          <HeaderCell>First here</HeaderCell>
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <Row key={row.position}>
            <Cell align="end">{formatInteger(row.position)}</Cell>
            <Cell>
              <code>{shownText(row.text)}</code>
            </Cell>
            <Cell align="end">{row.kld === null ? '∞' : formatSignificant(row.kld)}</Cell>
            <Cell align="end">{probability(row.baselineLogprob)}</Cell>
            <Cell align="end">{probability(row.logprob)}</Cell>
            <Cell>
              <code>{shownText(row.baselineTop)}</code>
            </Cell>
            <Cell>{row.agrees ? 'the same' : <code>{shownText(row.top)}</code>}</Cell>
          </Row>
        ))}
      </tbody>
    </Table>
  )
}
