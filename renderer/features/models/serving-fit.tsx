/**
 * Whether a model fits this machine with a context and a number of requests, and the three ways to make it: a longest context, a most at once, a
 * scheme. Each is one press. The engine's planner answers against the real budget; while it thinks, the last answer stays.
 */
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { CAPACITY_DEFAULTS, kvElementsOf, type CapacityPlan, type ModelSummary } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { formatInteger } from '../../lib/format.ts'
import { useDebounced } from '../../lib/use-debounced.ts'
import { Button, ButtonLink } from '../../ui/button.tsx'
import { FitBar } from '../../ui/fit-bar.tsx'
import styles from './models.module.css'

interface ServingFitProps {
  readonly model: ModelSummary
  readonly contextTokens: number
  /** null: the load is not made for a number of requests, and serves one. */
  readonly parallel: number | null
  /** Element of the cache; or two, as keys/values. */
  readonly kvDtype: string
  readonly onContext: ((tokens: number) => void) | null
  readonly onParallel: ((requests: number) => void) | null
}

/** A slider that is dragged asks once it rests. */
const REST_MS = 150

export function ServingFit({ model, contextTokens, parallel, kvDtype, onContext, onParallel }: ServingFitProps) {
  const { queries } = useEngine()
  const input = useDebounced(
    {
      ...CAPACITY_DEFAULTS,
      subject: { kind: 'model' as const, modelId: model.id },
      ...kvElementsOf(kvDtype),
      ...(parallel !== null && { exactConcurrency: true as const }),
      contextTokens,
      concurrency: parallel ?? 1,
      promptTokens: Math.max(1, Math.floor(contextTokens / 2)),
      outputTokens: Math.max(1, Math.floor(contextTokens / 4)),
    },
    REST_MS,
  )
  const plan = useQuery({
    ...queries.capacity.plan.queryOptions({ input }),
    placeholderData: keepPreviousData,
    enabled: model.status === 'ready',
  }).data
  if (plan === undefined) return null
  const { context, concurrency } = plan.limits
  const longest = context === null ? null : Math.min(context, plan.subject.contextLimit ?? context)
  const scheme = plan.schemes.find((option) => option.scheme.id === plan.bestSchemeId)?.scheme
  return (
    <div className={styles.servingFit}>
      <FitBar fit={plan.fit} detail="full" />
      {plan.subject.kvElement !== undefined && (
        <p className={styles.servingNote}>
          {plan.request.kvElement === plan.subject.kvElement
            ? `Keys and values are cached as ${plan.subject.kvElement}, the format that the checkpoint names; what that costs is measured on the model’s own page.`
            : `Keys and values are cached as ${kvDtype}; the checkpoint names ${plan.subject.kvElement}.`}
        </p>
      )}
      <ul className={styles.solves} aria-label="Ways to make it fit">
        {onContext !== null && longest !== null && longest > 0 && longest !== contextTokens && (
          <Solve text="Longest context that fits:">
            <Button size="small" aria-label={`Use ${formatInteger(longest)} tokens of context`} onClick={() => onContext(longest)}>
              Use {formatInteger(longest)}
            </Button>
          </Solve>
        )}
        {onParallel !== null && concurrency !== null && concurrency > 0 && concurrency !== (parallel ?? 1) && (
          <Solve text="Most at once:">
            <Button
              size="small"
              aria-label={`Use ${formatInteger(Math.min(concurrency, MOST_PARALLEL))} requests at once`}
              onClick={() => onParallel(Math.min(concurrency, MOST_PARALLEL))}
            >
              Use {formatInteger(Math.min(concurrency, MOST_PARALLEL))}
            </Button>
          </Solve>
        )}
        {doesNotFit(plan) && scheme !== undefined && scheme.title !== plan.subject.scheme && (
          <Solve text={`${scheme.title} would fit as asked`}>
            <ButtonLink size="small" href={`/optimize/${model.parentId ?? model.id}`}>
              Make it
            </ButtonLink>
          </Solve>
        )}
      </ul>
    </div>
  )
}

/** The runtime's own limit on sequences of one step. */
export const MOST_PARALLEL = 64

function Solve({ text, children }: { readonly text: string; readonly children: ReactNode }) {
  return (
    <li>
      <span>{text}</span>
      {children}
    </li>
  )
}

function doesNotFit({ fit }: CapacityPlan): boolean {
  return fit.verdict === 'context' || fit.verdict === 'weights' || fit.verdict === 'tight'
}
