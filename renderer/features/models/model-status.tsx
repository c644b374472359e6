/** The state of a model as a chip, and its reason with the button that repairs it. */
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { Badge } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { useModelActions } from './queries.ts'

const CHIPS = {
  missing: { tone: 'danger', text: 'Files moved' },
  unsupported: { tone: 'warning', text: 'Inspect only' },
  invalid: { tone: 'danger', text: 'Unreadable' },
} as const

export function StatusChip({ model }: { readonly model: ModelSummary }) {
  if (model.status === 'ready') return null
  const chip = CHIPS[model.status]
  return <Badge tone={chip.tone}>{chip.text}</Badge>
}

export function StatusReason({ model }: { readonly model: ModelSummary }) {
  const actions = useModelActions()
  if (model.statusReason === null) return null
  return (
    <ErrorCard
      error={model.statusReason}
      tone={model.status === 'unsupported' ? 'warning' : 'danger'}
      actions={
        model.status === 'missing' && (
          <Button size="small" variant="primary" onClick={() => void actions.locate(model)}>
            Locate…
          </Button>
        )
      }
    />
  )
}
