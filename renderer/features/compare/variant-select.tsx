/** Which variant a card of one variant shows, where several have what the card needs. */
import { Select } from '../../ui/controls.tsx'
import type { Entry } from './metrics.ts'
import { entryTitle } from './series.tsx'

interface VariantSelectProps {
  readonly candidates: readonly Entry[]
  readonly chosen: Entry
  readonly source: Entry | undefined
  readonly onChoose: (modelId: string) => void
}

export function VariantSelect({ candidates, chosen, source, onChoose }: VariantSelectProps) {
  if (candidates.length < 2) return null
  return (
    <Select
      size="small"
      label="Variant"
      value={chosen.model.id}
      onChange={onChoose}
      options={candidates.map((candidate) => ({ value: candidate.model.id, title: entryTitle(candidate, source) }))}
    />
  )
}
