/** The library. */
import { Box } from 'lucide-react'
import { Page } from '../../ui/page.tsx'
import { EmptyState } from '../../ui/state.tsx'

export function ModelsScreen() {
  return (
    <Page title="Models">
      <EmptyState icon={Box} title="The library is on its way" />
    </Page>
  )
}
