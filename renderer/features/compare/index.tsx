/** The original and its variants side by side: what each weighs, how close it stays, how fast it runs. Which ones, against which, is in the address. */
import { GitCompareArrows } from 'lucide-react'
import { Redirect, useLocation } from 'wouter'
import { useDelayed } from '../../lib/use-now.ts'
import { useQueryChoice } from '../../lib/url-state.ts'
import { ButtonLink } from '../../ui/button.tsx'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard } from '../../ui/state.tsx'
import { modelTree } from '../models/library.ts'
import { ModelPicker } from '../models/model-picker.tsx'
import { useModels } from '../models/queries.ts'
import { AddEntry } from './add-entry.tsx'
import { Board } from './board.tsx'
import { useBoard } from './queries.ts'
import { MARGINS } from './verdicts.tsx'

export function CompareScreen({ modelId }: { readonly modelId: string | undefined }) {
  const models = useModels()
  const [, navigate] = useLocation()
  const slow = useDelayed(models.isPending, 150)
  const asked = models.data?.find((model) => model.id === modelId)
  // Servers and published results are on boards, not in the list: the board knows whose.
  const sourceId = asked?.parentId ?? asked?.id ?? modelId ?? null
  const picker = <ModelPicker label="Choose a model" modelId={sourceId} offer="sources" onChange={(id) => navigate(`/compare/${id}`)} />
  if (models.data === undefined) {
    return (
      <Page title="Compare">
        {models.error !== null ? (
          <ErrorCard error={models.error} onRetry={() => void models.refetch()} />
        ) : (
          slow && <SkeletonLines label="Reading the library" />
        )}
      </Page>
    )
  }
  if (sourceId === null) {
    const withVariants = modelTree(models.data).filter((node) => node.variants.length > 0)
    // With one family there is nothing to choose.
    const [only, ...others] = withVariants
    if (only !== undefined && others.length === 0) return <Redirect to={`/compare/${only.model.id}`} replace />
    return (
      <Page title="Compare">
        {withVariants.length === 0 ? (
          <EmptyState
            icon={GitCompareArrows}
            title="Compare needs two variants"
            actions={
              <ButtonLink variant="primary" href="/optimize">
                Create one
              </ButtonLink>
            }
          >
            Compress a model, and its original and the result stand here side by side: size, quality, speed, and the error of every layer.
          </EmptyState>
        ) : (
          <EmptyState icon={GitCompareArrows} title="Which model?" actions={picker}>
            Choose a model to see it beside its variants.
          </EmptyState>
        )}
      </Page>
    )
  }
  return <CompareFamily key={sourceId} sourceId={sourceId} picker={picker} />
}

function CompareFamily({ sourceId, picker }: { readonly sourceId: string; readonly picker: React.ReactNode }) {
  const [margin, setMargin] = useQueryChoice('margin', MARGINS, '0.01')
  const { entries, error, isPending, refetch } = useBoard(sourceId, Number(margin))
  const slow = useDelayed(isPending, 150)
  if (entries === null) {
    return (
      <Page title="Compare" actions={picker}>
        {error !== null ? <ErrorCard error={error} onRetry={refetch} /> : slow && <SkeletonLines label="Reading the results" lines={8} />}
      </Page>
    )
  }
  const boardId = entries[0]?.model.id ?? sourceId
  if (boardId !== sourceId) return <Redirect to={`/compare/${boardId}`} replace />
  if (entries.length < 2) {
    return (
      <Page title="Compare" actions={picker}>
        <EmptyState
          icon={GitCompareArrows}
          title="Compare needs two variants"
          actions={
            <>
              <ButtonLink variant="primary" href={`/optimize/${sourceId}`}>
                Create one
              </ButtonLink>
              <AddEntry sourceId={sourceId} />
            </>
          }
        >
          So far there is only the original of {entries[0]?.model.name}. Compress it, or add a model on a server or published results to
          compare it with.
        </EmptyState>
      </Page>
    )
  }
  return <Board entries={entries} picker={picker} margin={margin} onMargin={setMargin} />
}
