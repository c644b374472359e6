/**
 * A recipe: ordered steps, each with an algorithm, the modules it applies to, and what it stores. The in-memory form; recipe-yaml.ts
 * reads and writes LLM Compressor's file form. A recipe knows no checkpoint: plan.ts resolves it against one.
 */
import { schemeNeeds } from './scheme.ts'
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
  /** Also store the scales of an FP8 key-value cache, one for the keys and one for the values of each layer. Needs calibration. */
  readonly fp8KeyValues?: boolean
}

/** Order in which GPTQ goes through columns (LLM Compressor's `actorder`). */
export type ActivationOrder =
  /** By descending input energy; scales stay those of consecutive original columns, so the file needs no group index. */
  | 'static'
  /** LLM Compressor's older name of `static`. */
  | 'weight'
  /** By descending input energy with groups of neighbours in that order: needs `weight_g_idx`, which Lathe refuses to write. */
  | 'group'
  | null

/** GPTQ (specs/compression-algorithms.md §2): rounding that makes up for its own errors, on calibration data. */
export interface GptqStep {
  readonly kind: 'gptq'
  readonly groups: readonly QuantizationGroupRecipe[]
  readonly ignore: readonly string[]
  /** Columns between two updates of everything behind them; a matter of speed. */
  readonly blockSize: number
  /** Share of the Hessian's mean diagonal added to the diagonal; raised automatically where the factorization fails. */
  readonly dampening: number
  readonly actorder: ActivationOrder
  readonly fp8KeyValues?: boolean
}

/** `prune` of every `of` consecutive columns of a row go ("2:4" prunes 2 of 4). */
export interface MaskStructure {
  readonly prune: number
  readonly of: number
}

/** One-shot pruning (specs/compression-algorithms.md §5, §6). Weights stay dense; a quantization step after it keeps the zeros. */
export interface PruningStep {
  readonly kind: 'pruning'
  readonly method: 'sparsegpt' | 'wanda' | 'magnitude'
  /** Share of weights that go, 0 ≤ sparsity < 1. With a mask structure it equals prune / of. */
  readonly sparsity: number
  /** null = unstructured. */
  readonly maskStructure: MaskStructure | null
  /** Sparsity per layer from its share of outlier scores (> `m` times the mean), within ±`lambda`; null = the same everywhere. */
  readonly owl: { readonly m: number; readonly lambda: number } | null
  /** "Linear", exact module names, or `re:` patterns, as in a quantization group. */
  readonly targets: readonly string[]
  readonly ignore: readonly string[]
  /** SparseGPT only. */
  readonly blockSize: number
  readonly dampening: number
}

/** A tensor whose output channels are divided by a scale, and the linears whose input columns are multiplied by it. Module names or `re:` patterns. */
export interface SmoothingMapping {
  readonly smooth: string
  readonly balance: readonly string[]
}

/** Activation-aware scaling ahead of a quantization step (specs §3). */
export interface AwqStep {
  readonly kind: 'awq'
  /** null = by architecture. */
  readonly mappings: readonly SmoothingMapping[] | null
  readonly duoScaling: boolean | 'both'
  readonly nGrid: number
  /** AutoAWQ's clipping search after scaling; null = none, as LLM Compressor does. */
  readonly clip: { readonly nGrid: number; readonly maxShrink: number } | null
}

/** Moves the range of activations into weights ahead of a quantization step (specs §4). */
export interface SmoothQuantStep {
  readonly kind: 'smoothquant'
  readonly smoothingStrength: number
  readonly algorithm: 'smoothquant' | 'log_equalization'
  readonly mappings: readonly SmoothingMapping[] | null
}

/**
 * Offline rotations that vanish at run time (specs §7b): r1 of the residual stream, r2 of each value head. They concern the whole model, so
 * they come first and no layer sees them: the source is read rotated.
 */
export interface RotationStep {
  readonly kind: 'rotation'
  /** `random-hadamard` draws signs from the run's seed first, which spreads what a plain Hadamard matrix would gather in one channel. */
  readonly transform: 'hadamard' | 'random-hadamard'
  readonly r1: boolean
  readonly r2: boolean
}

/** After pruning: least squares on what is left of each row, mask fixed. */
export interface RecoveryStep {
  readonly kind: 'recovery'
  readonly dampening: number
}

/** Steps run in order for each decoder layer; a quantization or GPTQ step, if there is one, comes last. */
export type RecipeStep = QuantizationStep | GptqStep | PruningStep | AwqStep | SmoothQuantStep | RotationStep | RecoveryStep

/** Steps that decide what is stored. */
export type StoringStep = QuantizationStep | GptqStep

export function isStoringStep(step: RecipeStep): step is StoringStep {
  return step.kind === 'quantization' || step.kind === 'gptq'
}

/** Whether the recipe goes layer by layer, on calibration text, rather than tensor by tensor. A rotation is only another view of the source. */
export function isLayered(recipe: Recipe): boolean {
  return recipe.steps.some((step) => {
    if (step.kind === 'rotation') return false
    return (
      step.kind !== 'quantization' ||
      step.fp8KeyValues === true ||
      step.groups.some(({ observer, scheme }) => observer.kind === 'imatrix' || schemeNeeds(scheme).inputMaximum)
    )
  })
}

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
