/** Presets. */
import { SlidersHorizontal } from 'lucide-react'
import { Page } from '../../ui/page.tsx'
import { EmptyState } from '../../ui/state.tsx'

export function OptimizeScreen(_properties: { readonly modelId: string | undefined }) {
  return (
    <Page title="Optimize">
      <EmptyState icon={SlidersHorizontal} title="Presets are on their way" />
    </Page>
  )
}
