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
  return observer.kind === 'mse' ? 'memoryless_mse' : 'memoryless_minmax'
}
