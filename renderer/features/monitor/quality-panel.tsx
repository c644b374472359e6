/** Variants whose drift from their original is measured again on a schedule, and what became of it. */
import { ShieldCheck, X } from 'lucide-react'
import { useState } from 'react'
import type { ModelSummary, QualityCheck, QualityWatch } from '../../../engine/contract/index.ts'
import { formatDateTime, formatPercent, formatSignificant, plural } from '../../lib/format.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button, ButtonLink, IconButton } from '../../ui/button.tsx'
import { Select } from '../../ui/controls.tsx'
import { Card } from '../../ui/page.tsx'
import { Sparkline } from '../../ui/sparkline.tsx'
import { ErrorCard, Notice } from '../../ui/state.tsx'
import { Term } from '../../ui/term.tsx'
import { ModelPicker } from '../models/model-picker.tsx'
import { useModels } from '../models/queries.ts'
import styles from './monitor.module.css'
import { useSetWatch, useWatches } from './queries.ts'

const INTERVALS = [
  { value: '1', title: 'every hour' },
  { value: '6', title: 'every 6 hours' },
  { value: '24', title: 'every day' },
  { value: '168', title: 'every week' },
] as const

export function QualityPanel() {
  const watches = useWatches()
  const models = useModels().data ?? []
  const setWatch = useSetWatch()
  const [modelId, setModelId] = useState<string | null>(null)
  const [hours, setHours] = useState<(typeof INTERVALS)[number]['value']>('24')
  return (
    <Card
      title={
        <span className={styles.cardTitle}>
          <ShieldCheck size={15} aria-hidden /> Quality watch
        </span>
      }
    >
      <p className={styles.quiet}>
        Measures again and again: of a variant here the <Term name="kld">divergence</Term> from its original, of a model on a server its
        answers to a short task. The same bytes give the same figures; when they move, something else did.
      </p>
      {watches.error !== null && <ErrorCard error={watches.error} onRetry={() => void watches.refetch()} />}
      {setWatch.error !== null && <ErrorCard error={setWatch.error} />}
      <ul className={styles.watches}>
        {(watches.data ?? []).map((watch) => (
          <li key={watch.modelId}>
            <WatchRow
              watch={watch}
              model={models.find((model) => model.id === watch.modelId)}
              onStop={() => setWatch.mutate({ modelId: watch.modelId, everyHours: null })}
            />
          </li>
        ))}
      </ul>
      <div className={styles.bar}>
        <ModelPicker label="What to watch" modelId={modelId} onChange={setModelId} blocked={notAVariant} />
        <Select label="How often" value={hours} onChange={setHours} options={INTERVALS} />
        <Button
          disabled={modelId === null}
          busy={setWatch.isPending}
          onClick={() => modelId !== null && setWatch.mutate({ modelId, everyHours: Number(hours) }, { onSuccess: () => setModelId(null) })}
        >
          Watch it
        </Button>
      </div>
    </Card>
  )
}

function notAVariant(model: ModelSummary): string | null {
  if (model.origin === 'published') return 'A results file: nobody can be asked again.'
  return model.parentId === null && model.origin === 'folder' ? 'An original drifts from nothing: choose one of its variants.' : null
}

/** What is drawn over time, nats. */
function figureOf(check: QualityCheck): number {
  return (check.answers === null ? check.kldMean : check.answers.logprobShift) ?? 0
}

function saidOf({ kldMean, top1Agreement, answers }: QualityCheck): string {
  if (answers !== null) {
    const shift = answers.logprobShift === null ? '' : `, log-probabilities within ${formatSignificant(answers.logprobShift)} nats`
    const right = answers.accuracy === null ? '' : `, ${formatPercent(answers.accuracy)} right`
    return `${answers.items - answers.changed} of ${answers.items} answers as at first${shift}${right}`
  }
  const agreement = top1Agreement === null ? '' : `, ${formatPercent(top1Agreement, 2)} same next token`
  return `${kldMean === null ? 'No finite divergence' : `${formatSignificant(kldMean)} nats`}${agreement}`
}

const STATES = {
  waiting: { tone: 'neutral', title: 'waiting for a second check' },
  steady: { tone: 'positive', title: 'steady' },
  changed: { tone: 'danger', title: 'changed' },
} as const

interface WatchRowProps {
  readonly watch: QualityWatch
  readonly model: ModelSummary | undefined
  readonly onStop: () => void
}

function WatchRow({ watch, model, onStop }: WatchRowProps) {
  const newest = watch.checks.at(-1)
  const state = STATES[watch.state]
  const name = model?.name ?? 'a variant that is gone'
  return (
    <article className={styles.watch} aria-label={name}>
      <div className={styles.watchHead}>
        <strong>{name}</strong>
        <Badge tone={state.tone}>{state.title}</Badge>
        <span className={styles.grow} />
        {model !== undefined && (
          <ButtonLink size="small" variant="ghost" href={`/compare/${model.id}`}>
            Compare
          </ButtonLink>
        )}
        <IconButton label={`Stop watching ${name}`} icon={X} size="small" onClick={onStop} />
      </div>
      {watch.reason !== null && <Notice tone="warning">{watch.reason}</Notice>}
      <div className={styles.watchBody}>
        <Sparkline
          label={`${(newest?.answers ?? null) === null ? 'Divergence' : 'Shift of log-probabilities'} of the last ${plural(watch.checks.length, 'check')}`}
          values={watch.checks.map(figureOf)}
          capacity={Math.max(8, watch.checks.length)}
          ceiling={Math.max(1e-9, ...watch.checks.map(figureOf)) * 1.15}
        />
        <p className={styles.quiet}>
          {newest === undefined
            ? 'The first check is under way or waits its turn.'
            : `${saidOf(newest)}, ${formatDateTime(newest.at)} on ${newest.adapter}.`}{' '}
          {plural(watch.checks.length, 'check')}; next {watch.nextAt === null ? 'never' : formatDateTime(watch.nextAt)}.
        </p>
      </div>
    </article>
  )
}
