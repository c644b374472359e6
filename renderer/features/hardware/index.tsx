/** Adapters, memory, limits. */
import { Cpu } from 'lucide-react'
import { Page } from '../../ui/page.tsx'
import { EmptyState } from '../../ui/state.tsx'

export function HardwareScreen() {
  return (
    <Page title="Hardware">
      <EmptyState icon={Cpu} title="The hardware panel is on its way" />
    </Page>
  )
}
