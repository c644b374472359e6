/**
 * What a FitBar says, from the engine's Fit. The engine decides the verdict; this turns it into shares, a tone and one sentence with the numbers.
 * Two warnings are kept apart because they have different remedies: smaller weights, or a shorter context.
 */
import { assertNever, type Fit } from '../../engine/contract/index.ts'
import { formatBytes, formatInteger } from './format.ts'

export type FitTone = 'positive' | 'warning' | 'danger' | 'neutral'

export interface FitView {
  readonly tone: FitTone
  /** Two or three words for a chip. */
  readonly label: string
  /** One sentence with the figures and, where it does not fit, the remedy. */
  readonly sentence: string
  readonly totalBytes: number
  /** Full width of the bar in bytes: the budget, or the need where that is larger or the budget is unknown. */
  readonly scaleBytes: number
}

export function describeFit(fit: Fit): FitView {
  const residentBytes = fit.residentBytes ?? 0
  const totalBytes =
    fit.weightBytes + fit.kvBytes + fit.activationBytes + (fit.overheadBytes ?? 0) + (fit.reserveBytes ?? 0) + residentBytes
  const budget = fit.budgetBytes
  const scaleBytes = Math.max(totalBytes, budget ?? 0, 1)
  const need = formatBytes(totalBytes, 'memory')
  const have = budget === null ? '' : formatBytes(budget, 'memory')
  const context = `${formatInteger(fit.contextTokens)} tokens of context`
  const view = { totalBytes, scaleBytes }
  switch (fit.verdict) {
    case 'fits':
      return { ...view, tone: 'positive', label: 'Fits', sentence: `Needs ${need} of ${have} with ${context}.` }
    case 'tight':
      return {
        ...view,
        tone: 'warning',
        label: 'Tight',
        sentence: `Needs ${need} of ${have} with ${context}; little is left for anything else.`,
      }
    case 'context':
      return {
        ...view,
        tone: 'danger',
        label: 'Context too long',
        sentence: `The weights fit, but ${context} bring the need to ${need} of ${have}. Choose a shorter context.`,
      }
    case 'weights':
      return {
        ...view,
        tone: 'danger',
        label: 'Too large',
        sentence:
          residentBytes > 0
            ? `Other models in use hold ${formatBytes(residentBytes, 'memory')}, which brings the need to ${need} of ${have}. Stop what uses them, or choose a smaller preset.`
            : `The weights alone need ${formatBytes(fit.weightBytes, 'memory')} of ${have}. Choose a smaller preset.`,
      }
    case 'unknown':
      return {
        ...view,
        tone: 'neutral',
        label: 'Unknown',
        sentence: `Needs ${need} with ${context}; this device does not say how much memory it has.`,
      }
    default:
      return assertNever(fit.verdict, 'fit verdict')
  }
}

/** Amber from here on (ux.md §4.2), as in engine/capacity/fit.ts; red begins where it no longer fits. */
const TIGHT_SHARE = 0.8

/**
 * The same arithmetic for a model that already exists, where the engine gives its parts and not a verdict: the chat header, the model picker.
 * Activations are unknown to the page and counted as zero, so the verdict errs towards "fits" by that much.
 */
export function fitOf(parts: {
  readonly weightBytes: number
  readonly kvBytesPerToken: number | null
  readonly contextTokens: number
  readonly budgetBytes: number | null
}): Fit {
  const kvBytes = (parts.kvBytesPerToken ?? 0) * parts.contextTokens
  const total = parts.weightBytes + kvBytes
  const budget = parts.budgetBytes
  const verdict =
    budget === null
      ? 'unknown'
      : parts.weightBytes > budget
        ? 'weights'
        : total > budget
          ? 'context'
          : total > budget * TIGHT_SHARE
            ? 'tight'
            : 'fits'
  return { weightBytes: parts.weightBytes, kvBytes, activationBytes: 0, budgetBytes: budget, contextTokens: parts.contextTokens, verdict }
}
