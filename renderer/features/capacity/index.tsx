/** What a model needs and gives on this machine or on GPUs it does not have: fit, context, concurrency, scheme, speed, service, cost. */
import { keepPreviousData, useQuery } from '@tanstack/react-query'
import { Ruler } from 'lucide-react'
import { useEngine } from '../../data/engine.tsx'
import { useDelayed } from '../../lib/use-now.ts'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard, Notice } from '../../ui/state.tsx'
import { useModels } from '../models/queries.ts'
import styles from './capacity.module.css'
import { AccuracyCard } from './accuracy-card.tsx'
import { FitCard } from './fit-card.tsx'
import { OptionsPanel } from './options-panel.tsx'
import { ParallelCard } from './parallel-card.tsx'
import { requestOf, useAsk } from './request.ts'
import { SchemesCard } from './schemes-card.tsx'
import { ServiceCard } from './service-card.tsx'
import { SpeedCard } from './speed-card.tsx'
import { SubjectPicker } from './subject-picker.tsx'

export function CapacityScreen() {
  const { queries } = useEngine()
  const [parameters, ask] = useAsk()
  const models = useModels()
  const catalog = useQuery({ ...queries.capacity.catalog.queryOptions(), staleTime: Number.POSITIVE_INFINITY })
  const contextLimit =
    models.data?.find((model) => model.id === parameters.get('model'))?.architecture.contextLength ??
    catalog.data?.models.find((model) => model.id === parameters.get('published'))?.contextLimit ??
    null
  const request = requestOf(parameters, contextLimit)
  const picker = <SubjectPicker parameters={parameters} ask={ask} models={catalog.data?.models ?? []} />
  if (request === null) {
    return (
      <Page title="Capacity" body="fill">
        <div className={styles.hollow}>
          <EmptyState icon={Ruler} title="Which model?" actions={picker}>
            Choose a model of the library or a published one. It need not be on this disk: its configuration says what it takes.
          </EmptyState>
        </div>
      </Page>
    )
  }
  return (
    <Page title="Capacity" actions={picker} body="fill">
      <div className={styles.screen}>
        <div className={styles.answers}>
          <Answers
            key={JSON.stringify(request.subject)}
            request={request}
            ask={ask}
            // before the model's limit is known the question would be another one
            ready={!models.isPending && !catalog.isPending}
          />
        </div>
        <OptionsPanel request={request} parameters={parameters} ask={ask} catalog={catalog.data} contextLimit={contextLimit} />
      </div>
    </Page>
  )
}

interface AnswersProps {
  readonly request: NonNullable<ReturnType<typeof requestOf>>
  readonly ask: ReturnType<typeof useAsk>[1]
  readonly ready: boolean
}

function Answers({ request, ask, ready }: AnswersProps) {
  const { queries } = useEngine()
  const plan = useQuery({ ...queries.capacity.plan.queryOptions({ input: request }), enabled: ready, placeholderData: keepPreviousData })
  const slow = useDelayed(plan.isPending, 150)
  if (plan.error !== null) return <ErrorCard error={plan.error} onRetry={() => void plan.refetch()} />
  if (plan.data === undefined) return slow && <SkeletonLines label="Planning" lines={8} height="2rem" />
  return (
    <div className={styles.list} aria-busy={plan.isPlaceholderData}>
      <FitCard plan={plan.data} ask={ask} />
      {plan.data.notes.length > 0 && (
        <Notice tone="info">
          <ul>
            {plan.data.notes.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
        </Notice>
      )}
      <div className={styles.pair}>
        <SpeedCard plan={plan.data} />
        <ServiceCard plan={plan.data} />
      </div>
      {request.engine === 'vllm' && <ParallelCard plan={plan.data} ask={ask} />}
      <SchemesCard plan={plan.data} ask={ask} />
      {request.deviceId === null && <AccuracyCard />}
    </div>
  )
}
