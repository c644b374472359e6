/** GPU memory as the engine's ledger has it: in use against the budget, the last minute, who holds what, and loaded models to let go. */
import { useMutation } from '@tanstack/react-query'
import { useState } from 'react'
import type { Hardware } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatBytes, formatInteger } from '../../lib/format.ts'
import { Button } from '../../ui/button.tsx'
import { Bytes } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { ProgressBar } from '../../ui/progress.tsx'
import { Sparkline } from '../../ui/sparkline.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { Cell, HeaderCell, Row, Table } from '../../ui/table.tsx'
import styles from './hardware.module.css'

/** One minute at a reading every two seconds. */
const HISTORY = 30

export function MemoryCard({ hardware, updatedAt }: { readonly hardware: Hardware; readonly updatedAt: number }) {
  const { client } = useEngine()
  const unload = useMutation({ mutationFn: (modelId: string) => client.runtime.unload({ modelId }) })
  const [history, setHistory] = useState({ at: 0, gpu: [] as readonly number[], rss: [] as readonly number[] })
  if (history.at !== updatedAt) {
    setHistory({
      at: updatedAt,
      gpu: [...history.gpu, hardware.gpuBytesInUse].slice(-HISTORY),
      rss: [...history.rss, hardware.host.engineRssBytes].slice(-HISTORY),
    })
  }
  const budget = hardware.gpuBudgetBytes
  return (
    <Card title="Memory">
      <div className={styles.stack}>
        <div>
          <p className={styles.amount}>
            <Bytes value={hardware.gpuBytesInUse} kind="memory" />
            <span className={styles.quiet}>{budget === null ? 'in GPU buffers' : `of ${formatBytes(budget, 'memory')} for models`}</span>
          </p>
          {budget !== null && <ProgressBar label="GPU memory in use" value={hardware.gpuBytesInUse / budget} />}
        </div>
        <div className={styles.sparks}>
          <figure>
            <Sparkline label="GPU memory over the last minute" values={history.gpu} capacity={HISTORY} />
            <figcaption className={styles.quiet}>GPU buffers, last minute</figcaption>
          </figure>
          <figure>
            <Sparkline label="Memory of the engine over the last minute" values={history.rss} capacity={HISTORY} />
            <figcaption className={styles.quiet}>Engine process, last minute</figcaption>
          </figure>
        </div>
        <h3 className={styles.heading}>Loaded models</h3>
        {unload.error !== null && <ErrorCard error={unload.error} />}
        {hardware.loaded.length === 0 ? (
          <p className={styles.quiet}>None. A model is loaded when you chat with it or measure it.</p>
        ) : (
          <ul className={styles.loaded}>
            {hardware.loaded.map((model) => (
              <li key={model.modelId}>
                <span className={styles.grow}>
                  {model.name}
                  <span className={styles.caption}>
                    {formatBytes(model.weightBytes, 'memory')} weights, {formatBytes(model.kvBytes, 'memory')} KV cache for{' '}
                    {formatInteger(model.contextLimit)} tokens
                    {model.kvDtype !== undefined && ` as ${model.kvDtype}`}
                    {model.kvNamedByCheckpoint === true && ', the format that its checkpoint names,'}
                    {model.kvScales === 'checkpoint' && ' with the scales of its calibration'}
                    {model.matrixUnits === true && ', prompts on matrix units'}
                  </span>
                </span>
                <Button
                  size="small"
                  disabled={model.busy}
                  busy={unload.isPending && unload.variables === model.modelId}
                  onClick={() => unload.mutate(model.modelId)}
                  aria-label={`Unload ${model.name}`}
                >
                  {model.busy ? 'In use' : 'Unload'}
                </Button>
              </li>
            ))}
          </ul>
        )}
        {hardware.ledger.length > 0 && (
          <Table label="Who holds GPU memory" dense onSurface className={styles.ledger}>
            <thead>
              <tr>
                <HeaderCell>Owner</HeaderCell>
                <HeaderCell align="end">Buffers</HeaderCell>
                <HeaderCell align="end">Size</HeaderCell>
              </tr>
            </thead>
            <tbody>
              {hardware.ledger.map((entry) => (
                <Row key={entry.owner}>
                  <Cell>{ownerTitle(entry.owner, hardware)}</Cell>
                  <Cell align="end">{formatInteger(entry.buffers)}</Cell>
                  <Cell align="end">
                    <Bytes value={entry.bytes} kind="memory" />
                  </Cell>
                </Row>
              ))}
            </tbody>
          </Table>
        )}
      </div>
    </Card>
  )
}

/** The ledger speaks of models by id; people know them by name. */
function ownerTitle(owner: string, hardware: Hardware): string {
  return hardware.loaded.reduce((title, model) => title.replace(`model:${model.modelId}`, model.name), owner)
}
