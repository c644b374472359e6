/**
 * The seam of all numerics: a model's forward pass as data. `engine/model` builds a Program; a Backend compiles and runs it.
 * Two backends exist: `reference` (f64, TypeScript, obviously right, slow) and WebGPU. Both execute exactly these operations, which is
 * what lets the same numeric suite run on each.
 *
 * A step is a ragged batch (specs/runtime.md §2): the new tokens of all sequences laid end to end, no padding. There is no prefill or
 * decode here; both are steps with different numbers of tokens. Extents 'tokens' and 'rows' are those of the step at hand, so one
 * compiled program serves every batch size up to its capacity.
 *
 * Every activation is f32 on WebGPU and f64 in the reference. A Program knows nothing of tokenizers, files, or scheduling.
 */

/** Rows of a value: a constant, the step's token count T, or the step's logit-row count R. */
export type Extent = number | 'tokens' | 'rows'

/** A dense activation, row-major [extent, width]. */
export interface Value {
  readonly id: number
  readonly name: string
  readonly extent: Extent
  readonly width: number
}

/** How a weight is stored, and therefore which kernel reads it. All are row-major [rows = out features, cols = in features]. */
export type WeightFormat =
  | { readonly kind: 'dense'; readonly dtype: 'f32' | 'f16' | 'bf16' }
  /**
   * compressed-tensors `pack-quantized`: offset-binary codes, little-endian in i32 words along a row (specs/compressed-tensors.md §5.1).
   * w = (q − z)·s. `groupSize` equals cols for channel strategy. Zero points, if any, are packed down the rows.
   */
  | {
      readonly kind: 'packed-int'
      readonly bits: IntegerBits
      readonly groupSize: number
      readonly hasZeroPoint: boolean
      readonly scaleDtype: 'f32' | 'f16' | 'bf16'
    }
  /**
   * Floats of 8 (E4M3, one byte) or 4 bits (E2M1, even column in the low nibble), w = q·s / G (specs/compressed-tensors.md §5.3, §6.3–6.5).
   * Scales are [rows, ⌈cols / groupSize⌉]; whoever maps a checkpoint spreads scales of tensors and blocks over their rows. A scale is
   * a dense dtype, E4M3 or E8M0 (2^(byte − 127)). G is the part's `globalScale`, 1 where the format has none.
   */
  | {
      readonly kind: 'packed-float'
      readonly element: 'e4m3' | 'e2m1'
      readonly groupSize: number
      readonly scaleDtype: 'f32' | 'f16' | 'bf16' | 'e4m3' | 'e8m0'
      readonly hasGlobalScale: boolean
    }

export type IntegerBits = 2 | 3 | 4 | 5 | 6 | 7 | 8

/**
 * How a linear rounds its input before it multiplies (specs/compressed-tensors.md §6.3, §6.4, §6.7). Arithmetic is f32: x̂ = q·s with
 * s from the token's, the group's or a calibrated largest magnitude, and q nearest, ties to even, saturating. Where an adapter has no such
 * arithmetic the same x̂ is multiplied in f32, so values do not depend on the adapter.
 *   scale 'token':  s = max|x| / limit of the row (limit: int8 127.5, e4m3 448); 0 becomes 2^−23.
 *   scale 'group':  the same for each `groupSize` consecutive columns, s rounded to `scaleDtype`; E8M0 by the rule of §6.4; with
 *                   `staticScale` G (NVFP4): s = e4m3(G·max|x| / 6) / G.
 *   scale 'tensor': `staticScale` itself.
 */
export interface InputQuantization {
  readonly element: 'int8' | 'e4m3' | 'e2m1'
  readonly scale: 'token' | 'tensor' | 'group'
  /** Columns per scale; null unless by group. */
  readonly groupSize: number | null
  /** How a group's scale is rounded. */
  readonly scaleDtype: 'f32' | 'e4m3' | 'e8m0'
  /** One number of `staticDtype` for the whole input: its scale, or NVFP4's G. Null where everything is dynamic. */
  readonly staticScale: WeightBytes | null
  readonly staticDtype: 'f32' | 'f16' | 'bf16'
}

/** Bytes in stored layout, readable in ranges; structurally the checkpoint's ByteSource. */
export interface WeightBytes {
  readonly byteLength: number
  read(offset: number, length: number): Promise<Uint8Array>
}

/** One stored matrix. Vectors (norm weights, biases) are matrices of one row. */
export interface WeightPart {
  readonly name: string
  readonly rows: number
  readonly cols: number
  readonly format: WeightFormat
  /** dense: `values`; packed: `values` = the codes, `scale`, and `zeroPoint` where the format has one. */
  readonly values: WeightBytes
  readonly scale: WeightBytes | null
  readonly zeroPoint: WeightBytes | null
  /** F32 [1]: G of formats that have one. */
  readonly globalScale?: WeightBytes | null
  /** I32 [cols]: the scale group of each column where groups are not runs of consecutive columns. Absent = consecutive. */
  readonly groupIndex?: WeightBytes | null
}

/**
 * A weight as an operation uses it: parts of equal cols and equal format stacked by rows (fused q|k|v, gate|up), or a single part.
 * A vector has one row; the parts of a fused bias lie end to end in it (cols is their sum). Packed parts that have zero points stack only
 * if every part but the last has whole zero-point words, rows · bits divisible by 32; others become separate weights, as do parts with a
 * `groupIndex`.
 */
export interface WeightSpec {
  readonly id: number
  readonly name: string
  readonly parts: readonly WeightPart[]
  readonly rows: number
  readonly cols: number
  readonly format: WeightFormat
}

/** Rotary position table made on the CPU in f64 (specs/dawn-node.md §4: `cos` in shaders is not accurate enough). */
export interface RopeTable {
  readonly id: number
  readonly positions: number
  /** Rotated dimensions per head; ≤ headDim, even. */
  readonly rotaryDim: number
  /** [positions, rotaryDim/2] each. */
  readonly cos: Float64Array
  readonly sin: Float64Array
}

export type Operation =
  /** out[t] = weight[tokenIds[t]] · scale */
  | { readonly op: 'embed'; readonly weight: WeightSpec; readonly scale: number; readonly out: Value }
  /** out = x / sqrt(mean(x²) + epsilon) · weight */
  | { readonly op: 'rmsNorm'; readonly x: Value; readonly weight: WeightSpec; readonly epsilon: number; readonly out: Value }
  /**
   * out[:, outOffset … outOffset + weight.rows) = x · weightᵀ (+ bias); with `accumulate`, += that (the residual stream). Columns of `out`
   * outside that range keep their values: projections whose stored formats differ (an ignored v_proj beside a packed q_proj) cannot fuse,
   * and share one output buffer this way.
   */
  | {
      readonly op: 'linear'
      readonly x: Value
      readonly weight: WeightSpec
      readonly bias: WeightSpec | null
      readonly accumulate: boolean
      /** First column written; 0 unless several linears share `out`. */
      readonly outOffset: number
      readonly out: Value
      /** Rounds the input first; absent or null = it is used as it is. */
      readonly inputQuantization?: InputQuantization | null
    }
  /** gateUp is [tokens, 2·width] with the gate first: out = silu(gate) · up */
  | { readonly op: 'swiglu'; readonly gateUp: Value; readonly out: Value }
  /**
   * qkv is [tokens, (heads + 2·kvHeads)·headDim]. Optional RMS norm per head (Qwen3), then NeoX-style rotation of q and k by `positions`,
   * q to `q`, k and v to the step's `slots` of layer `layer` in the KV cache, in the cache's dtype.
   */
  | {
      readonly op: 'ropeAppend'
      readonly qkv: Value
      readonly heads: number
      readonly kvHeads: number
      readonly headDim: number
      readonly qNorm: WeightSpec | null
      readonly kNorm: WeightSpec | null
      readonly normEpsilon: number
      readonly rope: RopeTable
      readonly layer: number
      readonly q: Value
    }
  /**
   * Causal attention of each token over its sequence's cached keys, this step's included: softmax(scale · q·k)·v, grouped-query.
   * `window` w limits token at position p to keys at positions > p − w.
   */
  | {
      readonly op: 'attention'
      readonly q: Value
      readonly heads: number
      readonly kvHeads: number
      readonly headDim: number
      readonly scale: number
      readonly window: number | null
      readonly layer: number
      readonly out: Value
    }
  /** out[r] = x[logitRows[r]] */
  | { readonly op: 'gatherRows'; readonly x: Value; readonly out: Value }
  /** `out` [tokens, width] holds what `StatefulExecutable.write` put there before the step. Inputs come before all other operations. */
  | { readonly op: 'input'; readonly out: Value }
  /** out += xᵀ·x over the rows of the step; the sum lasts until `clear`. */
  | { readonly op: 'gram'; readonly x: Value; readonly out: Accumulator }
  /** Per column of x, over the rows of the step and all before it since `clear`: Σ|x|, Σx², max(0, x), max(0, −x). */
  | { readonly op: 'columnSums'; readonly x: Value; readonly out: Accumulator }

/**
 * Memory that steps add to (calibration statistics). f32 on WebGPU, f64 in the reference. `gram`: [width, width], symmetric. `columns`:
 * [4, width], see `columnSums`.
 */
export interface Accumulator {
  readonly id: number
  readonly name: string
  readonly kind: 'gram' | 'columns'
  readonly width: number
}

export interface Program {
  readonly operations: readonly Operation[]
  readonly weights: readonly WeightSpec[]
  readonly ropes: readonly RopeTable[]
  /** [rows, vocabulary]; the value that sampling and scoring read. */
  readonly logits: Value
  readonly vocabulary: number
}

/** Upper bounds a compiled program must serve. */
export interface Capacity {
  readonly tokens: number
  readonly rows: number
  readonly sequences: number
  readonly blocksPerSequence: number
}

export type KvDtype = 'f32' | 'f16' | 'fp8' | 'int8' | 'int4'

export interface KvLayout {
  readonly layers: number
  readonly kvHeads: number
  readonly headDim: number
  /** Tokens per block; a power of two. Block 0 is the null block and is never handed out. */
  readonly blockSize: number
  readonly blocks: number
  /**
   * f16: rounded to nearest even, saturating at ±65504. fp8, int8, int4: codes and a scale per token and head (kv-format.ts). Attention always
   * reads what the cache holds, this step's own keys included.
   */
  readonly dtype: KvDtype
  /** Type of the values where it is not that of the keys. */
  readonly valueDtype?: KvDtype | undefined
  /** Scales of fp8 sides that were found beforehand: nothing is measured while rows are appended. null or absent = each row has its own. */
  readonly staticScales?: KvStaticScales | null | undefined
}

/** Per layer; 1 number, or one per key-value head. What is greater than 448 of them saturates. Of a side that is not fp8 they are ignored. */
export interface KvStaticScales {
  readonly keys: readonly Float32Array[]
  readonly values: readonly Float32Array[]
}

/**
 * What is done to a row's logits before its token is chosen, in vLLM's order (specs/runtime.md §5.1): tokens that are not allowed are out; then,
 * for each listed token, x += bias; if seen, x becomes x / repetition where positive and x · repetition elsewhere; x −= frequency · generated;
 * x −= presence where generated > 0. Log-probabilities and top lists are of the untouched logits. A row of which nothing is left chooses
 * 0xffffffff, with log-probability NaN.
 */
export interface RowAdjustment {
  /** Bit t & 31 of word t >> 5 set = token t may be chosen; ceil(vocabulary / 32) words. null = all may. */
  readonly allowed: Uint32Array | null
  /** Distinct token ids in any order; the arrays below are as long. */
  readonly ids: Uint32Array
  /** Finite, or −Infinity = never chosen. */
  readonly bias: Float32Array
  /** Times the token was generated before. */
  readonly generated: Uint32Array
  /** 1 = it is in the prompt or was generated before. */
  readonly seen: Uint8Array
  readonly presence: number // 0 = off
  readonly frequency: number // 0 = off
  readonly repetition: number // > 0; 1 = off
}

/**
 * How to choose a row's token (specs/runtime.md §5). temperature 0 = greedy: the highest logit, lowest id on ties, filters without effect.
 * Otherwise z = logit / temperature, and each filter works on what the ones before it kept. All are thresholds on z that keep ties, so the
 * result does not depend on any order of tokens:
 *   top-k  keeps a token iff fewer than topK tokens have a greater z;
 *   top-p  keeps a token iff the summed probability of the tokens with a greater z is < topP (softmax of z over what top-k kept);
 *   min-p  keeps a token iff z ≥ max z + ln(minP).
 * The choice is the kept token with the greatest z + gumbelNoise(seedLow, seedHigh, outputIndex, token) of `random.ts`, lowest id on ties.
 */
export interface RowSampler {
  readonly temperature: number
  readonly topK: number // 0 = off
  readonly topP: number // 1 = off
  readonly minP: number // 0 = off
  /** 64-bit seed as two u32; with `outputIndex` the only source of randomness (Gumbel-max, counter-based; runtime.md §5.4). */
  readonly seedLow: number
  readonly seedHigh: number
  /** Index of the output token this row decides. */
  readonly outputIndex: number
  /** Where given, `logit` above is the adjusted one, and only what is left of them counts. Costs nothing where absent. */
  readonly adjust?: RowAdjustment | undefined
}

/** One ragged batch. T tokens, S sequences, R logit rows; typed arrays are exactly that long. */
export interface StepInput {
  readonly tokenIds: Uint32Array // [T]
  readonly positions: Uint32Array // [T] absolute position in the sequence
  readonly slots: Uint32Array // [T] block·blockSize + offset where this token's K/V go
  readonly sequenceOfToken: Uint32Array // [T]
  readonly queryStart: Uint32Array // [S + 1]
  readonly sequenceLength: Uint32Array // [S] context length after this step
  readonly blockTable: Uint32Array // [S · blocksPerSequence], unused entries 0
  readonly logitRows: Uint32Array // [R] token index
  /** [R]; null = this row is only scored. */
  readonly samplers: readonly (RowSampler | null)[]
  /** [R] token id whose log-probability is wanted, or 0xffffffff. */
  readonly targets: Uint32Array
  /** How many top log-probabilities per row to return, 0…32. */
  readonly topCount: number
}

/** Everything read back after a step. Log-probabilities are natural logs of the plain softmax (no temperature, no masks). */
export interface StepOutput {
  readonly sampled: Uint32Array // [R]; 0xffffffff where the sampler was null or its adjustment left nothing
  readonly sampledLogprob: Float32Array // [R]; NaN where the sampler was null
  readonly argmax: Uint32Array // [R]
  readonly targetLogprob: Float32Array // [R]; NaN where no target
  readonly topIds: Uint32Array // [R · topCount]
  readonly topLogprobs: Float32Array // [R · topCount], descending, ties by id
  /** True if any logit row held NaN or ±Inf (tested by bits); the other fields of such a row are then unspecified, ids stay below the vocabulary. */
  readonly nonFinite: boolean
}

/** Drift of a candidate's logits from a baseline's, row by row, same tokens. */
export interface DriftRows {
  readonly kld: Float32Array // [R] KL(baseline ‖ candidate), nats
  readonly baselineArgmax: Uint32Array
  readonly candidateArgmax: Uint32Array
  readonly baselineTargetLogprob: Float32Array
  readonly candidateTargetLogprob: Float32Array
}

/** Cost of one kernel over one profiled step; bytes and operations are computed from shapes, time is measured. */
export interface KernelTiming {
  readonly kernel: string
  readonly milliseconds: number
  readonly bytes: number
  readonly operations: number
  readonly dispatches: number
}

export interface KvCache extends Disposable {
  readonly layout: KvLayout
  readonly bytes: number
  /** Content of one layer for tests: K or V of `slots`, [slots, kvHeads·headDim]. */
  read(layer: number, which: 'k' | 'v', slots: Uint32Array): Promise<Float32Array>
  /**
   * How blocks look as bytes: caches of equal `blockFormat` and layout (but for the number of blocks) may exchange them. Bytes of a block are all
   * its layers' keys and values; those of several lie end to end.
   */
  readonly blockFormat: string
  readonly blockBytes: number
  /** No step may run meanwhile, on this cache, for either. Blocks must be of this cache, bytes a whole number of blocks. */
  readBlocks(blocks: readonly number[]): Promise<Uint8Array>
  writeBlocks(blocks: readonly number[], bytes: Uint8Array): Promise<void>
}

export interface Executable extends Disposable {
  readonly program: Program
  readonly capacity: Capacity
  /** Runs one step: one submit, one readback. Steps must not overlap. Throws `gpu.device-lost`, `gpu.out-of-memory`, `runtime.non-finite` never (see StepOutput.nonFinite). */
  step(input: StepInput): Promise<StepOutput>
  /** The content of a value after the last step; for tests and calibration. */
  read(value: Value): Promise<Float32Array>
  /** Runs the step with a timestamped pass per kernel. */
  profile(input: StepInput): Promise<readonly KernelTiming[]>
}

/** An executable whose values the host fills and whose accumulators it reads. Both backends make their executables so. */
export interface StatefulExecutable extends Executable {
  /** Content of an `input` value for the next step, [rows, width]. */
  write(value: Value, rows: Float32Array): void
  /** Sets all accumulators to zero. */
  clear(): void
  /** gram: [width, width], both triangles; columns: [4, width]. */
  accumulated(accumulator: Accumulator): Promise<Float32Array>
}

export function isStateful(executable: Executable): executable is StatefulExecutable {
  return 'write' in executable && 'clear' in executable && 'accumulated' in executable
}

export interface CompileOptions {
  readonly capacity: Capacity
  readonly kv: KvCache
  /** Ledger owner, e.g. "model:abc". */
  readonly owner: string
  readonly signal?: AbortSignal
  /** Bytes of weights uploaded so far. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  /**
   * Gives every value its own memory, so that `read` works for all of them. Otherwise values whose lives do not meet may share memory, and
   * `read` of one that is gone throws `gpu.invalid-operation`; the logits always stay.
   */
  readonly keepValues?: boolean
  /**
   * Matrix units for steps of many tokens: much faster, and results then depend on how many tokens a step has. Throws
   * `gpu.unsupported` where `Backend.matrixUnits` gives a reason. Default off.
   */
  readonly matrixUnits?: boolean
}

/** Whether matrix units can be used, as found out by trying. */
export interface MatrixUnitsState {
  /** Why not; null = they can. */
  readonly reason: string | null
}

export interface Backend extends AsyncDisposable {
  readonly id: string // "reference", or the adapter id
  readonly kind: 'reference' | 'webgpu'
  readonly software: boolean
  createKvCache(layout: KvLayout, owner: string): Promise<KvCache>
  /** Uploads the weights and prepares everything; a failed or aborted compile has released all memory. */
  compile(program: Program, options: CompileOptions): Promise<Executable>
  /** Compares the logits that two executables on this backend left behind by their last step. `targets` as in StepInput. */
  drift(baseline: Executable, candidate: Executable, rows: number, targets: Uint32Array): Promise<DriftRows>
  /** Bytes allocated now, by owner. */
  usage(): ReadonlyMap<string, { readonly bytes: number; readonly buffers: number }>
  /** Absent = never. The first call multiplies something and checks it. */
  readonly matrixUnits?: () => Promise<MatrixUnitsState>
  /** Wall time spent on compiling kernels so far; absent where nothing is compiled. */
  readonly compileMs?: () => number
  /** Resolves once with the reason if the device is lost; the backend is unusable from then on. */
  readonly lost: Promise<string>
}
