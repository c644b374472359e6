/** One model. */
import { Box } from 'lucide-react'
import { Page } from '../../ui/page.tsx'
import { EmptyState } from '../../ui/state.tsx'

export function InspectorScreen({ modelId }: { readonly modelId: string; readonly tab: string | undefined }) {
  return (
    <Page title="Model">
      <EmptyState icon={Box} title={`The inspector of ${modelId} is on its way`} />
    </Page>
  )
}
