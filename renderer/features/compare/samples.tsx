/** The same items answered by both models, side by side: which answers changed, and in free text where the words part. */
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import type { SampleQuery } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { useQueryChoice, useQueryParameter } from '../../lib/url-state.ts'
import { Select } from '../../ui/controls.tsx'
import { Card } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import styles from './evidence.module.css'
import { FreeTextRow } from './free-text-row.tsx'
import type { Entry } from './metrics.ts'
import { Pager } from './pager.tsx'
import { SampleItem } from './sample-item.tsx'
import { entryTitle } from './series.tsx'
import { VariantSelect } from './variant-select.tsx'

const PAGE = 10

interface SamplesProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
}

export function Samples({ entries, baseline, source }: SamplesProps) {
  const candidates = entries.filter((entry) => entry !== baseline && (entry.result?.tasks.some((task) => task.hasSamples) ?? false))
  const [chosenId, setChosenId] = useQueryParameter('answers')
  const [chosenTask, setTask] = useQueryParameter('task')
  const [show, setShow] = useQueryChoice('answered', ['all', 'changed', 'lost', 'gained'], 'changed')
  const entry = candidates.find((candidate) => candidate.model.id === chosenId) ?? candidates.at(-1)
  const tasks = entry?.result?.tasks.filter((task) => task.hasSamples) ?? []
  const task = tasks.find((candidate) => candidate.name === chosenTask) ?? tasks[0]
  if (entry === undefined || task === undefined) return null
  const query = { modelId: entry.model.id, task: task.name, baselineId: baseline.model.id, show }
  return (
    <Card
      title="The same items, both answers"
      actions={
        <>
          <VariantSelect candidates={candidates} chosen={entry} source={source} onChoose={setChosenId} />
          <Select
            size="small"
            label="Task"
            value={task.name}
            onChange={setTask}
            options={tasks.map((candidate) => ({ value: candidate.name, title: candidate.title }))}
          />
          <Segmented
            label="Items"
            value={show}
            onChange={setShow}
            options={[
              { value: 'changed', title: 'Changed' },
              { value: 'lost', title: 'Lost' },
              { value: 'gained', title: 'Gained' },
              { value: 'all', title: 'All' },
            ]}
          />
        </>
      }
    >
      {task.freeText?.baselineId === baseline.model.id && <FreeTextRow drift={task.freeText} />}
      <SamplePages
        key={`${query.modelId} ${query.task} ${show}`}
        query={query}
        names={{ baseline: entryTitle(baseline, source), own: entryTitle(entry, source) }}
      />
    </Card>
  )
}

interface SamplePagesProps {
  readonly query: Omit<SampleQuery, 'offset' | 'limit'>
  readonly names: { readonly baseline: string; readonly own: string }
}

function SamplePages({ query, names }: SamplePagesProps) {
  const { queries } = useEngine()
  const [offset, setOffset] = useState(0)
  const page = useQuery({
    ...queries.results.samples.queryOptions({ input: { ...query, offset, limit: PAGE } }),
    placeholderData: keepPreviousData,
  })
  if (page.error !== null) return <ErrorCard error={page.error} onRetry={() => void page.refetch()} />
  if (page.data === undefined) return <SkeletonLines label="Reading the items" lines={6} />
  const { rows, total, items } = page.data
  return (
    <>
      {rows.length === 0 ? (
        <p className={styles.quiet}>None of {items} items.</p>
      ) : (
        <ol className={styles.samples}>
          {rows.map((row) => (
            <SampleItem key={`${row.docId} ${row.docHash}`} row={row} names={names} />
          ))}
        </ol>
      )}
      <Pager label="items" offset={offset} count={rows.length} total={total} step={PAGE} onMove={setOffset} />
    </>
  )
}
