/** What the selected adapter computes by other means, out of what a scheme rounds its inputs to. */
import { useQuery } from '@tanstack/react-query'
import type { InputElement } from '../../engine/contract/index.ts'
import { useEngine } from './engine.tsx'

export interface Emulation {
  readonly elements: readonly InputElement[]
  /** Of the adapter. */
  readonly adapter: string
}

/** Nothing until the adapters are known. */
export function useEmulation(): (inputElements: readonly InputElement[]) => Emulation {
  const { queries } = useEngine()
  const selected = useQuery(queries.system.hardware.queryOptions()).data?.adapters.find((adapter) => adapter.selected)
  return (inputElements) => ({
    elements: inputElements.filter((element) => selected?.emulates.includes(element) === true),
    adapter: selected?.name ?? '',
  })
}
