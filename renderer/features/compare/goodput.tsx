/** How many requests a second each model takes while most of them still meet the service level: the rate that capacity may be planned with. */
import {
  CartesianGrid,
  ComposedChart,
  Line,
  ReferenceLine,
  ResponsiveContainer,
  Tooltip,
  XAxis,
  YAxis,
  type DotItemDotProps,
} from 'recharts'
import type { ServiceLevel } from '../../../engine/contract/index.ts'
import { formatPercent, formatSignificant } from '../../lib/format.ts'
import { Card } from '../../ui/page.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import styles from './compare.module.css'
import { goodputBoard, type GoodputPoint, type GoodputSeries } from './goodput-series.ts'
import type { Entry } from './metrics.ts'
import { axisDomain, niceTicks } from './pareto.ts'
import { seriesPath } from './series-path.ts'
import { EntryName, entryTitle, seriesColor } from './series.tsx'

interface GoodputProps {
  readonly entries: readonly Entry[]
  readonly source: Entry | undefined
}

export function Goodput({ entries, source }: GoodputProps) {
  const board = goodputBoard(entries)
  if (board === null) return null
  const { level, series, left } = board
  const others = left.map(({ entry, level: name }) => `${entryTitle(entry, source)} (held against ${name})`)
  return (
    <Card title="Requests within the service level">
      {series.some(({ points }) => points.length > 1) && <GoodputChart series={series} source={source} />}
      <Table label="Requests within the service level" dense onSurface>
        <thead>
          <tr>
            <HeaderCell>Model</HeaderCell>
            <HeaderCell align="end">99 % within it up to</HeaderCell>
            <HeaderCell align="end">90 % within it up to</HeaderCell>
            <HeaderCell>Load: share within it</HeaderCell>
          </tr>
        </thead>
        <tbody>
          {series.map(({ entry, points, rate99, rate90 }) => (
            <Row key={entry.model.id}>
              <Cell>
                <EntryName entry={entry} source={source} />
              </Cell>
              <Cell align="end">{rate(rate99)}</Cell>
              <Cell align="end">{rate(rate90)}</Cell>
              <Cell>
                {points.map(({ load, share }) => (
                  <span key={load} className={styles.load}>
                    {load}: {formatPercent(share)}
                  </span>
                ))}
              </Cell>
            </Row>
          ))}
        </tbody>
      </Table>
      <p className={styles.caption}>
        {level.name}: {limits(level)}, from the moment that a request was due.
        {others.length > 0 && ` Not shown: ${others.join('; ')}.`}
      </p>
    </Card>
  )
}

function rate(value: number | null): string {
  return value === null ? 'none of the loads' : `${formatSignificant(value)} requests/s`
}

function limits({ ttftMs, tpotMs, e2eMs }: ServiceLevel): string {
  return [
    ttftMs === null ? null : `first token within ${ttftMs} ms`,
    tpotMs === null ? null : `${tpotMs} ms for each token after it`,
    e2eMs === null ? null : `whole answer within ${e2eMs} ms`,
  ]
    .filter((part) => part !== null)
    .join(', ')
}

const TICK = { fill: 'var(--text-muted)', fontSize: 11 } as const

function GoodputChart({ series, source }: { readonly series: readonly GoodputSeries[]; readonly source: Entry | undefined }) {
  const domain = axisDomain(series.flatMap(({ points }) => points.map((point) => point.rate)))
  return (
    <div className={styles.plot}>
      <ResponsiveContainer width="100%" height="100%">
        <ComposedChart margin={{ top: 16, right: 24, bottom: 4, left: 4 }} accessibilityLayer>
          <CartesianGrid stroke="var(--border)" vertical={false} />
          <XAxis
            type="number"
            dataKey="rate"
            domain={[...domain]}
            tickFormatter={(value: number) => formatSignificant(value)}
            ticks={[...niceTicks(domain, { count: 6, floor: 0 })]}
            tick={TICK}
            stroke="var(--border-strong)"
            tickLine={false}
            height={46}
            label={{
              value: 'Requests per second →',
              position: 'insideBottomRight',
              offset: 0,
              fill: 'var(--text-secondary)',
              fontSize: 11,
            }}
          />
          <YAxis
            type="number"
            domain={[0, 1]}
            ticks={[0, 0.25, 0.5, 0.75, 1]}
            tickFormatter={(value: number) => formatPercent(value, 0)}
            tick={TICK}
            stroke="var(--border-strong)"
            tickLine={false}
            axisLine={false}
            width={52}
          />
          <ReferenceLine y={0.99} stroke="var(--text-muted)" strokeDasharray="4 4" />
          <ReferenceLine y={0.9} stroke="var(--text-muted)" strokeDasharray="2 4" />
          {series.map(({ entry, points }) => (
            <Line
              key={entry.model.id}
              name={entryTitle(entry, source)}
              data={[...points]}
              dataKey="share"
              stroke={seriesColor(entry.series)}
              strokeWidth={1.75}
              dot={dotOf(entry.series)}
              isAnimationActive={false}
            />
          ))}
          <Tooltip cursor={false} isAnimationActive={false} content={<PointCard />} />
        </ComposedChart>
      </ResponsiveContainer>
    </div>
  )
}

/** A point as the mark of its series: colour is never alone. */
function dotOf(series: number) {
  return ({ key, cx, cy }: DotItemDotProps) => (
    <path key={key} d={seriesPath(series, 4)} transform={`translate(${cx ?? 0} ${cy ?? 0})`} fill={seriesColor(series)} />
  )
}

interface PointCardProps {
  readonly active?: boolean
  readonly payload?: readonly { readonly name?: string; readonly payload?: GoodputPoint }[]
}

function PointCard({ active, payload }: PointCardProps) {
  if (active !== true || payload === undefined) return null
  return (
    <div className={styles.pointCard}>
      {payload.map(({ name, payload: point }) => (
        <p key={name}>
          {name}: {point === undefined ? '' : `${formatPercent(point.share)} at ${point.load}`}
        </p>
      ))}
    </div>
  )
}
