/**
 * Does a model fit, and if not, which part tips it over? One function behind every FitBar (specs/ux.md §4.2, specs/benchmark.md §7.3).
 * Weight bytes are exact (safetensors headers or a compression plan), KV bytes exact for the cache dtype; the rest is a stated reserve.
 */
import type { Fit } from '../contract/optimize.ts'

/** Share of the budget above which a fit is called tight: another program's allocation may then push the model out. */
export const TIGHT_SHARE = 0.8

export interface FitInput {
  readonly weightBytes: number
  readonly kvBytes: number
  readonly contextTokens: number
  readonly activationBytes: number
  /** What is not there to be taken: driver, server, desktop. */
  readonly reserveBytes?: number
  /** What loads on this device were measured to take besides, and how many loads. */
  readonly overhead?: { readonly bytes: number; readonly loads: number } | null
  /** Other models that stay while this one is loaded. */
  readonly residentBytes?: number
  /** null where the platform does not say; the verdict is then `unknown`. */
  readonly budgetBytes: number | null
}

/** What a fit that is not tight leaves free of a budget. */
export function marginBytes(budgetBytes: number): number {
  return Math.floor((1 - TIGHT_SHARE) * budgetBytes)
}

export function fitOf({ reserveBytes = 0, residentBytes = 0, overhead = null, ...input }: FitInput): Fit {
  const overheadBytes = Math.max(0, overhead?.bytes ?? 0)
  const { weightBytes, kvBytes, activationBytes, budgetBytes } = input
  const fixedBytes = weightBytes + activationBytes + overheadBytes + reserveBytes + residentBytes
  let verdict: Fit['verdict']
  if (budgetBytes === null) verdict = 'unknown'
  else if (fixedBytes > budgetBytes) verdict = 'weights'
  else if (fixedBytes + kvBytes > budgetBytes) verdict = 'context'
  else if (fixedBytes + kvBytes > TIGHT_SHARE * budgetBytes) verdict = 'tight'
  else verdict = 'fits'
  return {
    ...input,
    ...(overhead !== null && overheadBytes > 0 && { overheadBytes, overheadLoads: overhead.loads }),
    ...(reserveBytes > 0 && { reserveBytes }),
    ...(residentBytes > 0 && { residentBytes }),
    verdict,
  }
}
