/** What a metric reads of an entry: a fact of its files, or a measurement with its provenance. */
import type { Entry, Reading } from './metrics.ts'

/** Standard errors to either side of a 95 % interval. */
export const Z_95 = 1.96

export function fact(value: number): Reading {
  return { value, range: null, rangeMeaning: null, provenance: null, details: {} }
}

/** null stays null: not measured. `protocol` names the part of the results that the provenance is filed under. */
export function measured(entry: Entry, protocol: string, value: number | null, more: Partial<Reading> = {}): Reading | null {
  if (value === null) return null
  return { value, range: null, rangeMeaning: null, provenance: entry.result?.provenance[protocol] ?? null, details: {}, ...more }
}
