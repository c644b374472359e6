/**
 * What a calibrated step sees: one decoder layer, and nothing else of the model. The producer loads a layer, hands a LayerContext to each step
 * of the recipe in order, stores what the context then holds, and propagates the activations through the layer as stored.
 *
 * A step reads weights and statistics, searches with `probe`, and hands back new weights with `replace`. It never sees files, devices, other
 * layers, or how statistics come about. Everything is f32, row-major, [rows = out features, cols = in features].
 *
 *   input_layernorm ─ 'attention' ─▶ q, k, v │ 'context' ─▶ o │ post_attention_layernorm ─ 'mlp' ─▶ gate, up │ 'activated' ─▶ down
 */
import type { DenseDtype } from '../../checkpoint/dtypes.ts'
import type { LayerInput } from '../../model/layer-program.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { ClipOptions } from '../algorithms/awq.ts'
import type { Observer, RecipeStep } from '../recipe.ts'
import type { Scheme } from '../scheme.ts'

/** The four distinct inputs of a layer's linears; linears that share one share its statistics. */
export type { LayerInput } from '../../model/layer-program.ts'

/** `qkv` and `gateUp` where a family stores them as one tensor (Phi-3): rows q|k|v and gate|up. */
export type LinearRole = 'q' | 'k' | 'v' | 'qkv' | 'o' | 'gate' | 'up' | 'gateUp' | 'down'

export type NormRole = 'attention' | 'mlp'

export interface LayerLinear {
  readonly role: LinearRole
  /** Module name without `.weight`, e.g. "model.layers.3.self_attn.q_proj". */
  readonly module: string
  readonly input: LayerInput
  readonly rows: number
  readonly cols: number
  /** How the source stores it. */
  readonly dtype: DenseDtype
  /** Current values [rows, cols]; treat as read-only and hand changes to `replace`. */
  readonly weight: Float32Array
  /** [rows], or null. */
  readonly bias: Float32Array | null
}

/** The RMS norm in front of an input. Its weight multiplies the normed activations, so dividing it by t divides that input by t. */
export interface LayerNorm {
  readonly role: NormRole
  /** Tensor name, with `.weight`. */
  readonly name: string
  /** [hidden] */
  readonly weight: Float32Array
}

/** Sums over all calibration tokens (padding does not exist here), of the activations entering with the context's current weights. */
export interface InputStatistics {
  readonly columns: number
  readonly tokens: number
  /** Mean of x·xᵀ over tokens, [columns, columns], symmetric, both triangles filled. The Hessian of GPTQ up to a factor. */
  readonly gram: Float32Array
  /** Each [columns]. */
  readonly meanAbsolute: Float32Array
  readonly meanSquare: Float32Array
  readonly minimum: Float32Array
  readonly maximum: Float32Array
}

export interface LayerChanges {
  /** By module name; same shape as before. */
  readonly weights?: ReadonlyMap<string, Float32Array>
  readonly biases?: ReadonlyMap<string, Float32Array>
  /** By role. */
  readonly norms?: ReadonlyMap<NormRole, Float32Array>
  /**
   * Inputs whose activations the change divides by t [columns] (AWQ, SmoothQuant: the producer of the input was divided by t). Their statistics
   * follow by algebra. Statistics of inputs not named stay as they are: say so only of changes that preserve them (columns of a linear times t
   * together with its input divided by t), and otherwise name them in `stale`.
   */
  readonly inputsDividedBy?: ReadonlyMap<LayerInput, Float32Array>
  /** Inputs whose statistics no longer hold; they are collected again when next asked for. */
  readonly stale?: readonly LayerInput[]
}

/** Replacement values of some weights for one trial; everything else as the context holds it. By module name, and norms by role. */
export interface Candidate {
  readonly weights?: ReadonlyMap<string, Float32Array>
  readonly norms?: ReadonlyMap<NormRole, Float32Array>
}

/** The layer on a fixed share of the calibration activations, with its output as it was when the probe was made. */
export interface LayerProbe extends AsyncDisposable {
  readonly tokens: number
  /** Mean over tokens and channels of (output − reference output)². */
  meanSquaredError(candidate: Candidate): Promise<number>
  /** Mean square of what the part adds to the residual stream, for relative errors. */
  readonly meanSquare: number
}

/** What candidates of an input's linears cost the linears' outputs, Σ over linears of ‖(W − Ŵ)·X‖². */
export interface OutputErrors extends Disposable {
  /**
   * One number per candidate, a candidate being the factors [columns] that columns are multiplied by before rounding and divided by after (null
   * = none). Large matrices are judged by every k-th row, the same for all.
   */
  of(candidates: readonly (Float64Array | null)[]): Promise<readonly number[]>
}

/** What a linear will be stored as. */
export interface LinearStorage {
  readonly scheme: Scheme
  readonly observer: Observer
}

export interface LayerContext {
  readonly layer: number
  readonly spec: ModelSpec
  /** In the order of the forward pass. */
  readonly linears: readonly LayerLinear[]
  readonly norms: readonly LayerNorm[]
  /** Throws for a role that this family does not have. */
  linear(role: LinearRole): LayerLinear
  /** Weights as the source has them, with what smoothing did to them and nothing else: what the layer should compute. */
  original(module: string): Float32Array
  /** What the recipe's storing step will make of a linear, for steps that search for it; null where it stays as it is. */
  storage(module: string): LinearStorage | null
  /** Recorded seed; a step that draws random numbers derives its own from it and `layer`. */
  readonly seed: number
  statistics(input: LayerInput): Promise<InputStatistics>
  /** The same without the matrix, which may stay on the device. */
  columnStatistics(input: LayerInput): Promise<Omit<InputStatistics, 'gram'>>
  /**
   * `part` 'attention': up to the attention block's residual addition; 'mlp': what follows it, up to the layer's output. `tokens` at most are
   * used, whole documents from the start of the calibration set. Weights outside the part are those of when the probe was made.
   */
  probe(options: { readonly part: 'attention' | 'mlp'; readonly tokens: number }): Promise<LayerProbe>
  /** For the linears that read `input`. */
  outputErrors(input: LayerInput): Promise<OutputErrors>
  /** What rounding leaves of a linear whose columns are multiplied by `factors` before and divided by them after, [rows, cols]. */
  rounded(linear: LayerLinear, factors: Float64Array | null): Promise<Float32Array>
  /** A linear of integers with each group clipped to the range that loses least (algorithms/awq.ts). */
  clipped(linear: LayerLinear, options: ClipOptions): Promise<Float32Array>
  replace(changes: LayerChanges): void
  /** Zeros that must survive quantization, [rows, cols] with 1 = pruned; set by pruning steps. */
  mask(module: string): Uint8Array | null
  setMask(module: string, mask: Uint8Array): void
  /** Progress within the layer, shown beside the layer's number ("AWQ 12 of 40"). */
  note(text: string): void
  warn(text: string): void
  /** Throws when the job is cancelled; look at it between pieces of work of more than a tenth of a second. */
  throwIfCancelled(): void
}

/** One step of a recipe, for every layer in turn. Stateless between layers, so that a resumed run gives the same bytes. */
export interface LayerTransform<Step extends RecipeStep = RecipeStep> {
  readonly kind: Step['kind']
  /** What the transform needs of a model, checked before any work. Throws `compress.invalid-recipe` with what does not fit. */
  check(step: Step, spec: ModelSpec): void
  /** Which tensors change although nothing quantizes them (norms that take part in smoothing): module or tensor names of layer `layer`. */
  rewrites(step: Step, spec: ModelSpec, layer: number): readonly string[]
  apply(step: Step, context: LayerContext): Promise<void>
}
