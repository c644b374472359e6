/** Every tensor, by layer. The names come from the headers; values are read only for the one that is opened. */
import { useQuery } from '@tanstack/react-query'
import { useVirtualizer } from '@tanstack/react-virtual'
import { ChevronRight, Grid3x3 } from 'lucide-react'
import { useCallback, useDeferredValue, useMemo, useRef, useState, type KeyboardEvent } from 'react'
import type { ModelDetail } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { plural } from '../../lib/format.ts'
import { useQueryParameter } from '../../lib/url-state.ts'
import { useDelayed } from '../../lib/use-now.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { SearchInput } from '../../ui/controls.tsx'
import { Bytes } from '../../ui/numbers.tsx'
import { ShareBar } from '../../ui/share-bar.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard } from '../../ui/state.tsx'
import { Cell, HeaderCell, Row, SpacerRow, Table } from '../../ui/table.tsx'
import styles from './inspector.module.css'
import { TensorDrawer } from './tensor-drawer.tsx'
import { filterTensors, formatShape, kindTitle, sharesOf, tensorRows, type TensorRow } from './tensors.ts'

const ROW_PX = 30
/** Small models open in full; in large ones the first layers show the pattern. */
const OPEN_WHOLE_UP_TO = 120

export function TensorsTab({ detail }: { readonly detail: ModelDetail }) {
  const { queries } = useEngine()
  const modelId = detail.summary.id
  const tensors = useQuery(queries.models.tensors.queryOptions({ input: { modelId } }))
  const [text, setText] = useQueryParameter('find')
  const [kind, setKind] = useQueryParameter('kind')
  const [selectedName, setSelectedName] = useQueryParameter('tensor')
  const [toggled, setToggled] = useState<ReadonlySet<string>>(new Set())
  const deferredText = useDeferredValue(text)
  const filtering = deferredText !== '' || kind !== ''
  const openByDefault = filtering || detail.tensorCount <= OPEN_WHOLE_UP_TO
  const isOpen = useCallback(
    (id: string) => (openByDefault || id === 'layer-0' || !id.startsWith('layer-')) !== toggled.has(id),
    [openByDefault, toggled],
  )
  const matching = useMemo(
    () => filterTensors(tensors.data ?? [], { text: deferredText, kind: kind === '' ? null : kind }),
    [tensors.data, deferredText, kind],
  )
  const rows = useMemo(() => tensorRows(matching, isOpen), [matching, isOpen])
  const close = useCallback(() => setSelectedName(null), [setSelectedName])
  const slow = useDelayed(tensors.isPending, 150)
  const selected = tensors.data?.find((tensor) => tensor.name === selectedName)
  if (tensors.error !== null) return <ErrorCard error={tensors.error} onRetry={() => void tensors.refetch()} />
  if (tensors.data === undefined) return slow ? <SkeletonLines label="Reading the headers" lines={10} /> : null
  const toggle = (id: string) =>
    setToggled(toggled.has(id) ? new Set([...toggled].filter((other) => other !== id)) : new Set([...toggled, id]))
  return (
    <div className={styles.tensors}>
      <div className={styles.tensorMain}>
        <div className={styles.tensorTools}>
          <div className={styles.find}>
            <SearchInput
              label="Filter tensors"
              placeholder="Filter by name, dtype or shape"
              value={text}
              onChange={(event) => setText(event.target.value)}
            />
          </div>
          <span className={styles.quiet} role="status">
            {filtering ? `${plural(matching.length, 'tensor')} of ${detail.tensorCount}` : plural(detail.tensorCount, 'tensor')}
          </span>
        </div>
        <ShareBar
          label="Bytes by kind of tensor"
          shares={sharesOf(detail.bytesByKind, kindTitle)}
          chosen={kind === '' ? null : kind}
          onChoose={setKind}
        />
        {rows.length === 0 ? (
          <EmptyState
            icon={Grid3x3}
            title="No tensor matches"
            actions={
              <Button
                onClick={() => {
                  setText(null)
                  setKind(null)
                }}
              >
                Clear the filter
              </Button>
            }
          />
        ) : (
          <TensorTable rows={rows} isOpen={isOpen} onToggle={toggle} selectedName={selectedName} onSelect={setSelectedName} />
        )}
      </div>
      {selected !== undefined && <TensorDrawer key={selected.name} modelId={modelId} tensor={selected} onClose={close} />}
    </div>
  )
}

interface TensorTableProps {
  readonly rows: readonly TensorRow[]
  readonly isOpen: (groupId: string) => boolean
  readonly onToggle: (groupId: string) => void
  readonly selectedName: string
  readonly onSelect: (name: string) => void
}

function TensorTable({ rows, isOpen, onToggle, selectedName, onSelect }: TensorTableProps) {
  const scrollRef = useRef<HTMLDivElement>(null)
  const virtualizer = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scrollRef.current,
    estimateSize: () => ROW_PX,
    getItemKey: (index) => rows[index]?.id ?? index,
    overscan: 12,
    initialRect: { width: 900, height: 600 },
  })
  const items = virtualizer.getVirtualItems()
  const activate = (row: TensorRow) => (row.kind === 'group' ? onToggle(row.id) : onSelect(row.id))
  const onKeyDown = (event: KeyboardEvent<HTMLTableRowElement>, row: TensorRow) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0
    if (step !== 0) {
      event.preventDefault()
      const sibling = step > 0 ? event.currentTarget.nextElementSibling : event.currentTarget.previousElementSibling
      if (sibling instanceof HTMLElement && sibling.tabIndex >= 0) sibling.focus()
    } else if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault()
      activate(row)
    } else if (row.kind === 'group' && ((event.key === 'ArrowRight' && !isOpen(row.id)) || (event.key === 'ArrowLeft' && isOpen(row.id))))
      onToggle(row.id)
  }
  return (
    <Table
      label="Tensors by layer"
      role="treegrid"
      dense
      scrollRef={scrollRef}
      className={styles.tensorTable}
      onSurface
      rowCount={rows.length + 1}
    >
      <thead>
        <tr>
          <HeaderCell>Name</HeaderCell>
          <HeaderCell>Dtype</HeaderCell>
          <HeaderCell align="end">Shape</HeaderCell>
          <HeaderCell align="end">Size</HeaderCell>
        </tr>
      </thead>
      <tbody>
        <SpacerRow height={items[0]?.start ?? 0} columns={4} />
        {items.map((item) => {
          const row = rows[item.index]
          if (row === undefined) return null
          return (
            <Row
              key={row.id}
              tabIndex={0}
              aria-level={row.kind === 'group' ? 1 : 2}
              aria-rowindex={item.index + 2}
              aria-expanded={row.kind === 'group' ? isOpen(row.id) : undefined}
              selected={row.id === selectedName}
              onClick={() => activate(row)}
              onKeyDown={(event) => onKeyDown(event, row)}
            >
              {row.kind === 'group' ? <GroupCells row={row} open={isOpen(row.id)} /> : <LeafCells row={row} />}
            </Row>
          )
        })}
        <SpacerRow height={virtualizer.getTotalSize() - (items.at(-1)?.end ?? 0)} columns={4} />
      </tbody>
    </Table>
  )
}

function GroupCells({ row, open }: { readonly row: Extract<TensorRow, { kind: 'group' }>; readonly open: boolean }) {
  return (
    <>
      <Cell className={styles.tensorName}>
        <span className={styles.group}>
          <ChevronRight size={14} aria-hidden data-open={open || undefined} />
          {row.title}
          <span className={styles.quiet}>{row.count}</span>
        </span>
      </Cell>
      <Cell />
      <Cell />
      <Cell align="end">
        <Bytes value={row.bytes} />
      </Cell>
    </>
  )
}

function LeafCells({ row }: { readonly row: Extract<TensorRow, { kind: 'tensor' }> }) {
  return (
    <>
      <Cell className={styles.tensorName}>
        <span className={styles.leaf} title={row.tensor.name}>
          {row.title}
        </span>
      </Cell>
      <Cell>
        <Badge>{row.tensor.dtype}</Badge>
      </Cell>
      <Cell align="end" className={styles.shape}>
        {formatShape(row.tensor.shape)}
      </Cell>
      <Cell align="end">
        <Bytes value={row.tensor.bytes} />
      </Cell>
    </>
  )
}
