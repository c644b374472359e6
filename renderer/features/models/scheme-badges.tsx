/** A model's format, and whether the adapter only emulates its arithmetic. */
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { useEmulation } from '../../data/use-emulated.ts'
import { Badge } from '../../ui/badge.tsx'
import { EmulatedBadge } from '../../ui/emulated-badge.tsx'
import styles from './models.module.css'

export function SchemeBadges({ model }: { readonly model: Pick<ModelSummary, 'scheme' | 'inputElements'> }) {
  const emulation = useEmulation()
  return (
    <span className={styles.schemes}>
      <Badge>{model.scheme}</Badge>
      <EmulatedBadge {...emulation(model.inputElements)} />
    </span>
  )
}
