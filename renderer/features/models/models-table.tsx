/** The library as a table: sources with their variants beneath, sortable, virtual, with the keyboard. */
import {
  columnVisibilityFeature,
  createColumnHelper,
  createExpandedRowModel,
  createSortedRowModel,
  rowExpandingFeature,
  rowSortingFeature,
  sortFn_alphanumeric,
  sortFn_basic,
  tableFeatures,
  useTable,
  type ExpandedState,
  type SortingState,
} from '@tanstack/react-table'
import { useVirtualizer } from '@tanstack/react-virtual'
import { ChevronRight } from 'lucide-react'
import { useMemo, useRef, type KeyboardEvent } from 'react'
import { useLocation } from 'wouter'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { formatRelativeTime } from '../../lib/format.ts'
import { useQueryParameter, useQuerySet } from '../../lib/url-state.ts'
import { useNow } from '../../lib/use-now.ts'
import { Badge, SoftwareBadge } from '../../ui/badge.tsx'
import { FitDot } from '../../ui/fit-bar.tsx'
import { Bytes, Count, Rate } from '../../ui/numbers.tsx'
import { Cell, HeaderCell, Row, SpacerRow, Table } from '../../ui/table.tsx'
import { familyName, variantTitle, type ModelNode } from './library.ts'
import { ModelMenu } from './model-menu.tsx'
import { StatusChip } from './model-status.tsx'
import styles from './models.module.css'
import { SchemeBadges } from './scheme-badges.tsx'
import { useFit, useMeasuredSpeed } from './queries.ts'

const features = tableFeatures({
  rowSortingFeature,
  rowExpandingFeature,
  columnVisibilityFeature,
  sortedRowModel: createSortedRowModel(),
  expandedRowModel: createExpandedRowModel(),
  sortFns: { alphanumeric: sortFn_alphanumeric, basic: sortFn_basic },
})

const helper = createColumnHelper<typeof features, ModelNode>()

const columns = helper.columns([
  helper.accessor((node) => node.model.name.toLowerCase(), { id: 'name', header: 'Name', sortFn: 'alphanumeric' }),
  helper.accessor((node) => node.model.parameters, { id: 'parameters', header: 'Parameters', sortFn: 'basic' }),
  helper.accessor((node) => node.model.bitsPerWeight, { id: 'format', header: 'Format', sortFn: 'basic' }),
  helper.accessor((node) => node.model.diskBytes, { id: 'size', header: 'Size', sortFn: 'basic' }),
  helper.accessor((node) => node.variants.length, { id: 'variants', header: 'Variants', sortFn: 'basic' }),
  helper.accessor((node) => node.model.id, { id: 'speed', header: 'Decode', enableSorting: false }),
  helper.accessor((node) => node.model.lastUsedAt ?? node.model.createdAt, { id: 'used', header: 'Last used', sortFn: 'basic' }),
])

export const OPTIONAL_COLUMNS = [
  { id: 'parameters', title: 'Parameters' },
  { id: 'format', title: 'Format' },
  { id: 'size', title: 'Size' },
  { id: 'variants', title: 'Variants' },
  { id: 'speed', title: 'Decode speed' },
  { id: 'used', title: 'Last used' },
] as const

const END_ALIGNED = new Set(['parameters', 'size', 'variants', 'speed'])
/** Rows are one height, so the virtual list never measures. */
const ROW_PX = 44

interface ModelsTableProps {
  readonly nodes: readonly ModelNode[]
  readonly hiddenColumns: ReadonlySet<string>
  readonly selectedId: string
  readonly onSelect: (modelId: string) => void
}

export function ModelsTable({ nodes, hiddenColumns, selectedId, onSelect }: ModelsTableProps) {
  const [, navigate] = useLocation()
  const [sort, setSort] = useQueryParameter('sort', '-used')
  // Expanded is the rule: the address keeps the few that are closed.
  const [closed, setClosed] = useQuerySet('closed')
  const sorting = useMemo<SortingState>(() => [{ id: sort.replace(/^-/, ''), desc: sort.startsWith('-') }], [sort])
  const expanded = useMemo<ExpandedState>(
    () => Object.fromEntries(nodes.filter((node) => !closed.has(node.model.id)).map((node) => [node.model.id, true])),
    [nodes, closed],
  )
  const columnVisibility = useMemo(() => Object.fromEntries([...hiddenColumns].map((id) => [id, false])), [hiddenColumns])
  const table = useTable({
    features,
    columns,
    data: nodes as ModelNode[],
    getRowId: (node) => node.model.id,
    getSubRows: (node) => node.variants as ModelNode[],
    state: { sorting, expanded, columnVisibility },
    enableSortingRemoval: false,
    onSortingChange: (update) => {
      const next = (typeof update === 'function' ? update(sorting) : update)[0]
      if (next !== undefined) setSort(`${next.desc ? '-' : ''}${next.id}`)
    },
  })
  const rows = table.getRowModel().rows
  const scrollRef = useRef<HTMLDivElement>(null)
  const virtualizer = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scrollRef.current,
    estimateSize: () => ROW_PX,
    getItemKey: (index) => rows[index]?.id ?? index,
    overscan: 8,
    initialRect: { width: 900, height: 700 },
  })
  const items = virtualizer.getVirtualItems()
  const visible = table.getVisibleLeafColumns().map((column) => column.id)
  const names = new Map(nodes.map((node) => [node.model.id, node.model]))
  const toggle = (modelId: string) => setClosed(closed.has(modelId) ? [...closed].filter((id) => id !== modelId) : [...closed, modelId])

  const onKeyDown = (event: KeyboardEvent<HTMLTableRowElement>, node: ModelNode) => {
    if (event.target !== event.currentTarget) return
    const move = (step: number) => {
      event.preventDefault()
      const sibling = step > 0 ? event.currentTarget.nextElementSibling : event.currentTarget.previousElementSibling
      if (sibling instanceof HTMLElement && sibling.tabIndex >= 0) sibling.focus()
    }
    if (event.key === 'ArrowDown' || event.key === 'j') move(1)
    else if (event.key === 'ArrowUp' || event.key === 'k') move(-1)
    else if (event.key === 'Enter') navigate(`/models/${node.model.id}`)
    else if (event.key === ' ') {
      event.preventDefault()
      onSelect(node.model.id)
    } else if (event.key === 'ArrowRight' && closed.has(node.model.id)) toggle(node.model.id)
    else if (event.key === 'ArrowLeft' && node.variants.length > 0 && !closed.has(node.model.id)) toggle(node.model.id)
  }

  return (
    <Table label="Models" scrollRef={scrollRef} className={styles.table}>
      <thead>
        <tr>
          {table.getFlatHeaders().map((header) => (
            <HeaderCell
              key={header.id}
              column={header.column.id}
              align={END_ALIGNED.has(header.column.id) ? 'end' : 'start'}
              sorted={header.column.getIsSorted()}
              onSort={header.column.getCanSort() ? () => header.column.toggleSorting() : undefined}
            >
              {String(header.column.columnDef.header)}
            </HeaderCell>
          ))}
          <th scope="col">
            <span className="visually-hidden">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        <SpacerRow height={items[0]?.start ?? 0} columns={visible.length + 1} />
        {items.map((item) => {
          const row = rows[item.index]
          if (row === undefined) return null
          const node = row.original
          return (
            <Row
              key={row.id}
              tabIndex={0}
              selected={node.model.id === selectedId}
              aria-label={node.model.name}
              onClick={() => onSelect(node.model.id === selectedId ? '' : node.model.id)}
              onDoubleClick={() => navigate(`/models/${node.model.id}`)}
              onKeyDown={(event) => onKeyDown(event, node)}
            >
              {visible.map((column) => (
                <Cell
                  key={column}
                  data-column={column}
                  align={END_ALIGNED.has(column) ? 'end' : 'start'}
                  className={column === 'name' ? styles.nameCell : undefined}
                >
                  <ModelCell
                    column={column}
                    node={node}
                    source={node.model.parentId === null ? undefined : names.get(node.model.parentId)}
                    closed={closed.has(node.model.id)}
                    onToggle={() => toggle(node.model.id)}
                  />
                </Cell>
              ))}
              <Cell align="end" onClick={(event) => event.stopPropagation()} onDoubleClick={(event) => event.stopPropagation()}>
                <ModelMenu model={node.model} size="small" />
              </Cell>
            </Row>
          )
        })}
        <SpacerRow height={virtualizer.getTotalSize() - (items.at(-1)?.end ?? 0)} columns={visible.length + 1} />
      </tbody>
    </Table>
  )
}

interface ModelCellProps {
  readonly column: string
  readonly node: ModelNode
  readonly source: ModelSummary | undefined
  readonly closed: boolean
  readonly onToggle: () => void
}

function ModelCell({ column, node, source, closed, onToggle }: ModelCellProps) {
  const { model } = node
  switch (column) {
    case 'name':
      return <NameCell node={node} source={source} closed={closed} onToggle={onToggle} />
    case 'parameters':
      return <Count value={model.parameters} />
    case 'format':
      return <SchemeBadges model={model} />
    case 'size':
      return <Bytes value={model.diskBytes} />
    case 'variants':
      return node.variants.length === 0 ? <span className={styles.quiet}>—</span> : <span className="numeric">{node.variants.length}</span>
    case 'speed':
      return <SpeedCell model={model} />
    case 'used':
      return <UsedCell model={model} />
    default:
      return null
  }
}

function NameCell({ node, source, closed, onToggle }: Omit<ModelCellProps, 'column'>) {
  const { model } = node
  const fit = useFit()(model)
  return (
    <span className={styles.name} data-variant={source !== undefined || undefined}>
      {node.variants.length > 0 ? (
        <button
          type="button"
          className={styles.expander}
          aria-expanded={!closed}
          aria-label={closed ? `Show variants of ${model.name}` : `Hide variants of ${model.name}`}
          onClick={(event) => {
            event.stopPropagation()
            onToggle()
          }}
          onDoubleClick={(event) => event.stopPropagation()}
        >
          <ChevronRight size={14} aria-hidden />
        </button>
      ) : (
        <span className={styles.expander} />
      )}
      <span className={styles.dot}>{fit !== null && model.status === 'ready' && <FitDot fit={fit} />}</span>
      <span className={styles.names}>
        <span className={styles.title} title={model.name}>
          {variantTitle(model, source)}
        </span>
        {source === undefined && <span className={styles.caption}>{familyName(model.architecture)}</span>}
      </span>
      {model.isSample && <Badge tone="outline">sample</Badge>}
      <StatusChip model={model} />
    </span>
  )
}

function SpeedCell({ model }: { readonly model: ModelSummary }) {
  const speed = useMeasuredSpeed(model)
  if (speed === null) return <span className={styles.quiet}>—</span>
  return (
    <span className={styles.speed}>
      {speed.software && <SoftwareBadge compact />}
      <Rate value={speed.throughput.decodeTokensPerSecond.median} measured={speed.measured} />
    </span>
  )
}

function UsedCell({ model }: { readonly model: ModelSummary }) {
  const now = useNow(60_000)
  return <span className={styles.quiet}>{model.lastUsedAt === null ? 'never' : formatRelativeTime(model.lastUsedAt, now)}</span>
}
