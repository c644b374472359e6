/** How good the estimates are here: what the calibration predicts for loads that were measured, beside the measurement. */
import { useQuery } from '@tanstack/react-query'
import { CartesianGrid, ComposedChart, ErrorBar, Line, ResponsiveContainer, Scatter, XAxis, YAxis } from 'recharts'
import type { PredictionCheck } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatPercent, formatSignificant } from '../../lib/format.ts'
import { ButtonLink } from '../../ui/button.tsx'
import { EstimateRange, Rate } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import { niceTop } from '../monitor/course-path.ts'
import styles from './capacity.module.css'

/** Share of the measured value by which the middle of the estimate misses it. */
export function missOf({ predicted, measured }: Pick<PredictionCheck, 'predicted' | 'measured'>): number {
  return Math.sqrt(predicted.low * predicted.high) / measured - 1
}

export function AccuracyCard() {
  const { queries } = useEngine()
  const checks = useQuery(queries.capacity.checks.queryOptions())
  if (checks.error !== null) return <ErrorCard error={checks.error} onRetry={() => void checks.refetch()} />
  if (checks.data === undefined) return null
  return (
    <Card title="Predicted against measured, on this machine">
      {checks.data.length === 0 ? (
        <p className={styles.small}>
          Calibrate this adapter on the Hardware screen and measure a model’s speed: then estimates can be held against measurements.{' '}
          <ButtonLink size="small" variant="ghost" href="/hardware">
            Open Hardware
          </ButtonLink>
        </p>
      ) : (
        <div className={styles.accuracy}>
          <Plot checks={checks.data.filter((check) => check.quantity === 'decode')} />
          <CheckTable checks={checks.data} />
        </div>
      )}
    </Card>
  )
}

function Plot({ checks }: { readonly checks: readonly PredictionCheck[] }) {
  const points = checks.map((check) => {
    const middle = Math.sqrt(check.predicted.low * check.predicted.high)
    return { x: check.measured, y: middle, error: [middle - check.predicted.low, check.predicted.high - middle] }
  })
  const top = niceTop(Math.max(0, ...checks.flatMap((check) => [check.measured, check.predicted.high])))
  const axis = { tick: { fill: 'var(--text-muted)', fontSize: 11 }, stroke: 'var(--border-strong)', tickLine: false }
  return (
    <figure className={styles.plot} aria-label="Decode speed: predicted upwards, measured to the right; on the line they are equal">
      <ResponsiveContainer width="100%" height="100%">
        <ComposedChart margin={{ top: 8, right: 12, bottom: 16, left: 8 }} accessibilityLayer>
          <CartesianGrid stroke="var(--border)" />
          <XAxis
            type="number"
            dataKey="x"
            domain={[0, top]}
            allowDataOverflow
            tickFormatter={(value: number) => formatSignificant(value, 2)}
            label={{ value: 'measured, tok/s', position: 'insideBottom', offset: -10, fontSize: 11, fill: 'var(--text-muted)' }}
            {...axis}
          />
          <YAxis
            type="number"
            dataKey="y"
            domain={[0, top]}
            allowDataOverflow
            width={48}
            tickFormatter={(value: number) => formatSignificant(value, 2)}
            label={{ value: 'predicted, tok/s', angle: -90, position: 'insideLeft', fontSize: 11, fill: 'var(--text-muted)' }}
            {...axis}
          />
          <Line
            data={[
              { x: 0, y: 0 },
              { x: top, y: top },
            ]}
            dataKey="y"
            stroke="var(--text-muted)"
            strokeDasharray="4 4"
            dot={false}
            activeDot={false}
            isAnimationActive={false}
          />
          <Scatter data={points} fill="var(--surface)" stroke="var(--series-1)" strokeWidth={2} isAnimationActive={false}>
            <ErrorBar dataKey="error" direction="y" width={6} strokeWidth={1.5} stroke="var(--series-1)" strokeDasharray="3 2" />
          </Scatter>
        </ComposedChart>
      </ResponsiveContainer>
    </figure>
  )
}

function CheckTable({ checks }: { readonly checks: readonly PredictionCheck[] }) {
  return (
    <Table label="Predicted and measured speeds" onSurface dense>
      <thead>
        <tr>
          <HeaderCell>Model</HeaderCell>
          <HeaderCell>Speed</HeaderCell>
          <HeaderCell align="end">Predicted</HeaderCell>
          <HeaderCell align="end">Measured</HeaderCell>
          <HeaderCell align="end">Off by</HeaderCell>
        </tr>
      </thead>
      <tbody>
        {checks.map((check) => (
          <Row key={`${check.modelId} ${check.quantity}`}>
            <Cell className={styles.modelName}>{check.name}</Cell>
            <Cell>{check.quantity}</Cell>
            <Cell align="end">
              <EstimateRange value={check.predicted} unit="tok/s" source={`calibration of ${check.adapter}`} />
            </Cell>
            <Cell align="end">
              <Rate value={check.measured} />
            </Cell>
            <Cell align="end">{formatPercent(Math.abs(missOf(check)), 0)}</Cell>
          </Row>
        ))}
      </tbody>
    </Table>
  )
}
