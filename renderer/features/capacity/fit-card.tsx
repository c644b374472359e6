/** Does it fit, and the three ways to make it: the longest context, the most sequences, the best scheme. Each can be taken with one press. */
import type { CapacityPlan } from '../../../engine/contract/index.ts'
import { formatInteger } from '../../lib/format.ts'
import { SoftwareBadge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { FitBar } from '../../ui/fit-bar.tsx'
import { Bytes, Count } from '../../ui/numbers.tsx'
import { Card } from '../../ui/page.tsx'
import { Term } from '../../ui/term.tsx'
import styles from './capacity.module.css'
import type { Ask } from './request.ts'

interface FitCardProps {
  readonly plan: CapacityPlan
  readonly ask: Ask
}

export function FitCard({ plan, ask }: FitCardProps) {
  const { request, gpu, limits, tensorParallel, kv, parts } = plan
  const several = tensorParallel.count > 1
  return (
    <Card
      title={
        <span className={styles.cardTitle}>
          {plan.subject.title} · {plan.subject.scheme} on {several && `${tensorParallel.count} × `}
          {gpu.title}
          {gpu.software && <SoftwareBadge />}
        </span>
      }
    >
      <FitBar fit={plan.fit} detail="full" />
      <p className={styles.small}>
        <Count value={plan.subject.parameters} /> parameters; <Bytes value={kv.bytesPerToken} kind="memory" /> of{' '}
        <Term name="kv">cache</Term> per token
        {several && ', on each GPU'}
        {parts.fragmentationBytes > 0 && (
          <>
            ; <Bytes value={parts.fragmentationBytes} kind="memory" /> only fill up blocks
          </>
        )}
        .
      </p>
      <dl className={styles.solves}>
        <Solve
          name="Longest context"
          value={limits.context === null ? null : `${formatInteger(limits.context)} tokens`}
          about={`with ${formatInteger(request.concurrency)} at once`}
          take={
            limits.context !== null && limits.context > 0 && limits.context !== request.contextTokens
              ? () => ask({ context: limits.context })
              : null
          }
        />
        <Solve
          name="Most at once"
          value={limits.concurrency === null ? null : formatInteger(limits.concurrency)}
          about={
            <>
              of {formatInteger(request.contextTokens)} tokens; <Count value={limits.usualConcurrency} exact /> of the usual{' '}
              {formatInteger(request.promptTokens)} + {formatInteger(request.outputTokens)}
            </>
          }
          take={
            limits.concurrency !== null && limits.concurrency > 0 && limits.concurrency !== request.concurrency
              ? () => ask({ concurrency: limits.concurrency })
              : null
          }
        />
        <Solve
          name="Best scheme that fits"
          value={
            plan.schemes.find((option) => option.scheme.id === plan.bestSchemeId)?.scheme.title ??
            (gpu.memoryBytes === null ? null : 'none')
          }
          about="most bits, with nothing against it on this device"
          take={plan.bestSchemeId !== null && plan.bestSchemeId !== request.schemeId ? () => ask({ scheme: plan.bestSchemeId }) : null}
        />
      </dl>
    </Card>
  )
}

interface SolveProps {
  readonly name: string
  readonly value: string | null
  readonly about: React.ReactNode
  readonly take: (() => void) | null
}

function Solve({ name, value, about, take }: SolveProps) {
  return (
    <div className={styles.solve}>
      <dt>{name}</dt>
      <dd className="numeric">{value ?? '—'}</dd>
      <dd className={styles.small}>{about}</dd>
      {take !== null && (
        <dd>
          <Button size="small" onClick={take} aria-label={`Take it: ${name.toLowerCase()}`}>
            Take it
          </Button>
        </dd>
      )}
    </div>
  )
}
