/**
 * The one interface through which chat, evaluation, benchmark and server use a model, so that what is measured is what is served.
 * Text in and out is the front's business (tokenizer, stop strings); the core below it deals in token ids only.
 *
 * Failures throw a LatheError, from the iterator as from a promise: `runtime.invalid-request`, `runtime.context-exceeded`,
 * `runtime.non-finite`, `runtime.no-token`, `runtime.queue-full` (data {queued, retryAfterSeconds}), `gpu.device-lost`, `gpu.out-of-memory`. Stopping for a reason the caller asked for is an
 * event, not a failure.
 */
import type { Checkpoint } from '../checkpoint/types.ts'
import type { LoadedModel } from '../contract/index.ts'
import type { KvSetting } from '../gpu/kv-format.ts'
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
  /** [−2, 2], default 0: subtracted from the logit of every token that was generated before. */
  readonly presencePenalty?: number | undefined
  /** [−2, 2], default 0: subtracted once for each time that the token was generated before. */
  readonly frequencyPenalty?: number | undefined
  /** (0, 2], default 1: divides positive and multiplies negative logits of tokens in the prompt or generated before. */
  readonly repetitionPenalty?: number | undefined
  /** Token id → added to its logit; clamped to ±100, −Infinity = never. */
  readonly logitBias?: ReadonlyMap<number, number> | undefined
  /** Token sequences that are never generated whole: the last token of one is forbidden after the others. */
  readonly badWords?: readonly (readonly number[])[] | undefined
  /** Only these tokens may be generated. */
  readonly allowedTokenIds?: readonly number[] | undefined
}

/**
 * What structured output allows next, token by token: a grammar's state for one request. The runtime asks for a mask before each token and
 * tells what was chosen; it never looks inside. With speculation it walks ahead and back again, so `rollback` must be exact.
 * Tokens that end a request are not accepted: its last state is of no use to anybody.
 */
export interface TokenMaskProvider {
  /** Until it resolves the request waits in the queue without holding anyone up; a rejection fails the request with that error. */
  readonly ready?: Promise<void> | undefined
  /**
   * What may follow all that was accepted: bit `t & 31` of word `t >> 5` set = token t is allowed, ceil(vocabulary / 32) words, bits beyond the
   * vocabulary ignored; null = anything. The words are copied before the provider is called again. A promise is for work off the event loop; it
   * delays the whole step. A rejection fails the request. End-of-sequence ids are ordinary tokens: allow them where the text may end.
   */
  mask(): Uint32Array | null | Promise<Uint32Array | null>
  /** Advances by one token and returns true; if it is not allowed here, changes nothing and returns false. */
  accept(token: number): boolean
  /** Takes back the last `count` accepted tokens; never more than were accepted since the request began. */
  rollback(count: number): void
  /** Called once when the request has ended, in whatever way. */
  dispose?(): void
}

/** A token with its natural log-probability by the model's plain softmax: no temperature, bias, penalty or mask. */
export interface TokenLogprob {
  readonly id: number
  readonly logprob: number
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
  /** End-of-sequence and stop ids are forbidden, and stop strings ignored, until this many tokens are generated. Default 0. */
  readonly minTokens?: number | undefined
  /** Most probable tokens to report with each generated one, 0…32; default 0. They are of the plain softmax, as `logprobs` always is. */
  readonly topLogprobs?: number | undefined
  /** Report the prompt's own log-probabilities, with this many most probable tokens at each position (0…32); undefined = don't. Skips the cache. */
  readonly promptLogprobs?: number | undefined
  /** Lower goes first, and is preempted last; equal ones by arrival. Default 0. */
  readonly priority?: number | undefined
  /** Leave special tokens out of the text; default true. The token that ends a request is never part of it. */
  readonly skipSpecialTokens?: boolean | undefined
  /** Structured output. One provider serves one request (and one choice of it). */
  readonly mask?: TokenMaskProvider | undefined
  /** Prefixes are shared in the KV cache only between requests of equal salt. */
  readonly cacheSalt?: string | undefined
  /** Of requests that one client asked for at once, as `n` choices: while one of them is in, the queue is never too full for the others. */
  readonly group?: string | undefined
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
  /** Prompt tokens whose keys and values another runtime computed and handed over; absent without disaggregation. */
  readonly transferredTokens?: number | undefined
  /** Tokens that speculation proposed and how many of them the model chose too; absent without speculation. */
  readonly draftedTokens?: number | undefined
  readonly acceptedTokens?: number | undefined
  /** Why prompt tokens were not found in the prefix cache; absent where none was missed. */
  readonly cacheMiss?: CacheMiss | undefined
}

/**
 * Why a prompt's prefix was not cached further than `cachedTokens`, as far as it is known. `disabled`: no prefix cache; `short`: no whole block
 * is left to share; `new`: nobody computed this beginning with this salt; `diverged`: the next block differs from what was computed before
 * (edited history, a date in the system prompt); `evicted`: it was computed, and its memory was needed since; `fresh`: the caller asked for
 * logits of the prompt, which a cache does not hold.
 */
export interface CacheMiss {
  readonly reason: 'disabled' | 'short' | 'new' | 'diverged' | 'evicted' | 'fresh'
  /** First prompt token that was not found. */
  readonly position: number
}

export type GenerationEvent =
  /** Prompt tokens done so far, cached ones included; `cached` absent = none. After preemption it may run again from a lower `done`. */
  | { readonly kind: 'prefill'; readonly done: number; readonly total: number; readonly cached?: number }
  /**
   * Text is complete UTF-8 and free of stop strings; ids may arrive before the text that completes a character. A consumer slower than the
   * model, and one whose request speculates, receives several tokens in one event. Log-probabilities are of the plain softmax.
   */
  | {
      readonly kind: 'tokens'
      readonly ids: readonly number[]
      readonly logprobs: readonly number[]
      readonly text: string
      /** Per token its most probable alternatives, descending; present iff `topLogprobs` was asked for. */
      readonly top?: readonly (readonly TokenLogprob[])[]
    }
  /** Once, before the first token, where `promptLogprobs` was asked for: index j of the result is prompt token j + 1. */
  | { readonly kind: 'prompt'; readonly scores: ScoreResult }
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

export interface EmbedRequest {
  /** At most contextLimit of them. */
  readonly tokens: Uint32Array
  /** The state after the last token, or the mean over all. */
  readonly pooling: 'last' | 'mean'
  readonly signal?: AbortSignal | undefined
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
  readonly kvDtype: KvSetting
  /** The type that the checkpoint itself names for its cache, whether it was followed or not. Absent = it names none. */
  readonly checkpointKvDtype?: KvSetting | undefined
  /** Where the scales of an FP8 side of the cache come from: the checkpoint's calibration, or each row itself. Absent = no side is FP8. */
  readonly kvScales?: 'checkpoint' | 'rows' | undefined
  /** Steps of many tokens run on matrix units: figures depend on chunks and batches, and say so. Absent = no. */
  readonly matrixUnits?: boolean | undefined
  /** Of the cache, over all layers, scales and padding included; absent where there is no cache to ask. */
  readonly kvBytesPerToken?: number | undefined
  readonly vocabulary: number
  readonly eosTokenIds: readonly number[]
  /** From generation_config.json where the checkpoint has one, else neutral. */
  readonly defaultSampling: SamplingParameters
  readonly weightBytes: number
  readonly kvBytes: number
  readonly otherBytes: number
  readonly loadMs: number
  /** Of it, compiling kernels that were not compiled yet on this device; null or absent where nothing is compiled. */
  readonly compileMs?: number | null
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
  /** Absent without speculation. */
  readonly speculation?: SpeculationTelemetry | undefined
  /** Absent without disaggregation. */
  readonly transfers?: TransferTelemetry | undefined
}

/** What one runtime has handed to another, from load. */
export interface TransferTelemetry {
  readonly transfers: number
  readonly tokens: number
  readonly bytes: number
  readonly milliseconds: number
  /** Prompts that decode computed itself because prefill or the handover failed. */
  readonly recomputed: number
}

/** Counters from load. Acceptance rate = accepted / draft tokens; mean length of a verified step = 1 + accepted / drafts. */
export interface SpeculationTelemetry {
  readonly proposer: 'ngram' | 'draft'
  /** Proposals verified. */
  readonly drafts: number
  readonly draftTokens: number
  readonly acceptedTokens: number
  /** Index i: how often the i-th token of a proposal was accepted. */
  readonly acceptedPerPosition: readonly number[]
  /** False while measured step times say that it costs more than it brings. */
  readonly active: boolean
}

/** Prompts are read by runtimes of their own and handed over (disaggregation/). Answers are the same, bit for bit, on devices of one kind. */
export interface Disaggregation {
  /** ≥ 1; each holds the weights again. */
  readonly prefillEngines: number
  /** The device that they use; default that of the answers. Becomes the runtime's own. */
  readonly prefillBackend?: Backend | undefined
}

/** How to speculate. Results are the same with and without, bit for bit; only the time they take differs. */
export type Speculation =
  /** Proposes what followed the last few tokens when they occurred before. `tokens`: most per step, 1…16, default 4. */
  | { readonly kind: 'ngram'; readonly tokens?: number | undefined }
  /** A smaller model of the same vocabulary proposes. `source` as in OpenRuntimeOptions. */
  | { readonly kind: 'draft'; readonly source: string | Checkpoint; readonly tokens?: number | undefined }

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
  /** The hidden state after the final norm, pooled; [hidden]. Absent = this runtime has none to give. */
  embed?(request: EmbedRequest): Promise<Float32Array>
  /** Called after each step with the tokens it processed and the milliseconds it took. Returns how to stop that. */
  onStep?(listener: (tokens: number, milliseconds: number) => void): () => void
  /** Forgets what was computed for earlier prompts; false while a request uses some of it. Absent = no such cache. */
  resetPrefixCache?(): Promise<boolean>
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
  /** Type of cached keys and values: one for both, or `keys/values`. The quantized ones cost accuracy: bench/kv-kld.ts measures how much. */
  readonly kvDtype: KvSetting
  /** Requests that may share a step; default 8. */
  readonly maxSequences?: number | undefined
  /** Tokens the KV pool holds over all sequences; default and least: one full context. */
  readonly kvTokens?: number | undefined
  /** Tokens per step instead of the measured time budget; for tests and benchmarks. */
  readonly fixedTokenBudget?: number | undefined
  /** Default true. */
  readonly prefixCache?: boolean | undefined
  /**
   * Matrix units (tensor cores) for steps of many tokens, which are mostly prompts: several times as fast, but results then depend on how many tokens
   * share a step. Default false. Throws `gpu.unsupported` with the reason where they cannot be used.
   */
  readonly matrixUnits?: boolean | undefined
  /** Default: none. */
  readonly speculation?: Speculation | undefined
  /** Requests that may wait for admission before more are refused with `runtime.queue-full`; default 16 384. */
  readonly maxQueued?: number | undefined
  /** Keys and values can be handed to and taken from other runtimes of the same model (disaggregation/). Default false. */
  readonly handover?: boolean | undefined
  /** Default: the runtime that answers reads prompts too. */
  readonly disaggregation?: Disaggregation | undefined
  /** Whether another runtime on this device owes somebody the next word: then steps stay as short as if it were here. */
  readonly decodingElsewhere?: (() => boolean) | undefined
  /** Default: the folder's own. null = none, as for a folder without one: tokens then have no text and stop strings are refused. */
  readonly tokenizer?: Tokenizer | null | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined
}

/** What a user of a model needs of it. A load with at least this context and the same dtype serves, whatever else it was made for. */
export interface ModelKey {
  readonly modelId: string
  readonly contextTokens: number
  readonly kvDtype: KvSetting
  /** Never shared between those that want it and those that don't. */
  readonly matrixUnits?: boolean | undefined
  /** Least room for many requests, asked by those who measure them: a load with less serves them no better than no load. Absent = any. */
  readonly room?: ModelRoom | undefined
}

export interface ModelRoom {
  readonly sequences: number
  /** Of the cache, over all sequences. */
  readonly kvTokens: number
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

export interface ReserveOptions {
  /** Who holds it, in messages: "Compression of Pebble". */
  readonly name: string
  readonly bytes: number
  readonly signal?: AbortSignal | undefined
  /** Models in use leave too little for now; called whenever that changes. */
  readonly onWait?: ((message: string) => void) | undefined
}

/** Device memory that is counted as used although no model holds it. Disposing twice is harmless. */
export interface MemoryReservation extends Disposable {
  /** Holds so much instead. False, with nothing changed, where models in use leave too little; idle ones make room. */
  resize(bytes: number): Promise<boolean>
}

/** Keeps models loaded between uses. One load per key at a time; idle ones make room, busy ones never do. */
export interface ModelManager extends AsyncDisposable {
  acquire(options: AcquireOptions): Promise<ModelLease>
  /** Unloads every load of the model. Throws `model.busy` while one is in use or loading. False if none was loaded. */
  unload(modelId: string): Promise<boolean>
  loaded(): readonly LoadedModel[]
  /**
   * Memory for work beside the models. Idle ones make room; where those in use leave too little it waits for them. What no model could leave
   * (the budget is smaller, or unknown) is granted once no other is loaded: the work itself will say whether it fits.
   */
  reserve(options: ReserveOptions): Promise<MemoryReservation>
}
