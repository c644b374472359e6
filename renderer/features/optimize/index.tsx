/** Choose how to compress: presets with what each will weigh and whether it fits, what to measure afterwards, where to write. Several at once make a queue. */
import { SlidersHorizontal } from 'lucide-react'
import { Redirect, useLocation } from 'wouter'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { Button, ButtonLink } from '../../ui/button.tsx'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard } from '../../ui/state.tsx'
import { useDelayed } from '../../lib/use-now.ts'
import { blockedReason } from '../models/library.ts'
import { ModelPicker } from '../models/model-picker.tsx'
import { useModels } from '../models/queries.ts'
import { useImport } from '../models/use-import.ts'
import { Workbench } from './workbench.tsx'

export function OptimizeScreen({ modelId }: { readonly modelId: string | undefined }) {
  const models = useModels()
  const [, navigate] = useLocation()
  const { chooseFolder } = useImport()
  const slow = useDelayed(models.isPending, 150)
  const model = models.data?.find((candidate) => candidate.id === modelId)
  // A variant is made from its source: its address leads there.
  const source = model === undefined || model.parentId === null ? model : models.data?.find((candidate) => candidate.id === model.parentId)
  const picker = (
    <ModelPicker label="Choose a model" modelId={source?.id ?? null} offer="sources" onChange={(id) => navigate(`/optimize/${id}`)} />
  )
  if (models.error !== null && models.data === undefined) {
    return (
      <Page title="Optimize">
        <ErrorCard error={models.error} onRetry={() => void models.refetch()} />
      </Page>
    )
  }
  if (models.data === undefined) return <Page title="Optimize">{slow && <SkeletonLines label="Reading the library" />}</Page>
  if (source === undefined) {
    const candidates = models.data.filter((candidate) => candidate.parentId === null)
    // With one model there is nothing to choose.
    const [only, ...others] = candidates
    if (only !== undefined && others.length === 0) return <Redirect to={`/optimize/${only.id}`} replace />
    return (
      <Page title="Optimize">
        {candidates.length === 0 ? (
          <EmptyState
            icon={SlidersHorizontal}
            title="Nothing to optimize yet"
            actions={
              <Button variant="primary" onClick={() => void chooseFolder()}>
                Import a model…
              </Button>
            }
          >
            Bring a Hugging Face model folder into the library first; then this is where it gets smaller and faster.
          </EmptyState>
        ) : (
          <EmptyState icon={SlidersHorizontal} title="Which model?" actions={picker}>
            Choose a model, then one or several presets. Lathe writes the variants beside it and leaves the original as it is.
          </EmptyState>
        )}
      </Page>
    )
  }
  return <OptimizeModel key={source.id} model={source} picker={picker} />
}

function OptimizeModel({ model, picker }: { readonly model: ModelSummary; readonly picker: React.ReactNode }) {
  const blocked = blockedReason(model)
  if (blocked !== null) {
    return (
      <Page title="Optimize" actions={picker}>
        <EmptyState
          icon={SlidersHorizontal}
          title={`${model.name} can’t be optimized`}
          actions={<ButtonLink href={`/models/${model.id}`}>Inspect it instead</ButtonLink>}
        >
          {blocked} {model.statusReason?.hint}
        </EmptyState>
      </Page>
    )
  }
  return (
    <Page title="Optimize" actions={picker} body="fill">
      <Workbench model={model} />
    </Page>
  )
}
