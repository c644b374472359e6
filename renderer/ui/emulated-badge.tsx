/** Says that an adapter computes a scheme by other means: the same numbers, without the speed. Nothing where it has the arithmetic. */
import { Split } from 'lucide-react'
import type { InputElement } from '../../engine/contract/index.ts'
import { Badge } from './badge.tsx'
import { Info } from './info.tsx'

const ARITHMETIC: Readonly<Record<InputElement, string>> = {
  int8: '8-bit integer',
  e4m3: '8-bit floating-point',
  e2m1: '4-bit floating-point',
}

export function emulationSentence(elements: readonly InputElement[], adapter: string): string {
  const names = elements.map((element) => ARITHMETIC[element]).join(' and ')
  return `${adapter} offers no ${names} products to Lathe. Inputs are rounded exactly as such hardware would round them and multiplied in floats: the same answers, the same memory, but not faster.`
}

export function EmulatedBadge({ elements, adapter }: { readonly elements: readonly InputElement[]; readonly adapter: string }) {
  if (elements.length === 0) return null
  return (
    <Info card={emulationSentence(elements, adapter)} label="Emulated on this adapter">
      <Badge tone="outline" icon={Split}>
        emulated
      </Badge>
    </Info>
  )
}
