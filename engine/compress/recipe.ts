/**
 * A recipe: ordered steps, each with an algorithm, the modules it applies to, and what it stores. The in-memory form; recipe-yaml.ts
 * reads and writes LLM Compressor's file form. A recipe knows no checkpoint: plan.ts resolves it against one.
 */
import type { Scheme } from './scheme.ts'

/** How a step finds the scale of each group (specs/compression-algorithms.md §1). */
export type Observer =
  | { readonly kind: 'minmax' }
  /**
   * Tries ranges p·[min, max] for p = 1, 1 − 1/grid, … down to 1 − maxShrink and keeps the one with the least Σ|w − ŵ|^norm.
   */
  | { readonly kind: 'mse'; readonly maxShrink: number; readonly grid: number; readonly norm: number }
  /**
   * As `mse`, with each column's term weighted by the mean square of the input that meets it (llama.cpp's importance matrix). Needs
   * calibration: whoever rounds must be given the weights.
   */
  | { readonly kind: 'imatrix'; readonly maxShrink: number; readonly grid: number; readonly norm: number }

/** LLM Compressor's own settings of its `imatrix_mse`. */
export const IMATRIX_DEFAULTS: Observer = { kind: 'imatrix', maxShrink: 0.95, grid: 20, norm: 3 }

export interface QuantizationGroupRecipe {
  /** Key in `config_groups`; "group_0" and so on. */
  readonly name: string
  /** "Linear", exact module names, or `re:` patterns matched from the start of the module name. */
  readonly targets: readonly string[]
  readonly scheme: Scheme
  readonly observer: Observer
}

/** Round to nearest with data-free scales. */
export interface QuantizationStep {
  readonly kind: 'quantization'
  readonly groups: readonly QuantizationGroupRecipe[]
  readonly ignore: readonly string[]
}

/** Calibrated algorithms join as further members of this union. */
export type RecipeStep = QuantizationStep

export interface Recipe {
  readonly steps: readonly RecipeStep[]
}

/** LLM Compressor's name of an observer, as files carry it. */
export function observerName(observer: Observer): string {
  switch (observer.kind) {
    case 'minmax':
      return 'memoryless_minmax'
    case 'mse':
      return 'memoryless_mse'
    case 'imatrix':
      return 'imatrix_mse'
  }
}
