/** What the user may change. */
import { Settings } from 'lucide-react'
import { Page } from '../../ui/page.tsx'
import { EmptyState } from '../../ui/state.tsx'

export function SettingsScreen(_properties: { readonly section: string | undefined }) {
  return (
    <Page title="Settings">
      <EmptyState icon={Settings} title="Settings are on their way" />
    </Page>
  )
}
