/** Original and variants side by side. */
import { GitCompareArrows } from 'lucide-react'
import { Page } from '../../ui/page.tsx'
import { EmptyState } from '../../ui/state.tsx'

export function CompareScreen(_properties: { readonly modelId: string | undefined }) {
  return (
    <Page title="Compare">
      <EmptyState icon={GitCompareArrows} title="Compare is on its way" />
    </Page>
  )
}
