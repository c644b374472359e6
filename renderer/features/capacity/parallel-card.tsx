/** Over how many GPUs vLLM may split the model, and the rule that forbids each other number. */
import type { CapacityPlan } from '../../../engine/contract/index.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { Card } from '../../ui/page.tsx'
import styles from './capacity.module.css'
import type { Ask } from './request.ts'

export function ParallelCard({ plan, ask }: { readonly plan: CapacityPlan; readonly ask: Ask }) {
  const { tensorParallel, request } = plan
  return (
    <Card
      title="GPUs per copy (tensor parallel)"
      actions={
        request.tensorParallel !== null && (
          <Button size="small" variant="ghost" onClick={() => ask({ gpus: null })}>
            The least that fits
          </Button>
        )
      }
    >
      <ul className={styles.choices}>
        {tensorParallel.choices.map(({ count, allowed, reason, fits }) => (
          <li key={count}>
            <Button
              size="small"
              variant={count === tensorParallel.count ? 'primary' : 'secondary'}
              aria-pressed={count === tensorParallel.count}
              disabled={!allowed}
              onClick={() => ask({ gpus: count })}
            >
              {String(count)}
            </Button>
            {reason === null ? (
              fits === false ? (
                <Badge tone="danger">does not fit</Badge>
              ) : (
                <Badge tone="positive">fits</Badge>
              )
            ) : (
              <span className={styles.small}>{reason}</span>
            )}
          </li>
        ))}
      </ul>
    </Card>
  )
}
