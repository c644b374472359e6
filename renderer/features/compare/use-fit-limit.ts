/** How far to the right this machine reaches: all of its memory, or what cache, activations and reserve leave to the weights. */
import { useQuery } from '@tanstack/react-query'
import { CAPACITY_DEFAULTS, DEFAULT_SETTINGS } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'

/** Bytes for the axes that are bytes of memory; null elsewhere, and where the adapter does not say how much it has. */
export function useFitLimit(sourceId: string | null, axis: string): number | null {
  const { queries } = useEngine()
  const settings = useQuery(queries.settings.get.queryOptions()).data ?? DEFAULT_SETTINGS
  const plan = useQuery({
    ...queries.capacity.plan.queryOptions({
      input: {
        ...CAPACITY_DEFAULTS,
        subject: { kind: 'model', modelId: sourceId ?? '' },
        contextTokens: settings.contextTokens,
        kvElement: settings.kvDtype,
      },
    }),
    enabled: sourceId !== null && axis === 'size',
  }).data
  const budget = useQuery(queries.system.hardware.queryOptions()).data?.gpuBudgetBytes ?? null
  if (budget === null) return null
  if (axis === 'peak') return budget
  if (axis !== 'size' || plan === undefined) return null
  const { kvBytes, activationBytes, reserveBytes } = plan.parts
  return Math.max(0, budget - kvBytes - activationBytes - reserveBytes)
}
