/** What every layer gets from a preset or recipe, and a scheme of one's own for any of them. Fused linears are one row; totals follow exactly. */
import { useQuery } from '@tanstack/react-query'
import { useVirtualizer } from '@tanstack/react-virtual'
import { useMemo, useRef, useState } from 'react'
import type { ModelSummary, SchemeUnit } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatBytes, formatPercent, formatSignificant, plural } from '../../lib/format.ts'
import { Button } from '../../ui/button.tsx'
import { Select, Switch } from '../../ui/controls.tsx'
import { Bytes, Delta, Significant } from '../../ui/numbers.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Cell, HeaderCell, Row, SpacerRow, Table } from '../../ui/table.tsx'
import { NO_CHANGES, useDrafts, type LayerChanges } from './drafts.ts'
import {
  ORIGINAL,
  bytesOf,
  commonChoice,
  commonSchemes,
  layerRows,
  rolesOf,
  schemeAfter,
  totalsAfter,
  withChange,
  type LayerRow,
} from './layers.ts'
import styles from './recipe.module.css'

const ROW_PX = 36
const ALL_ROLES = 'all'
const SEVERAL = 'several'

/** The recipe of one's own, which is what a search leaves behind: its losses are of that. */
export const CUSTOM_SUBJECT = 'custom'

export interface LayerSubject {
  readonly id: string
  readonly title: string
  readonly choice: { readonly presetId: string } | { readonly yaml: string }
}

const NO_LOSSES: Readonly<Record<string, number>> = {}

export function LayersTable({ model, subjects }: { readonly model: ModelSummary; readonly subjects: readonly LayerSubject[] }) {
  const { queries } = useEngine()
  const changes = useDrafts((state) => state.changes[model.id]) ?? NO_CHANGES
  const losses = useDrafts((state) => state.losses[model.id]) ?? NO_LOSSES
  const setChanges = useDrafts((state) => state.setChanges)
  const [subjectId, setSubjectId] = useState<string | null>(null)
  const [role, setRole] = useState(ALL_ROLES)
  const [changedOnly, setChangedOnly] = useState(false)
  const subject = subjects.find((candidate) => candidate.id === subjectId) ?? subjects[0]
  const map = useQuery({
    ...queries.optimize.schemeMap.queryOptions({ input: { modelId: model.id, choice: subject?.choice ?? { presetId: '' } } }),
    enabled: subject !== undefined,
    placeholderData: (previous) => previous,
  })
  const units = map.data?.units
  const rows = useMemo(
    () => layerRows(units ?? [], changes, { role: role === ALL_ROLES ? null : role, changedOnly }),
    [units, changes, role, changedOnly],
  )
  if (subject === undefined) return <p className={styles.quiet}>Choose a preset or write a recipe to see its layers.</p>
  if (map.error !== null) return <ErrorCard error={map.error} onRetry={() => void map.refetch()} />
  if (map.data === undefined) return <SkeletonLines label="Reading the layers" lines={6} />
  const count = Object.keys(changes).length
  const totals = totalsAfter(map.data, changes)
  const change = (changed: readonly SchemeUnit[], scheme: string | null) => setChanges(model.id, withChange(changes, changed, scheme))
  return (
    <div className={styles.layers}>
      <div className={styles.layerTools}>
        {subjects.length > 1 && (
          <Select
            size="small"
            label="Layers of"
            prefix="Of"
            value={subject.id}
            onChange={setSubjectId}
            options={subjects.map(({ id, title }) => ({ value: id, title }))}
          />
        )}
        <Select
          size="small"
          label="Kind of layer"
          value={role}
          onChange={setRole}
          options={[{ value: ALL_ROLES, title: 'All linears' }, ...rolesOf(map.data.units).map((value) => ({ value, title: value }))]}
        />
        <Switch label="Changed only" checked={changedOnly} onChange={setChangedOnly} />
        <span className={styles.grow} />
        {count > 0 && (
          <Button size="small" variant="ghost" onClick={() => setChanges(model.id, NO_CHANGES)}>
            Take back {plural(count, 'change')}
          </Button>
        )}
      </div>
      <LayerRows rows={rows} changes={changes} losses={subject.id === CUSTOM_SUBJECT ? losses : NO_LOSSES} onChange={change} />
      <p className={styles.totals} aria-live="polite">
        <span>
          {subject.title}
          {count > 0 && ` with ${plural(count, 'change')}`}:{' '}
        </span>
        <strong>
          <Bytes value={totals.weightBytes} />
        </strong>
        <Significant value={totals.bitsPerWeight} unit="bits per weight" />
        {count > 0 && (
          <Delta value={totals.weightBytes / map.data.weightBytes - 1} better="down" format={(value) => formatPercent(value, 1)} />
        )}
      </p>
      <p className={styles.note}>
        Exact, from the shapes. Changes apply to {subjects.length > 1 ? 'everything chosen' : subject.title}. Linears that a server joins
        (q, k, v; gate, up) change together.
      </p>
    </div>
  )
}

interface LayerRowsProps {
  readonly rows: readonly LayerRow[]
  readonly changes: LayerChanges
  readonly losses: Readonly<Record<string, number>>
  readonly onChange: (units: readonly SchemeUnit[], scheme: string | null) => void
}

function LayerRows({ rows, changes, losses, onChange }: LayerRowsProps) {
  const scroll = useRef<HTMLDivElement>(null)
  const virtualizer = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW_PX,
    overscan: 8,
  })
  const items = virtualizer.getVirtualItems()
  const measured = rows.some((row) => row.kind === 'unit' && (losses[row.unit.id] ?? row.unit.loss) !== null)
  const columns = measured ? 4 : 3
  return (
    <Table label="Schemes by layer" dense onSurface scrollRef={scroll} rowCount={rows.length + 1} className={styles.layerTable}>
      <thead>
        <tr>
          <HeaderCell>Layer</HeaderCell>
          <HeaderCell width="14rem">Stored as</HeaderCell>
          <HeaderCell align="end" width="6rem">
            Size
          </HeaderCell>
          {measured && (
            <HeaderCell align="end" width="6rem">
              Loss
            </HeaderCell>
          )}
        </tr>
      </thead>
      <tbody>
        <SpacerRow height={items[0]?.start ?? 0} columns={columns} />
        {items.map((item) => {
          const row = rows[item.index]
          if (row === undefined) return null
          return row.kind === 'layer' ? (
            <LayerHead key={`layer ${row.layer}`} index={item.index} row={row} changes={changes} columns={columns} onChange={onChange} />
          ) : (
            <UnitRow
              key={row.unit.id}
              index={item.index}
              unit={row.unit}
              changes={changes}
              loss={measured ? (losses[row.unit.id] ?? row.unit.loss) : undefined}
              onChange={onChange}
            />
          )
        })}
        <SpacerRow height={virtualizer.getTotalSize() - (items.at(-1)?.end ?? 0)} columns={columns} />
      </tbody>
    </Table>
  )
}

function layerTitle(layer: number | null): string {
  return layer === null ? 'Outside the layers' : `Layer ${layer}`
}

interface LayerHeadProps extends Pick<LayerRowsProps, 'changes' | 'onChange'> {
  readonly row: LayerRow & { readonly kind: 'layer' }
  readonly index: number
  readonly columns: number
}

function LayerHead({ row, index, changes, columns, onChange }: LayerHeadProps) {
  const choice = commonChoice(row.units, changes)
  const bytes = row.units.reduce((sum, unit) => sum + bytesOf(unit, schemeAfter(unit, changes)), 0)
  return (
    <Row aria-rowindex={index + 2} className={styles.layerHead}>
      <Cell>
        <strong>{layerTitle(row.layer)}</strong>
      </Cell>
      <Cell>
        <SchemeSelect
          label={`All of ${layerTitle(row.layer).toLowerCase()}`}
          value={choice === undefined ? SEVERAL : (choice ?? ORIGINAL)}
          options={commonSchemes(row.units).map((scheme) => ({ scheme, text: scheme }))}
          several={choice === undefined}
          onChange={(scheme) => onChange(row.units, scheme)}
        />
      </Cell>
      <Cell align="end">
        <Bytes value={bytes} />
      </Cell>
      {columns === 4 && <Cell />}
    </Row>
  )
}

interface UnitRowProps extends Pick<LayerRowsProps, 'changes' | 'onChange'> {
  readonly unit: SchemeUnit
  readonly index: number
  /** undefined where there is no such column. */
  readonly loss: number | null | undefined
}

function UnitRow({ unit, index, changes, loss, onChange }: UnitRowProps) {
  const scheme = schemeAfter(unit, changes)
  const changed = changes[unit.id] !== undefined
  return (
    <Row aria-rowindex={index + 2} data-changed={changed || undefined} className={styles.unit}>
      <Cell className={styles.role}>
        {unit.role}
        {changed && <span className={styles.was}> was {unit.scheme ?? 'as original'}</span>}
        {unit.refused !== null && <span className={styles.was}> {unit.refused}</span>}
      </Cell>
      <Cell>
        <SchemeSelect
          label={`${layerTitle(unit.layer)} ${unit.role}`}
          value={scheme ?? ORIGINAL}
          options={unit.options.map((option) => ({ scheme: option.scheme, text: `${option.scheme} · ${formatBytes(option.bytes)}` }))}
          several={false}
          onChange={(next) => onChange([unit], next)}
        />
      </Cell>
      <Cell align="end">
        <Bytes value={bytesOf(unit, scheme)} />
      </Cell>
      {loss !== undefined && <Cell align="end">{loss === null || scheme === null ? '—' : changed ? '—' : formatSignificant(loss, 2)}</Cell>}
    </Row>
  )
}

interface SchemeSelectProps {
  readonly label: string
  readonly value: string
  readonly options: readonly { readonly scheme: string; readonly text: string }[]
  readonly several: boolean
  readonly onChange: (scheme: string | null) => void
}

/** The platform's own list: there may be thousands of rows, and each needs one. */
function SchemeSelect({ label, value, options, several, onChange }: SchemeSelectProps) {
  return (
    <select
      className={styles.native}
      aria-label={label}
      value={value}
      onChange={(event) => onChange(event.target.value === ORIGINAL ? null : event.target.value)}
    >
      {several && (
        <option value={SEVERAL} disabled>
          several
        </option>
      )}
      <option value={ORIGINAL}>as original</option>
      {options.map((option) => (
        <option key={option.scheme} value={option.scheme}>
          {option.text}
        </option>
      ))}
    </select>
  )
}
