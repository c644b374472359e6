/** What each type of KV cache saves and costs on this model: measured here, when asked, row by row as each is known. */
import { useMutation } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import type { CacheCost } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatInteger, formatPercent, formatSignificant } from '../../lib/format.ts'
import { Button } from '../../ui/button.tsx'
import { Bytes } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { ProgressBar } from '../../ui/progress.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import styles from './inspector.module.css'

interface Measured {
  readonly costs: readonly CacheCost[]
  readonly progress: { readonly done: number; readonly total: number } | null
}

function useCacheCosts(modelId: string) {
  const { client } = useEngine()
  const [measured, setMeasured] = useState<Measured>({ costs: [], progress: null })
  const stop = useRef<AbortController | null>(null)
  useEffect(() => () => stop.current?.abort(), [])
  const measure = useMutation({
    mutationFn: async (): Promise<void> => {
      const controller = new AbortController()
      stop.current = controller
      setMeasured({ costs: [], progress: null })
      try {
        for await (const event of await client.models.cacheCosts({ modelId }, { signal: controller.signal })) {
          if (event.kind === 'progress') setMeasured(({ costs }) => ({ costs, progress: event }))
          else setMeasured(({ costs, progress }) => ({ costs: [...costs, event.cost], progress }))
        }
      } catch (error) {
        if (!controller.signal.aborted) throw error
      } finally {
        setMeasured(({ costs }) => ({ costs, progress: null }))
      }
    },
  })
  return { measure, ...measured, stop: () => stop.current?.abort() }
}

export function CacheCard({ modelId }: { readonly modelId: string }) {
  const { measure, costs, progress, stop } = useCacheCosts(modelId)
  return (
    <Card
      title="KV cache types"
      actions={
        measure.isPending ? (
          <Button size="small" onClick={stop}>
            Stop
          </Button>
        ) : (
          <Button size="small" onClick={() => measure.mutate()}>
            {costs.length > 0 ? 'Measure again' : 'Measure'}
          </Button>
        )
      }
    >
      <div className={styles.stack}>
        {measure.error !== null && <ErrorCard error={measure.error} onRetry={() => measure.mutate()} />}
        {progress !== null && <ProgressBar label="Measuring" value={progress.done / progress.total} />}
        {costs.length === 0 ? (
          <p className={styles.quiet}>
            A smaller cache holds more context and costs accuracy: how much depends on the model. Measuring holds it twice in memory.
          </p>
        ) : (
          <CostTable costs={costs} />
        )}
      </div>
    </Card>
  )
}

function CostTable({ costs }: { readonly costs: readonly CacheCost[] }) {
  return (
    <>
      <Table label="KV cache types" dense onSurface>
        <thead>
          <tr>
            <HeaderCell>Keys/values</HeaderCell>
            <HeaderCell align="end">Per token</HeaderCell>
            <HeaderCell align="end">Divergence</HeaderCell>
            <HeaderCell align="end">Worst 1 %</HeaderCell>
            <HeaderCell align="end">Same top token</HeaderCell>
          </tr>
        </thead>
        <tbody>
          {costs.map((cost) => (
            <Row key={cost.kvDtype}>
              <Cell>
                <code>{cost.kvDtype}</code>
              </Cell>
              <Cell align="end">{cost.bytesPerToken === null ? '—' : <Bytes value={cost.bytesPerToken} />}</Cell>
              <Cell align="end">{formatSignificant(cost.kldMean, 2)}</Cell>
              <Cell align="end">{formatSignificant(cost.kldP99, 2)}</Cell>
              <Cell align="end">{formatPercent(cost.sameTop, 2)}</Cell>
            </Row>
          ))}
        </tbody>
      </Table>
      <p className={styles.quiet}>
        KL divergence in nats per token from the same weights with an exact cache, over {formatInteger(costs[0]?.positions ?? 0)} tokens of
        the bundled text.
      </p>
    </>
  )
}
