/**
 * The latencies of a load under the names and definitions of the tool that the reader is used to. All come from the same kept time stamps, so
 * picking another tool asks nothing of the model again.
 */
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import type { LatencyConvention, LatencySummary } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatDuration, formatInteger } from '../../lib/format.ts'
import { useQueryChoice, useQueryParameter } from '../../lib/url-state.ts'
import { Select } from '../../ui/controls.tsx'
import { Info } from '../../ui/info.tsx'
import { Card } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import styles from './compare.module.css'
import type { Entry } from './metrics.ts'
import { loadOf } from './served-metrics.ts'
import { VariantSelect } from './variant-select.tsx'

const CONVENTIONS: Readonly<Record<LatencyConvention, { readonly title: string; readonly means: string }>> = {
  lathe: { title: 'Lathe', means: 'From the moment that a request was due, so that a server that stalls is charged for those who wait.' },
  guidellm: {
    title: 'GuideLLM',
    means: 'From sending. Its inter-token latency is the mean gap of a request; its time per output token counts the first token, too.',
  },
  vllm: {
    title: 'vLLM bench',
    means: 'From sending. Its ITL pools the gaps between chunks, whatever they hold; an answer of one token has no TPOT.',
  },
  aiperf: {
    title: 'AIPerf',
    means: 'From sending. Its inter-token latency is the mean gap of a request; inter-chunk latency pools the gaps between chunks.',
  },
}
/** Lathe's own latencies in words; other tools' stay as those tools print them, since that is what their readers look for. */
const WORDS: Readonly<Record<string, { readonly title: string; readonly means: string }>> = {
  ttft_ms: { title: 'Time to first token', means: 'From the moment that the request was due to its first token.' },
  itl_ms: { title: 'Between tokens', means: 'Every pause between two tokens, of all requests together.' },
  tpot_ms: {
    title: 'Each token after the first',
    means: 'The mean pause of a request: from its first token to its last, by the tokens after the first.',
  },
  e2e_ms: { title: 'Whole answer', means: 'From the moment that the request was due to its last token.' },
  queue_ms: {
    title: 'Waiting to be sent',
    means: 'From the moment that the request was due until it was sent: the limit of requests at once, or a slow client.',
  },
  e2e_per_token_ms: {
    title: 'Whole answer, by token',
    means: 'From sending to the last token, by the number of tokens, the first included.',
  },
}

const NAMES = Object.keys(CONVENTIONS) as LatencyConvention[]

const COLUMNS: readonly { readonly title: string; readonly of: (summary: LatencySummary) => number }[] = [
  { title: 'Mean', of: ({ mean }) => mean },
  { title: 'Median', of: ({ p50 }) => p50 },
  { title: 'p90', of: ({ p90 }) => p90 },
  { title: 'p99', of: ({ p99 }) => p99 },
]

interface LoadsProps {
  readonly entries: readonly Entry[]
  readonly source: Entry | undefined
}

export function Loads({ entries, source }: LoadsProps) {
  const candidates = entries.filter((entry) => typeof entry.result?.served?.rawFile === 'string')
  const [chosenId, setChosenId] = useQueryParameter('load')
  const [convention, setConvention] = useQueryChoice('times', NAMES, 'lathe')
  const entry = candidates.find((candidate) => candidate.model.id === chosenId) ?? candidates.at(-1)
  if (entry === undefined) return null
  return (
    <Card
      title="Under load"
      actions={
        <>
          <VariantSelect candidates={candidates} chosen={entry} source={source} onChoose={setChosenId} />
          <Select
            size="small"
            label="Times as defined by"
            prefix="as"
            value={convention}
            onChange={setConvention}
            options={NAMES.map((name) => ({ value: name, title: CONVENTIONS[name].title }))}
          />
        </>
      }
    >
      <LoadTable modelId={entry.model.id} convention={convention} />
      <p className={styles.caption}>{CONVENTIONS[convention].means}</p>
    </Card>
  )
}

function LatencyName({
  name,
  words,
}: {
  readonly name: string
  readonly words: { readonly title: string; readonly means: string } | undefined
}) {
  if (words === undefined) return <code>{name}</code>
  return (
    <Info underlined card={words.means}>
      {words.title}
    </Info>
  )
}

function LoadTable({ modelId, convention }: { readonly modelId: string; readonly convention: LatencyConvention }) {
  const { queries } = useEngine()
  const loads = useQuery({
    ...queries.benchmarks.latencies.queryOptions({ input: { modelId, convention } }),
    placeholderData: keepPreviousData,
  })
  if (loads.error !== null) return <ErrorCard error={loads.error} onRetry={() => void loads.refetch()} />
  if (loads.data === undefined) return <SkeletonLines label="Reading the times" lines={4} />
  return (
    <Table label="Latencies under load" dense onSurface>
      <thead>
        <tr>
          <HeaderCell>Load</HeaderCell>
          <HeaderCell>Latency</HeaderCell>
          {COLUMNS.map(({ title }) => (
            <HeaderCell key={title} align="end">
              {title}
            </HeaderCell>
          ))}
          <HeaderCell align="end">Values</HeaderCell>
        </tr>
      </thead>
      <tbody>
        {loads.data.flatMap(({ latencies, ...run }, index) =>
          Object.entries(latencies).map(([name, summary], place) => (
            <Row key={`${index} ${name}`}>
              <Cell>{place === 0 ? loadOf(run) : ''}</Cell>
              <Cell>
                <LatencyName name={name} words={convention === 'lathe' ? WORDS[name] : undefined} />
              </Cell>
              {COLUMNS.map(({ title, of }) => (
                <Cell key={title} align="end">
                  {summary === null ? '—' : formatDuration(of(summary) / 1000)}
                </Cell>
              ))}
              <Cell align="end">{summary === null ? '—' : formatInteger(summary.n)}</Cell>
            </Row>
          )),
        )}
      </tbody>
    </Table>
  )
}
