/** Chat with any model of the library. */
import { MessageSquare } from 'lucide-react'
import { Page } from '../../ui/page.tsx'
import { EmptyState } from '../../ui/state.tsx'

export function ChatScreen(_properties: { readonly threadId: string | undefined }) {
  return (
    <Page title="Chat">
      <EmptyState icon={MessageSquare} title="Chat is on its way" />
    </Page>
  )
}
