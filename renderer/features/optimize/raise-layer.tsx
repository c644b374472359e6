/** From a layer that lost too much to a variant with more bits in it: says what will change and what runs again, then starts it. */
import { useMutation, useQuery } from '@tanstack/react-query'
import { ArrowUpFromLine } from 'lucide-react'
import { useLocation } from 'wouter'
import { DEFAULT_SETTINGS, type RaisePlan } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { toUiError } from '../../lib/errors.ts'
import { formatBytes } from '../../lib/format.ts'
import { useViewStore } from '../../shell/view-store.ts'
import { Button } from '../../ui/button.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { showToast } from '../../ui/toast.tsx'
import { useDrafts } from './drafts.ts'
import styles from './recipe.module.css'

/** `name` as the heatmap has it: a module, or its weight. */
export function RaiseLayer({ variantId, name }: { readonly variantId: string; readonly name: string }) {
  const { queries } = useEngine()
  const module = name.replace(/\.weight$/, '')
  const plan = useQuery({ ...queries.optimize.raise.queryOptions({ input: { variantId, module } }), retry: false })
  if (plan.error !== null) {
    // a layer without a next step, or a variant without a record: nothing is wrong
    const { message, hint } = toUiError(plan.error)
    return (
      <p className={styles.note}>
        {message} {hint}
      </p>
    )
  }
  return plan.data === undefined ? null : <Raise plan={plan.data} variantId={variantId} />
}

function Raise({ plan, variantId }: { readonly plan: RaisePlan; readonly variantId: string }) {
  const { client, queries } = useEngine()
  const [, navigate] = useLocation()
  const settings = useQuery(queries.settings.get.queryOptions()).data ?? DEFAULT_SETTINGS
  const setJobsTrayOpen = useViewStore((state) => state.setJobsTrayOpen)
  const { modelId, recipe, calibration, seed } = plan
  const start = useMutation({
    mutationFn: () =>
      client.optimize.start({
        modelId,
        presetIds: [],
        recipes: [recipe],
        overrides: [],
        calibration,
        baseVariantId: variantId,
        outputFolder: null,
        evaluate: settings.evaluate,
        seed,
      }),
    onSuccess: (jobs) => {
      setJobsTrayOpen(true)
      showToast({
        title: `Started ${jobs[0]?.title ?? recipe.title}`,
        action: { title: 'Undo', onPress: () => void Promise.all(jobs.map((job) => client.jobs.cancel({ jobId: job.id }))) },
      })
    },
  })
  const edit = () => {
    useDrafts.getState().setRecipe(modelId, { ...recipe, chosen: true })
    navigate(`/optimize/${modelId}?presets=none&seed=${seed}&base=${variantId}`)
  }
  const place = plan.layer === null ? plan.role : `${plan.role} of layer ${plan.layer}`
  return (
    <div className={styles.raise}>
      <Button icon={ArrowUpFromLine} busy={start.isPending} onClick={() => start.mutate()}>
        {plan.to === null ? 'Keep as original and re-run' : 'Raise this layer and re-run'}
      </Button>
      <p className={styles.note}>
        {place}: {plan.from} → {plan.to ?? 'as original'}, {plan.addedBytes < 0 ? '−' : '+'}
        {formatBytes(Math.abs(plan.addedBytes))}. {plan.recomputes}
      </p>
      {start.error !== null && <ErrorCard error={start.error} />}
      <Button size="small" variant="ghost" onClick={edit}>
        Open the recipe instead
      </Button>
    </div>
  )
}
