/** How fast: the estimate as a range with its source, and the measurement in its place where there is one. */
import type { CapacityPlan, Estimate } from '../../../engine/contract/index.ts'
import { formatInteger } from '../../lib/format.ts'
import { ButtonLink } from '../../ui/button.tsx'
import { Duration, EstimateRange, Rate } from '../../ui/numbers.tsx'
import { Card, Facts } from '../../ui/page.tsx'
import { Term } from '../../ui/term.tsx'
import styles from './capacity.module.css'

export function SpeedCard({ plan }: { readonly plan: CapacityPlan }) {
  const { speed, measured, gpu, request } = plan
  const source = gpu.source
  const known = speed.decode !== null || measured !== null
  const range = (estimate: Estimate | null, unit: string) => <EstimateRange value={estimate} unit={unit} source={source} />
  const from = measured === null ? undefined : { provenance: measured.provenance }
  return (
    <Card title="Speed">
      <Facts
        rows={[
          [
            <Term key="term" name="decode">
              Decode, one sequence
            </Term>,
            measured === null ? (
              range(speed.decode, 'tok/s')
            ) : (
              <Rate key="measured" value={measured.decodeTokensPerSecond} measured={from} />
            ),
          ],
          request.concurrency > 1 ? [`Decode, ${formatInteger(request.concurrency)} together`, range(speed.decodeTogether, 'tok/s')] : null,
          [
            <Term key="term" name="prefill">
              Prefill
            </Term>,
            measured === null ? (
              range(speed.prefill, 'tok/s')
            ) : (
              <Rate key="measured" value={measured.prefillTokensPerSecond} measured={from} />
            ),
          ],
          [
            <Term key="term" name="ttft">
              First token after
            </Term>,
            measured === null ? (
              range(speed.firstTokenMs, 'ms')
            ) : (
              <Duration key="measured" seconds={measured.firstTokenMs / 1000} measured={from} />
            ),
          ],
        ]}
      />
      <p className={styles.small}>
        {measured !== null
          ? `Measured here with prompts of ${formatInteger(measured.promptTokens)} tokens.`
          : known
            ? `Estimated: ${source}. ${gpu.confidence === 'low' ? 'Its figures are not well known.' : ''}`
            : 'Nothing is known of the speed of this adapter.'}
      </p>
      {!known && request.deviceId === null && (
        <ButtonLink size="small" href="/hardware">
          Calibrate it
        </ButtonLink>
      )}
    </Card>
  )
}
