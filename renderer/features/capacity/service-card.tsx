/** One copy of the model under load within the limits that were set: how many at once, what it yields, what it costs, how many GPUs. */
import type { CapacityPlan } from '../../../engine/contract/index.ts'
import { formatInteger } from '../../lib/format.ts'
import { Count, EstimateRange } from '../../ui/numbers.tsx'
import { Card, Facts } from '../../ui/page.tsx'
import styles from './capacity.module.css'

const LIMITED: Readonly<Record<NonNullable<CapacityPlan['service']>['limitedBy'], string>> = {
  memory: 'memory for the cache',
  'per-token': 'the time per token',
  'first-token': 'the time to the first token',
  server: 'the sequences that the server takes',
}

export function ServiceCard({ plan }: { readonly plan: CapacityPlan }) {
  const { service, request, tensorParallel, gpu } = plan
  const { firstTokenMs, perTokenMs } = request.slo
  const copy = tensorParallel.count === 1 ? 'one GPU' : `${tensorParallel.count} GPUs`
  return (
    <Card title="Under load">
      {service === null ? (
        <p className={styles.small}>
          {plan.speed.decode === null ? 'Without a known speed nothing can be said of service.' : 'It does not fit, so it serves nobody.'}
        </p>
      ) : service.concurrency === 0 ? (
        <p className={styles.small}>
          Not even one request at a time keeps {LIMITED[service.limitedBy]} of{' '}
          {formatInteger((service.limitedBy === 'first-token' ? firstTokenMs : perTokenMs) ?? 0)} ms.
        </p>
      ) : (
        <>
          <Facts
            rows={[
              ['At once, on ' + copy, <Count key="count" value={service.concurrency} exact estimate={gpu.source} />],
              ['Limited by', LIMITED[service.limitedBy]],
              ['Output of all', <EstimateRange key="rate" value={service.tokensPerSecond} unit="tok/s" source={gpu.source} />],
              service.costPerMillionTokens === null
                ? null
                : [
                    'Cost of 1 M output tokens',
                    <EstimateRange
                      key="cost"
                      value={service.costPerMillionTokens}
                      unit=""
                      source={`${formatInteger(request.busyShare * 100)} % of the paid time is busy`}
                    />,
                  ],
              service.gpusForUsers === null
                ? null
                : [
                    `GPUs for ${formatInteger(request.users ?? 0)} people`,
                    <Count key="gpus" value={service.gpusForUsers} exact estimate={gpu.source} />,
                  ],
            ]}
          />
          <p className={styles.small}>
            Requests of {formatInteger(request.promptTokens)} + {formatInteger(request.outputTokens)} tokens in a steady state
            {firstTokenMs === null && perTokenMs === null ? '; no limit on waiting is set' : ''}. Judged by the slow end of the estimate.
          </p>
        </>
      )}
    </Card>
  )
}
