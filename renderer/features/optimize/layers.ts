/** The table of layers: rows, what a change adds or saves, and which schemes a whole layer can have. Plain functions. */
import type { SchemeMap, SchemeOverride, SchemeUnit } from '../../../engine/contract/index.ts'
import type { LayerChanges } from './drafts.ts'

/** Stands for "as it is" where a choice has to be text. */
export const ORIGINAL = 'original'

export type LayerRow =
  | { readonly kind: 'layer'; readonly layer: number | null; readonly units: readonly SchemeUnit[] }
  | { readonly kind: 'unit'; readonly unit: SchemeUnit }

export interface LayerFilter {
  /** null = all. */
  readonly role: string | null
  readonly changedOnly: boolean
}

export function layerRows(units: readonly SchemeUnit[], changes: LayerChanges, { role, changedOnly }: LayerFilter): LayerRow[] {
  const shown = units.filter((unit) => (role === null || unit.role === role) && (!changedOnly || changes[unit.id] !== undefined))
  return [...Map.groupBy(shown, (unit) => unit.layer)].flatMap(([layer, members]): LayerRow[] => [
    { kind: 'layer', layer, units: members },
    ...members.map((unit): LayerRow => ({ kind: 'unit', unit })),
  ])
}

export function rolesOf(units: readonly SchemeUnit[]): readonly string[] {
  return [...new Set(units.map((unit) => unit.role))]
}

/** The scheme that a unit will get; null = as it is. */
export function schemeAfter(unit: SchemeUnit, changes: LayerChanges): string | null {
  const change = changes[unit.id]
  return change === undefined ? unit.scheme : change.scheme
}

export function bytesOf(unit: SchemeUnit, scheme: string | null): number {
  if (scheme === unit.scheme) return unit.bytes
  return unit.options.find((option) => option.scheme === scheme)?.bytes ?? unit.plainBytes
}

/** Exact: totals change by the difference of the units' bytes and by nothing else. */
export function totalsAfter(map: SchemeMap, changes: LayerChanges): { readonly weightBytes: number; readonly bitsPerWeight: number } {
  const weightBytes = map.units.reduce((sum, unit) => sum + bytesOf(unit, schemeAfter(unit, changes)) - unit.bytes, map.weightBytes)
  return { weightBytes, bitsPerWeight: (weightBytes * 8) / map.parameters }
}

/** A choice that is what the recipe does anyway is no change; one that a unit cannot have leaves it as it was. */
export function withChange(changes: LayerChanges, units: readonly SchemeUnit[], scheme: string | null): LayerChanges {
  const next: Record<string, SchemeOverride> = { ...changes }
  for (const unit of units) {
    if (scheme === unit.scheme) delete next[unit.id]
    else if (scheme === null || unit.options.some((option) => option.scheme === scheme)) {
      next[unit.id] = { target: unit.modules[0] ?? unit.id, scheme }
    }
  }
  return next
}

/** Schemes that every one of the units can have, in the order of the first. */
export function commonSchemes(units: readonly SchemeUnit[]): readonly string[] {
  const [first, ...others] = units
  if (first === undefined) return []
  return first.options
    .map((option) => option.scheme)
    .filter((scheme) => others.every((unit) => unit.options.some((option) => option.scheme === scheme)))
}

/** The one scheme of all units, null for "as it is", undefined where they differ. */
export function commonChoice(units: readonly SchemeUnit[], changes: LayerChanges): string | null | undefined {
  const [only, ...others] = new Set(units.map((unit) => schemeAfter(unit, changes)))
  return others.length > 0 ? undefined : only
}
