/** The layers of a compression as bars: what each lost, which one is being worked on, which are to come. */
import type { Job, JobLayers } from '../../../engine/contract/index.ts'
import { formatPercent } from '../../lib/format.ts'
import { Term } from '../../ui/term.tsx'
import { layerBars, layerSummary, takenOverLine } from './job-view.ts'
import styles from './jobs.module.css'

export function LayerStrip({ job, layers }: { readonly job: Job; readonly layers: JobLayers }) {
  const bars = layerBars(layers)
  const { last, worst } = layerSummary(layers)
  const takenOver = takenOverLine(layers)
  return (
    <div className={styles.layers}>
      <p className={styles.layerFacts}>
        <Term name={layers.metric === 'output' ? 'layer-output-error' : 'layer-weight-error'}>
          {layers.metric === 'output' ? 'Output error of each layer' : 'Largest weight error of each layer'}
        </Term>
        {last !== null && (
          <span>
            layer {last.layer}: <span className="numeric">{formatPercent(last.error)}</span>
          </span>
        )}
        {worst !== null && worst.layer !== last?.layer && (
          <span>
            worst, layer {worst.layer}: <span className="numeric">{formatPercent(worst.error)}</span>
          </span>
        )}
        {takenOver !== null && <span className={styles.takenOver}>{takenOver}</span>}
      </p>
      <div
        className={styles.strip}
        role="img"
        aria-label={`${job.title}: ${layers.finished.length} of ${layers.total} layers finished${takenOver === null ? '' : `, ${takenOver}`}${worst === null ? '' : `, worst layer ${worst.layer} with ${formatPercent(worst.error)}`}`}
      >
        {bars.map((bar) => (
          <span key={bar.layer} className={styles.bar} data-state={bar.state} title={bar.title}>
            <span
              className={styles.barFill}
              style={{ height: `${Math.max(bar.share * 100, bar.state === 'done' || bar.state === 'taken' ? 6 : 0)}%` }}
            />
          </span>
        ))}
      </div>
    </div>
  )
}
