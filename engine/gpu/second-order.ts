/**
 * Rounding with error feedback on a device: the arithmetic of GPTQ (Frantar et al. 2022; specs/compression-algorithms.md §2) for layers whose
 * Hessian is too large for a processor to factor in reasonable time.
 *
 * The Hessian of the inputs, damped and in processing order, is factored once as H = R·Rᵀ with R upper triangular. Rounding a row w to q costs
 * ‖(w − q)·R‖², and column k of that norm depends on the errors of columns 0…k only. So the best place for weight k, given the errors d = w − q
 * of those before it, is
 *
 *   w_k + Σ_{i<k} d_i · R_ik / R_kk
 *
 * which is exactly where GPTQ's updates leave it, without inverting anything: U of the usual formulation is R⁻¹, and its pivot is 1 / R_kk.
 * f32 throughout. Knows grids of codes; nothing of files, layers or observers.
 */
import type { Accumulator, StatefulExecutable } from './program.ts'

/** Where H comes from: host memory ([columns, columns], symmetric), or a Gram accumulator that an executable of the same backend holds. */
export type HessianSource =
  | { readonly kind: 'host'; readonly gram: Float32Array }
  | { readonly kind: 'device'; readonly executable: StatefulExecutable; readonly accumulator: Accumulator }

export interface HessianFactorRequest {
  readonly columns: number
  readonly source: HessianSource
  /** Added to the diagonal, as a share of its mean; raised tenfold after each failure, up to 1. */
  readonly dampening: number
  /** order[k] = column processed k-th, or 'importance': by descending diagonal, ties by index; null: as they are. */
  readonly order: 'importance' | null
  readonly signal?: AbortSignal
}

/** What codes are: integers from minimum to maximum, or the bits of a float. */
export type GridElement =
  | { readonly kind: 'integer'; readonly minimum: number; readonly maximum: number }
  | { readonly kind: 'e2m1' | 'e4m3' }

/** A grid of codes: ŵ = (code − zeroPoint) · scale for integers, value(code) · scale for floats. */
export interface GridWeights {
  readonly rows: number
  /** [rows, columns] */
  readonly weight: Float32Array
  readonly element: GridElement
  /** Columns that share a scale; the last ones of a row may be fewer. */
  readonly columnsPerScale: number
  /** [rows, ⌈columns / columnsPerScale⌉] */
  readonly scales: Float32Array
  /** As `scales`; null = 0, which floats always have. */
  readonly zeroPoints: Float32Array | null
  /** [rows, columns], 1 = pruned: stays exactly 0, and its error is fed back like any other. */
  readonly mask: Uint8Array | null
}

export interface GridCodes {
  /** [rows, columns], in the weight's own column order. Bits of floats are kept in signed bytes. */
  readonly codes: Int8Array
  /** ½·Σ ((w − ŵ)·R_kk)², w being where feedback had moved each weight: the layer's loss up to a constant. */
  readonly loss: number
}

/** Weights of which `prune` of every `of` consecutive columns go (SparseGPT's N:M). */
export interface PruneWeights {
  readonly rows: number
  /** [rows, columns] */
  readonly weight: Float32Array
  readonly prune: number
  /** Divides 64 and the columns. */
  readonly of: number
}

/** Groups that the device prunes; others are the processor's. */
export function prunesGroupsOf(of: number): boolean {
  return of > 1 && 64 % of === 0
}

/** Holds R in device memory until disposed. */
export interface SecondOrderSolver extends Disposable {
  readonly columns: number
  readonly order: Uint32Array
  /** Columns that no input ever excited; their weights are taken as 0. */
  readonly dead: readonly number[]
  readonly dampeningUsed: number
  round(weights: GridWeights, signal?: AbortSignal): Promise<GridCodes>
  /**
   * What is left, [rows, columns]: zeros where pruned, elsewhere the weights as feedback moved them. The order must be the columns' own, since groups
   * are consecutive columns.
   */
  prune(weights: PruneWeights, signal?: AbortSignal): Promise<Float32Array>
}

/** d·H·dᵀ of rows d: what replacing a weight row w by w − d costs the layer's output. H's values are those of its source, undamped. */
export interface QuadraticForms extends Disposable {
  readonly columns: number
  /** One number per row of `pieces` (each whole rows of `columns`), ≥ 0, in their order. */
  ofRows(pieces: readonly Float32Array[], signal?: AbortSignal): Promise<Float64Array>
}

/** Rows that pruning left something of, to be repaired with their mask fixed (algorithms/recovery.ts says what is solved). */
export interface RecoverWeights {
  readonly rows: number
  /** What the rows should compute, and what is left of them, [rows, columns]. */
  readonly target: Float32Array
  readonly pruned: Float32Array
  /** [rows, columns], 1 = pruned. */
  readonly mask: Uint8Array
  readonly dampening: number
  readonly iterations: number
  readonly tolerance: number
}

export interface RecoveredWeights {
  /** [rows, columns], zero exactly where the mask is 1. */
  readonly values: Float32Array
  /** Σ over rows of d·G·dᵀ, d = target − values. */
  readonly before: number
  readonly after: number
}

/** Holds a Gram matrix in device memory until disposed. */
export interface RecoverySolver extends Disposable {
  readonly columns: number
  recover(weights: RecoverWeights, signal?: AbortSignal): Promise<RecoveredWeights>
}

/** A backend that can do this. null from `factorHessian`: H is zero, not finite, or not positive definite even at full damping. */
export interface SecondOrderBackend {
  factorHessian(request: HessianFactorRequest): Promise<SecondOrderSolver | null>
  /** A Hessian of an executable must outlive the result. */
  quadraticForms(columns: number, source: HessianSource): Promise<QuadraticForms>
  /** `gram` [columns, columns], symmetric, both triangles filled. */
  recovery(columns: number, gram: Float32Array): Promise<RecoverySolver>
}

export function hasSecondOrder<T extends object>(backend: T): backend is T & SecondOrderBackend {
  return 'factorHessian' in backend
}
