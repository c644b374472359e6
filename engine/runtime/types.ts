/**
 * The one interface through which chat, evaluation, benchmark and server use a model, so that what is measured is what is served.
 * Text in and out is the front's business (tokenizer, stop strings); the core below it deals in token ids only.
 *
 * Failures throw a LatheError, from the iterator as from a promise: `runtime.invalid-request`, `runtime.context-exceeded`,
 * `runtime.non-finite`, `runtime.queue-full`, `gpu.device-lost`, `gpu.out-of-memory`. Stopping for a reason the caller asked for is an
 * event, not a failure.
 */
import type { Checkpoint } from '../checkpoint/types.ts'
import type { LoadedModel } from '../contract/index.ts'
import type { Backend, DriftRows } from '../gpu/program.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

export interface SamplingParameters {
  /** 0…2; below 1e-5 = greedy. */
  readonly temperature: number
  /** 0 = off. */
  readonly topK: number
  /** (0, 1]; 1 = off. */
  readonly topP: number
  /** [0, 1]; 0 = off. Relative to the most probable token. */
  readonly minP: number
  /** Any integer, beyond 2^53 too (its exact value modulo 2^64 is used). undefined or −1 = drawn at admission and reported in `finished`. */
  readonly seed?: number | undefined
}

export interface GenerationRequest {
  /** Unique among the requests in flight. */
  readonly id: string
  readonly promptTokens: Uint32Array
  readonly sampling: SamplingParameters
  /** Clamped to the context; undefined = the rest of it. */
  readonly maxTokens?: number | undefined
  readonly stopStrings?: readonly string[] | undefined
  readonly stopTokenIds?: readonly number[] | undefined
  /** Disables the model's end-of-sequence ids, not `stopTokenIds`. */
  readonly ignoreEos?: boolean | undefined
  /** Prefixes are shared in the KV cache only between requests of equal salt. */
  readonly cacheSalt?: string | undefined
  /** Aborting ends the request within one step, with reason `aborted`. */
  readonly signal?: AbortSignal | undefined
}

/** `stop`: end-of-sequence id, stop id or stop string. `length`: maxTokens. `context`: the context is full. */
export type FinishReason = 'stop' | 'length' | 'context' | 'aborted'

/** Times are milliseconds on the monotonic clock since the request was added. */
export interface GenerationStats {
  readonly promptTokens: number
  /** Prompt tokens that were not computed because an earlier request had. */
  readonly cachedTokens: number
  /** Every token generated, the stopping one and those cut by a stop string included. */
  readonly completionTokens: number
  /** Until the first step that worked on it; null if it never ran. */
  readonly queueMs: number | null
  readonly firstTokenMs: number | null
  readonly lastTokenMs: number | null
  readonly totalMs: number
  /** Times its cache was taken away and recomputed. */
  readonly preemptions: number
  readonly seed: number
}

export type GenerationEvent =
  /** Prompt tokens done so far, cached ones included. After preemption it may run again from a lower `done`. */
  | { readonly kind: 'prefill'; readonly done: number; readonly total: number }
  /**
   * Text is complete UTF-8 and free of stop strings; ids may arrive before the text that completes a character. A consumer slower than the
   * model receives several tokens in one event. Log-probabilities are of the plain softmax.
   */
  | { readonly kind: 'tokens'; readonly ids: readonly number[]; readonly logprobs: readonly number[]; readonly text: string }
  /** Always last. */
  | {
      readonly kind: 'finished'
      readonly reason: FinishReason
      /** What matched, where the reason is `stop`. */
      readonly stopString: string | null
      readonly stopTokenId: number | null
      readonly stats: GenerationStats
    }

export interface ScoreRequest {
  /** Whole sequence; token i is scored given tokens < i. At most contextLimit + 1 of them: the last is scored, never fed. */
  readonly tokens: Uint32Array
  /** First index to score, ≥ 1. */
  readonly from: number
  /** Most probable tokens to report per position, 0…32. */
  readonly topCount?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Positions scored so far; called at most once per step. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/** Index j holds token `from + j`; n = tokens.length − from. */
export interface ScoreResult {
  readonly logprobs: Float32Array // [n]
  readonly argmax: Uint32Array // [n]
  readonly topIds: Uint32Array // [n · topCount]
  readonly topLogprobs: Float32Array // [n · topCount], descending
}

export interface RuntimeInfo {
  readonly modelId: string
  readonly adapterId: string
  readonly software: boolean
  /** Effective limit: the smaller of the checkpoint's and what was asked for at load; the KV pool always holds one such sequence. */
  readonly contextLimit: number
  /** What the checkpoint itself allows. */
  readonly modelContextLimit: number
  readonly maxSequences: number
  readonly kvDtype: 'f16' | 'f32'
  readonly vocabulary: number
  readonly eosTokenIds: readonly number[]
  /** From generation_config.json where the checkpoint has one, else neutral. */
  readonly defaultSampling: SamplingParameters
  readonly weightBytes: number
  readonly kvBytes: number
  readonly otherBytes: number
  readonly loadMs: number
}

/** What the loop is doing, for the screen and for `/metrics`. Counters run from load. */
export interface RuntimeTelemetry {
  readonly running: number
  readonly waiting: number
  readonly kvBlocksUsed: number
  readonly kvBlocksTotal: number
  /** Tokens the next step may process, from measured step times. */
  readonly tokenBudget: number
  readonly lastStepMs: number | null
  readonly steps: number
  readonly preemptions: number
  readonly promptTokens: number
  readonly cachedPromptTokens: number
  readonly generatedTokens: number
  /** Time of the loop outside `Executable.step`, per step, smoothed. */
  readonly hostMsPerStep: number | null
}

export interface Runtime extends AsyncDisposable {
  readonly info: RuntimeInfo
  /** Nothing happens until it is iterated. Leaving the loop early aborts the request. */
  generate(request: GenerationRequest): AsyncIterable<GenerationEvent>
  /** Rejects with `runtime.aborted` when its signal aborts. */
  score(request: ScoreRequest): Promise<ScoreResult>
  /** Requests queued or running, and not aborted. */
  readonly active: number
  /** Why this runtime can serve no more (device lost, disposed), or null. */
  readonly failure: Error | null
  telemetry(): RuntimeTelemetry
}

/** Scores the same tokens on two runtimes of one backend in lock-step and reduces the logits on the device. Index j holds token `from + j`. */
export type ScorePair = (baseline: Runtime, candidate: Runtime, request: ScoreRequest) => Promise<DriftRows>

export interface LoadProgress {
  readonly phase: 'reading' | 'uploading' | 'calibrating'
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface OpenRuntimeOptions {
  /** A folder, which is opened and closed here, or a checkpoint, which stays the caller's and may be closed once this resolves. */
  readonly source: string | Checkpoint
  readonly backend: Backend
  readonly modelId: string
  /** Wanted context; the checkpoint's own limit is never exceeded. */
  readonly contextTokens: number
  readonly kvDtype: 'f16' | 'f32'
  /** Requests that may share a step; default 8. */
  readonly maxSequences?: number | undefined
  /** Tokens the KV pool holds over all sequences; default and least: one full context. */
  readonly kvTokens?: number | undefined
  /** Tokens per step instead of the measured time budget; for tests and benchmarks. */
  readonly fixedTokenBudget?: number | undefined
  /** Default true. */
  readonly prefixCache?: boolean | undefined
  /** Default: the folder's own. null = none, as for a folder without one: tokens then have no text and stop strings are refused. */
  readonly tokenizer?: Tokenizer | null | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined
}
export type OpenRuntime = (options: OpenRuntimeOptions) => Promise<Runtime>

/** What a user of a model needs of it. A load with at least this context and the same dtype serves, whatever else it was made for. */
export interface ModelKey {
  readonly modelId: string
  readonly contextTokens: number
  readonly kvDtype: 'f16' | 'f32'
}

export interface AcquireOptions extends ModelKey {
  readonly name: string
  /** Bytes the load is expected to take, for making room beforehand; null = find out. */
  readonly estimatedBytes: number | null
  readonly open: (options: { readonly signal: AbortSignal; readonly onProgress: (progress: LoadProgress) => void }) => Promise<Runtime>
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined
}

/** A model in use: it is not unloaded before `release`. Releasing twice is harmless. */
export interface ModelLease extends Disposable {
  readonly runtime: Runtime
  release(): void
}

/** Keeps models loaded between uses. One load per key at a time; idle ones make room, busy ones never do. */
export interface ModelManager extends AsyncDisposable {
  acquire(options: AcquireOptions): Promise<ModelLease>
  /** Unloads every load of the model. Throws `model.busy` while one is in use or loading. False if none was loaded. */
  unload(modelId: string): Promise<boolean>
  loaded(): readonly LoadedModel[]
}
