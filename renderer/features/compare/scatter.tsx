/** Size against quality: the frontier of what is worth having, bubbles by decode speed, the edge of what this machine holds. */
import {
  CartesianGrid,
  ErrorBar,
  Line,
  ComposedChart,
  ReferenceArea,
  ResponsiveContainer,
  Scatter as ScatterSeries,
  Tooltip,
  XAxis,
  YAxis,
} from 'recharts'
import { formatBytes } from '../../lib/format.ts'
import { useQueryParameter } from '../../lib/url-state.ts'
import { Select } from '../../ui/controls.tsx'
import { Card } from '../../ui/page.tsx'
import styles from './compare.module.css'
import { placeLabels, type LabelPlace } from './label-places.ts'
import { axisTitle, printReading, type Entry, type Metric } from './metrics.ts'
import { axisDomain, niceTicks } from './pareto.ts'
import { pointsOf, restsOnChance, type Point } from './points.ts'
import { useFitLimit } from './use-fit-limit.ts'
import { seriesPath } from './series-path.ts'
import { SeriesMark, seriesColor } from './series.tsx'

/** What may stand on the axes: cost to the right, worth upwards. */
const X_GROUPS: readonly Metric['group'][] = ['Size', 'Speed', 'Served']
const Y_GROUPS: readonly Metric['group'][] = ['Quality', 'Tasks']
/** Drawn in the card of a point, so that it says the whole row. */
const ROW = ['size', 'kld', 'perplexity', 'tasks', 'decode', 'ttft', 'peak'] as const

interface ScatterProps {
  readonly entries: readonly Entry[]
  readonly baseline: Entry
  readonly source: Entry | undefined
  readonly metrics: readonly Metric[]
}

export function Scatter({ entries, baseline, source, metrics }: ScatterProps) {
  const [xId, setX] = useQueryParameter('x', 'size')
  const [yId, setY] = useQueryParameter('y', 'kld')
  const [, select] = useQueryParameter('layers')
  const choices = (groups: readonly Metric['group'][]) =>
    metrics.filter((metric) => groups.includes(metric.group) && entries.some((entry) => metric.read(entry) !== null))
  const [xs, ys] = [choices(X_GROUPS), choices(Y_GROUPS)]
  const x = xs.find((metric) => metric.id === xId) ?? xs[0]
  const y = ys.find((metric) => metric.id === yId) ?? ys.find((metric) => metric.id === 'kld') ?? ys[0]
  const limit = useFitLimit(source?.model.id ?? null, x?.id ?? '')
  const byId = new Map(metrics.map((metric) => [metric.id, metric]))
  const decode = byId.get('decode')
  if (x === undefined || y === undefined) {
    return (
      <Card className={styles.scatter} title="What it costs to be smaller">
        <p className={styles.hollow}>Two measured models make the first points of this chart.</p>
      </Card>
    )
  }
  const { points, left } = pointsOf({ entries, baseline, source, metrics: { x, y, decode } })
  const row = ROW.flatMap((id) => byId.get(id) ?? [])
  return (
    <Card
      className={styles.scatter}
      title="What it costs to be smaller"
      actions={
        <>
          <Select size="small" label="Vertical axis" prefix="↑" value={y.id} onChange={setY} options={optionsOf(ys)} />
          <Select size="small" label="Horizontal axis" prefix="→" value={x.id} onChange={setX} options={optionsOf(xs)} />
        </>
      }
    >
      {points.length < 2 ? (
        <p className={styles.hollow}>Two measured models make the first points of this chart.</p>
      ) : (
        <ScatterChart points={points} x={x} y={y} row={row} limit={limit} onSelect={select} />
      )}
      <p className={styles.caption}>
        Up is better, {x.better === 'down' ? 'left' : 'right'} is cheaper or faster; bubbles grow with decode speed; the line joins what
        nothing else beats on both axes.
        {restsOnChance(points, { x: x.better, y: y.better }) && ' Where error bars overlap, being beaten may be chance.'}
        {limit !== null && ` Weights beyond ${formatBytes(limit, 'memory')} leave no room on this machine.`}
        {left.length > 0 && ` Not shown: ${left.join('; ')}.`}
      </p>
    </Card>
  )
}

function optionsOf(metrics: readonly Metric[]): { readonly value: string; readonly title: string }[] {
  return metrics.map((metric) => ({ value: metric.id, title: metric.title }))
}

/** The least that the plot has on any window, for placing names: on a larger one they only stand further apart. */
const PLOT = { width: 540, height: 230 } as const

type DrawnPoint = Point & { readonly label: LabelPlace | null }

interface ScatterChartProps {
  readonly points: readonly Point[]
  readonly x: Metric
  readonly y: Metric
  readonly row: readonly Metric[]
  /** Largest value that this machine holds; null where the axis has none or nobody knows. */
  readonly limit: number | null
  readonly onSelect: (modelId: string) => void
}

function ScatterChart({ points, x, y, row, limit, onSelect }: ScatterChartProps) {
  const xDomain = axisDomain(points.map((point) => point.x))
  const yDomain = axisDomain(points.flatMap((point) => [point.y - point.error[0], point.y + point.error[1]]))
  const frontier = points.filter((point) => point.onFrontier)
  // Memory is read in MiB and GiB: its round numbers are round there.
  const xUnit = x.id === 'peak' ? 1024 ** Math.floor(Math.log(xDomain[1]) / Math.log(1024)) : 1
  const xTicks = niceTicks(xDomain, { count: 6, unit: xUnit, floor: zeroFloor(points.map((point) => point.x)) })
  const yTicks = niceTicks(yDomain, { floor: zeroFloor(points.map((point) => point.y)) }).filter((tick) => y.id !== 'top1' || tick <= 1)
  const places = placeLabels(
    points.map((point) => {
      const across = (point.x - xDomain[0]) / (xDomain[1] - xDomain[0])
      const up = (point.y - yDomain[0]) / (yDomain[1] - yDomain[0])
      return {
        x: across * PLOT.width,
        y: (y.better === 'down' ? up : 1 - up) * PLOT.height,
        radius: point.radius,
        text: point.title,
        important: point.onFrontier,
      }
    }),
    PLOT,
  )
  const drawn = points.map((point, index): DrawnPoint => ({ ...point, label: places[index] ?? null }))
  return (
    <div className={styles.plot}>
      <ResponsiveContainer width="100%" height="100%">
        <ComposedChart margin={{ top: 30, right: 24, bottom: 4, left: 4 }} accessibilityLayer>
          <CartesianGrid stroke="var(--border)" vertical={false} />
          <XAxis
            type="number"
            dataKey="x"
            domain={[...xDomain]}
            allowDataOverflow
            tickFormatter={x.format}
            tick={{ fill: 'var(--text-muted)', fontSize: 11 }}
            stroke="var(--border-strong)"
            tickLine={false}
            ticks={[...xTicks]}
            interval={0}
            height={46}
            label={{ value: `${axisTitle(x)} →`, position: 'insideBottomRight', offset: 0, fill: 'var(--text-secondary)', fontSize: 11 }}
          />
          <YAxis
            type="number"
            dataKey="y"
            domain={[...yDomain]}
            allowDataOverflow
            reversed={y.better === 'down'}
            tickFormatter={y.format}
            tick={{ fill: 'var(--text-muted)', fontSize: 11 }}
            stroke="var(--border-strong)"
            tickLine={false}
            axisLine={false}
            width={68}
            ticks={[...yTicks]}
            interval={0}
            label={{
              value: axisTitle(
                y,
                points.some((point) => y.read(point.entry)?.atLeast === true),
              ),
              position: 'top',
              offset: 10,
              dx: 34,
              textAnchor: 'start',
              fill: 'var(--text-secondary)',
              fontSize: 11,
            }}
          />
          {limit !== null && limit < xDomain[1] && (
            <ReferenceArea
              x1={Math.max(limit, xDomain[0])}
              x2={xDomain[1]}
              fill="var(--danger-solid)"
              fillOpacity={0.09}
              label={{ value: 'does not fit', fill: 'var(--danger)', fontSize: 11, position: 'insideTopRight' }}
            />
          )}
          <Line
            data={frontier}
            dataKey="y"
            stroke="var(--text-muted)"
            strokeDasharray="4 4"
            strokeWidth={1.25}
            dot={false}
            activeDot={false}
            isAnimationActive={false}
            legendType="none"
            tooltipType="none"
          />
          <ScatterSeries data={drawn} shape={<PointShape onSelect={onSelect} />} isAnimationActive={false}>
            <ErrorBar dataKey="error" direction="y" width={6} strokeWidth={1.25} stroke="var(--text-muted)" />
          </ScatterSeries>
          <Tooltip cursor={false} isAnimationActive={false} content={<PointCard x={x} y={y} row={row} />} />
        </ComposedChart>
      </ResponsiveContainer>
    </div>
  )
}

/** No tick below zero where nothing is. */
function zeroFloor(values: readonly number[]): number {
  return Math.min(...values) >= 0 ? 0 : Number.NEGATIVE_INFINITY
}

/** recharts clones it with the point's place; `payload` is the point. */
interface PointShapeProps {
  readonly cx?: number
  readonly cy?: number
  readonly payload?: DrawnPoint
  readonly onSelect: (modelId: string) => void
}

function PointShape({ cx = 0, cy = 0, payload, onSelect }: PointShapeProps) {
  if (payload === undefined) return null
  return (
    <g
      transform={`translate(${cx} ${cy})`}
      opacity={payload.onFrontier ? 1 : 0.45}
      className={styles.point}
      onClick={() => onSelect(payload.id)}
    >
      <path
        d={seriesPath(payload.entry.series, payload.radius)}
        fill={seriesColor(payload.entry.series)}
        stroke="var(--surface)"
        strokeWidth={1.5}
      />
      {payload.label !== null && (
        <text
          x={payload.label.dx}
          y={payload.label.dy}
          dy="0.35em"
          textAnchor={payload.label.anchor}
          fontSize={11}
          fontWeight={500}
          fill="var(--text-secondary)"
          stroke="var(--surface)"
          strokeWidth={4}
          paintOrder="stroke"
        >
          {payload.label.text}
        </text>
      )}
    </g>
  )
}

interface PointCardProps {
  readonly active?: boolean
  readonly payload?: readonly { readonly payload?: Point }[]
  readonly x: Metric
  readonly y: Metric
  readonly row: readonly Metric[]
}

function PointCard({ active, payload, x, y, row }: PointCardProps) {
  const point = payload?.find((item) => item.payload?.entry !== undefined)?.payload
  if (active !== true || point === undefined) return null
  return (
    <div className={styles.pointCard}>
      <p className={styles.glanceTitle}>
        <SeriesMark series={point.entry.series} />
        {point.title}
      </p>
      <dl>
        {[...new Set([x, y, ...row])].map((metric) => {
          const reading = metric.read(point.entry)
          return (
            reading !== null && (
              <div key={metric.id}>
                <dt>{metric.title}</dt>
                <dd className="numeric">{printReading(metric, reading)}</dd>
              </div>
            )
          )
        })}
      </dl>
    </div>
  )
}
