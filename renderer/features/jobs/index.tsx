/** All jobs. */
import { ListChecks } from 'lucide-react'
import { Page } from '../../ui/page.tsx'
import { EmptyState } from '../../ui/state.tsx'

export function JobsScreen(_properties: { readonly jobId: string | undefined }) {
  return (
    <Page title="Jobs">
      <EmptyState icon={ListChecks} title="The job list is on its way" />
    </Page>
  )
}
