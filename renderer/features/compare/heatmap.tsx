/** Where compression hurts: one cell per tensor, rows by kind, columns by layer, on a canvas with arrow keys and a table for those who prefer one. */
import { useEffect, useId, useRef, useState, useSyncExternalStore, type KeyboardEvent, type ReactNode } from 'react'
import type { TensorError } from '../../../engine/contract/index.ts'
import { formatSignificant } from '../../lib/format.ts'
import { useQueryChoice, useQueryParameter } from '../../lib/url-state.ts'
import { Button } from '../../ui/button.tsx'
import { Disclosure } from '../../ui/disclosure.tsx'
import { Bytes, Significant } from '../../ui/numbers.tsx'
import { Card, Facts } from '../../ui/page.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { Segmented } from '../../ui/tabs.tsx'
import { Term } from '../../ui/term.tsx'
import { RaiseLayer } from '../optimize/raise-layer.tsx'
import styles from './compare.module.css'
import { cellKey, heatColor, heatGrid, heatShare, heatValue, HEAT_METRICS, type HeatGrid, type HeatMetric } from './heat-grid.ts'
import type { Entry } from './metrics.ts'
import { TensorPair } from './tensor-pair.tsx'
import { VariantSelect } from './variant-select.tsx'

const ROW_PX = 26
const LABEL_PX = 84
const HEADER_PX = 18

export function ErrorHeatmap({ entries, source }: { readonly entries: readonly Entry[]; readonly source: Entry | undefined }) {
  const candidates = entries.filter((entry) => (entry.result?.tensorErrors.length ?? 0) > 0)
  const [chosenId, setChosenId] = useQueryParameter('layers')
  const [metric, setMetric] = useQueryChoice('error', HEAT_METRICS, 'sqnr')
  const [scale, setScale] = useQueryChoice('scale', ['log', 'linear'], 'log')
  const [selectedName, setSelectedName] = useQueryParameter('tensor')
  const entry = candidates.find((candidate) => candidate.model.id === chosenId) ?? candidates.at(-1)
  if (entry === undefined || entry.result === null) return null
  const errors = entry.result.tensorErrors
  const grid = heatGrid(errors, metric)
  const selected = errors.find((error) => error.name === selectedName) ?? null
  const worst = worstFirst(errors)[0]
  return (
    <Card
      title="Error of every layer"
      actions={
        <>
          <VariantSelect candidates={candidates} chosen={entry} source={source} onChoose={setChosenId} />
          <Segmented
            label="Error as"
            value={metric}
            onChange={setMetric}
            options={[
              { value: 'sqnr', title: 'SQNR' },
              { value: 'relative', title: 'Relative' },
            ]}
          />
          {metric === 'relative' && (
            <Segmented
              label="Scale"
              value={scale}
              onChange={setScale}
              options={[
                { value: 'log', title: 'Log' },
                { value: 'linear', title: 'Linear' },
              ]}
            />
          )}
        </>
      }
    >
      <div className={styles.heat}>
        <div className={styles.heatMain}>
          <HeatCanvas
            grid={grid}
            metric={metric}
            logarithmic={metric === 'relative' && scale === 'log'}
            selected={selected}
            onSelect={(error) => setSelectedName(error.name)}
          />
          <Legend grid={grid} metric={metric} logarithmic={metric === 'relative' && scale === 'log'}>
            {worst !== undefined && worst !== selected && (
              <Button size="small" variant="ghost" onClick={() => setSelectedName(worst.name)}>
                Open the worst: {worst.layer === null ? worst.kind : `layer ${worst.layer}, ${worst.kind}`}
              </Button>
            )}
          </Legend>
          <Disclosure title="The same as a table">
            <HeatTable errors={errors} onSelect={setSelectedName} />
          </Disclosure>
        </div>
        {selected !== null && source !== undefined && (
          <TensorPair
            key={selected.name}
            sourceId={source.model.id}
            variantId={entry.model.id}
            error={selected}
            onClose={() => setSelectedName(null)}
            actions={<RaiseLayer variantId={entry.model.id} name={selected.name} />}
          />
        )}
      </div>
    </Card>
  )
}

function describe(error: TensorError): string {
  const where = error.layer === null ? error.kind : `layer ${error.layer}, ${error.kind}`
  return `${where}: ${error.sqnrDb === null ? 'exact' : `${formatSignificant(error.sqnrDb)} dB`}, relative error ${formatSignificant(error.relativeError)}`
}

/** The theme as the page shows it: a canvas cannot read CSS variables by itself. */
function useShownTheme(): 'light' | 'dark' {
  return useSyncExternalStore(
    (notify) => {
      const observer = new MutationObserver(notify)
      observer.observe(document.documentElement, { attributeFilter: ['data-theme'] })
      return () => observer.disconnect()
    },
    () => (document.documentElement.dataset['theme'] === 'dark' ? 'dark' : 'light'),
  )
}

interface HeatCanvasProps {
  readonly grid: HeatGrid
  readonly metric: HeatMetric
  readonly logarithmic: boolean
  readonly selected: TensorError | null
  readonly onSelect: (error: TensorError) => void
}

function HeatCanvas({ grid, metric, logarithmic, selected, onSelect }: HeatCanvasProps) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const box = useRef<HTMLDivElement>(null)
  const [width, setWidth] = useState(640)
  const [cursor, setCursor] = useState<{ readonly row: number; readonly column: number } | null>(null)
  const theme = useShownTheme()
  const statusId = useId()
  const height = HEADER_PX + grid.kinds.length * ROW_PX
  const cellWidth = Math.max(6, (width - LABEL_PX) / Math.max(1, grid.layers.length))
  const at = (row: number, column: number): TensorError | undefined => {
    const kind = grid.kinds[row]
    return kind === undefined || column < 0 || column >= grid.layers.length
      ? undefined
      : grid.cells.get(cellKey(kind, grid.layers[column] ?? null))
  }
  const pointed = cursor === null ? undefined : at(cursor.row, cursor.column)

  useEffect(() => {
    const element = box.current
    if (element === null) return
    const observer = new ResizeObserver(([change]) => change !== undefined && setWidth(change.contentRect.width))
    observer.observe(element)
    return () => observer.disconnect()
  }, [])

  useEffect(() => {
    const element = canvas.current
    const context = element?.getContext('2d')
    if (element === null || context === null || context === undefined) return
    const ratio = window.devicePixelRatio || 1
    element.width = Math.round(width * ratio)
    element.height = Math.round(height * ratio)
    context.scale(ratio, ratio)
    draw(context, { grid, metric, logarithmic, theme, cellWidth, width, selected, cursor })
  }, [grid, metric, logarithmic, theme, cellWidth, width, height, selected, cursor])

  const cellAt = (event: React.MouseEvent<HTMLCanvasElement>) => {
    const bounds = event.currentTarget.getBoundingClientRect()
    return {
      row: Math.floor((event.clientY - bounds.top - HEADER_PX) / ROW_PX),
      column: Math.floor((event.clientX - bounds.left - LABEL_PX) / cellWidth),
    }
  }
  const onKeyDown = (event: KeyboardEvent<HTMLCanvasElement>) => {
    const steps: Readonly<Record<string, readonly [number, number]>> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    }
    const step = steps[event.key]
    if (step !== undefined) {
      event.preventDefault()
      const from = cursor ?? { row: 0, column: 0 }
      setCursor({
        row: Math.min(grid.kinds.length - 1, Math.max(0, from.row + step[0])),
        column: Math.min(grid.layers.length - 1, Math.max(0, from.column + step[1])),
      })
    } else if ((event.key === 'Enter' || event.key === ' ') && pointed !== undefined) {
      event.preventDefault()
      onSelect(pointed)
    }
  }
  return (
    <div ref={box} className={styles.heatBox}>
      <canvas
        ref={canvas}
        className={styles.heatCanvas}
        style={{ width, height }}
        tabIndex={0}
        aria-roledescription="heat map"
        aria-label={`Error by layer and kind of tensor, ${grid.kinds.length} rows, ${grid.layers.length} columns. Arrow keys move, Enter opens.`}
        aria-describedby={statusId}
        onMouseMove={(event) => setCursor(cellAt(event))}
        onMouseLeave={() => setCursor(null)}
        onClick={(event) => {
          const { row, column } = cellAt(event)
          const error = at(row, column)
          if (error !== undefined) onSelect(error)
        }}
        onFocus={() => cursor === null && setCursor({ row: 0, column: 0 })}
        onKeyDown={onKeyDown}
      />
      <p id={statusId} className={styles.heatStatus} role="status">
        {pointed === undefined ? 'Point at a cell, or move with the arrow keys.' : describe(pointed)}
      </p>
    </div>
  )
}

interface Drawing extends Omit<HeatCanvasProps, 'onSelect'> {
  readonly theme: 'light' | 'dark'
  readonly cellWidth: number
  readonly width: number
  readonly cursor: { readonly row: number; readonly column: number } | null
}

function draw(context: CanvasRenderingContext2D, { grid, metric, logarithmic, theme, cellWidth, width, selected, cursor }: Drawing): void {
  const style = getComputedStyle(document.documentElement)
  const text = style.getPropertyValue('--text-secondary')
  context.clearRect(0, 0, width, HEADER_PX + grid.kinds.length * ROW_PX)
  context.font = `11px ${style.getPropertyValue('--font-sans')}`
  context.textBaseline = 'middle'
  context.fillStyle = text
  context.textAlign = 'center'
  // As many column numbers as fit without touching.
  const every = Math.max(1, Math.ceil(22 / cellWidth))
  grid.layers.forEach((layer, column) => {
    if (column % every === 0) context.fillText(layer === null ? '–' : String(layer), LABEL_PX + (column + 0.5) * cellWidth, HEADER_PX / 2)
  })
  grid.kinds.forEach((kind, row) => {
    const top = HEADER_PX + row * ROW_PX
    context.textAlign = 'right'
    context.fillStyle = text
    context.fillText(kind, LABEL_PX - 10, top + ROW_PX / 2)
    grid.layers.forEach((layer, column) => {
      const error = grid.cells.get(cellKey(kind, layer))
      if (error === undefined) return
      const value = heatValue(error, metric)
      context.fillStyle = value === null ? style.getPropertyValue('--sunken') : heatColor(heatShare(value, grid.range, logarithmic), theme)
      context.fillRect(LABEL_PX + column * cellWidth + 0.5, top + 0.5, Math.max(1, cellWidth - 1), ROW_PX - 1)
      const marked = error === selected || (cursor !== null && cursor.row === row && cursor.column === column)
      if (marked) {
        context.strokeStyle = style.getPropertyValue('--text')
        context.lineWidth = error === selected ? 2 : 1.25
        context.strokeRect(LABEL_PX + column * cellWidth + 1, top + 1, cellWidth - 2, ROW_PX - 2)
      }
    })
  })
}

/** The relative error is the one that every tensor has. */
function worstFirst(errors: readonly TensorError[]): readonly TensorError[] {
  return errors.toSorted((one, other) => other.relativeError - one.relativeError)
}

interface LegendProps {
  readonly grid: HeatGrid
  readonly metric: HeatMetric
  readonly logarithmic: boolean
  readonly children: ReactNode
}

function Legend({ grid, metric, logarithmic, children }: LegendProps) {
  const theme = useShownTheme()
  const ends =
    metric === 'sqnr'
      ? [`${formatSignificant(-grid.range[0])} dB`, `${formatSignificant(-grid.range[1])} dB`]
      : grid.range.map((value) => formatSignificant(value))
  return (
    <div className={styles.legend}>
      <span>{metric === 'sqnr' ? <Term name="sqnr">best</Term> : 'best'}</span>
      <span className="numeric">{ends[0]}</span>
      <span className={styles.legendBar} aria-hidden>
        {Array.from({ length: 24 }, (_, index) => (
          <span key={index} style={{ background: heatColor(index / 23, theme) }} />
        ))}
      </span>
      <span className="numeric">{ends[1]}</span>
      <span>worst{logarithmic && ', log scale'}</span>
      {children}
    </div>
  )
}

function HeatTable({ errors, onSelect }: { readonly errors: readonly TensorError[]; readonly onSelect: (name: string) => void }) {
  return (
    <Table label="Errors, worst first" dense onSurface className={styles.heatTable}>
      <thead>
        <tr>
          <HeaderCell>Tensor</HeaderCell>
          <HeaderCell>Format</HeaderCell>
          <HeaderCell align="end">SQNR</HeaderCell>
          <HeaderCell align="end">Relative error</HeaderCell>
          <HeaderCell align="end">Cosine</HeaderCell>
        </tr>
      </thead>
      <tbody>
        {worstFirst(errors).map((error) => (
          <Row key={error.name}>
            <Cell>
              <button type="button" className={styles.tensorLink} onClick={() => onSelect(error.name)}>
                {error.name}
              </button>
            </Cell>
            <Cell>{error.scheme}</Cell>
            <Cell align="end">{error.sqnrDb === null ? 'exact' : <Significant value={error.sqnrDb} unit="dB" />}</Cell>
            <Cell align="end">
              <Significant value={error.relativeError} />
            </Cell>
            <Cell align="end">{error.cosine.toFixed(5)}</Cell>
          </Row>
        ))}
      </tbody>
    </Table>
  )
}

export function TensorErrorFacts({ error }: { readonly error: TensorError }) {
  return (
    <Facts
      rows={[
        ['Format', error.scheme],
        [
          <Term key="term" name="sqnr">
            SQNR
          </Term>,
          error.sqnrDb === null ? 'exact' : <Significant key="value" value={error.sqnrDb} unit="dB" />,
        ],
        ['Relative error', <Significant key="relative" value={error.relativeError} />],
        ['Largest error', <Significant key="max" value={error.maxError} />],
        ['Cosine', error.cosine.toFixed(6)],
        ['Stored in', <Bytes key="bytes" value={error.bytes} />],
      ]}
    />
  )
}
