/**
 * Does a model fit, and if not, which part tips it over? One function behind every FitBar (specs/ux.md §4.2, specs/benchmark.md §7.3).
 * Weight bytes are exact (safetensors headers or a compression plan), KV bytes exact for the cache dtype; the rest is a stated reserve.
 */
import type { Fit } from '../contract/optimize.ts'

/** Share of the budget above which a fit is called tight: another program's allocation may then push the model out. */
const TIGHT_SHARE = 0.8

/**
 * Memory of one step besides weights and KV: activations of `tokens` rows through the widest layer, and logits rows. f32.
 * `width` is the sum of the widths of all activation buffers per token (engine/model states it per program).
 */
export function activationBytes(shape: {
  readonly tokens: number
  readonly width: number
  readonly logitRows: number
  readonly vocabulary: number
}): number {
  return 4 * (shape.tokens * shape.width + shape.logitRows * shape.vocabulary)
}

export interface FitInput {
  readonly weightBytes: number
  readonly kvBytesPerToken: number
  readonly contextTokens: number
  readonly activationBytes: number
  /** null where the platform does not say; the verdict is then `unknown`. */
  readonly budgetBytes: number | null
}

export function fitOf(input: FitInput): Fit {
  const kvBytes = input.kvBytesPerToken * input.contextTokens
  const { weightBytes, budgetBytes, contextTokens } = input
  const fixedBytes = weightBytes + input.activationBytes
  let verdict: Fit['verdict']
  if (budgetBytes === null) verdict = 'unknown'
  else if (fixedBytes > budgetBytes) verdict = 'weights'
  else if (fixedBytes + kvBytes > budgetBytes) verdict = 'context'
  else if (fixedBytes + kvBytes > TIGHT_SHARE * budgetBytes) verdict = 'tight'
  else verdict = 'fits'
  return { weightBytes, kvBytes, activationBytes: input.activationBytes, budgetBytes, contextTokens, verdict }
}

/** Largest context that fits beside the weights, in tokens; 0 when the weights alone don't fit, null when the budget is unknown. */
export function largestContext(input: Omit<FitInput, 'contextTokens'>): number | null {
  if (input.budgetBytes === null) return null
  const left = input.budgetBytes - input.weightBytes - input.activationBytes
  return left <= 0 ? 0 : Math.floor(left / input.kvBytesPerToken)
}
