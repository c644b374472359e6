/**
 * The one interface through which chat, evaluation, benchmark and server use a model, so that what is measured is what is served.
 * Text in and out is the front's business (tokenizer, stop strings); the core below it deals in token ids only.
 */
import type { DriftRows } from '../gpu/program.ts'

export interface SamplingParameters {
  readonly temperature: number // 0 = greedy
  readonly topK: number
  readonly topP: number
  readonly minP: number
  /** undefined = drawn at admission and reported in `finished`. */
  readonly seed?: number | undefined
}

export interface GenerationRequest {
  readonly id: string
  readonly promptTokens: Uint32Array
  readonly sampling: SamplingParameters
  /** Clamped to the context; undefined = the rest of it. */
  readonly maxTokens?: number | undefined
  readonly stopStrings?: readonly string[] | undefined
  readonly stopTokenIds?: readonly number[] | undefined
  readonly ignoreEos?: boolean | undefined
  /** Aborting ends the request within one step, with reason `aborted`. */
  readonly signal?: AbortSignal | undefined
}

export type FinishReason = 'stop' | 'length' | 'context' | 'aborted' | 'error'

/** Times are milliseconds on the monotonic clock since the request was added. */
export interface GenerationStats {
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly completionTokens: number
  readonly queueMs: number
  readonly firstTokenMs: number | null
  readonly lastTokenMs: number | null
  readonly seed: number
}

export type GenerationEvent =
  | { readonly kind: 'prefill'; readonly done: number; readonly total: number }
  /** Text is complete UTF-8 and free of stop strings; ids may arrive before the text that completes a character. */
  | { readonly kind: 'tokens'; readonly ids: readonly number[]; readonly logprobs: readonly number[]; readonly text: string }
  | { readonly kind: 'finished'; readonly reason: FinishReason; readonly stopString: string | null; readonly stats: GenerationStats }

export interface ScoreRequest {
  /** Whole sequence; token i is scored given tokens < i. */
  readonly tokens: Uint32Array
  /** First index to score, ≥ 1. */
  readonly from: number
  readonly topCount?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** Index j holds token `from + j`. */
export interface ScoreResult {
  readonly logprobs: Float32Array
  readonly argmax: Uint32Array
  readonly topIds: Uint32Array
  readonly topLogprobs: Float32Array
}

export interface RuntimeInfo {
  readonly modelId: string
  readonly adapterId: string
  readonly software: boolean
  /** Effective limit: the smaller of the checkpoint's and what the KV pool holds. */
  readonly contextLimit: number
  readonly vocabulary: number
  readonly eosTokenIds: readonly number[]
  readonly weightBytes: number
  readonly kvBytes: number
  readonly otherBytes: number
  readonly loadMs: number
}

export interface Runtime extends AsyncDisposable {
  readonly info: RuntimeInfo
  generate(request: GenerationRequest): AsyncIterable<GenerationEvent>
  score(request: ScoreRequest): Promise<ScoreResult>
  /** Requests queued or running. */
  readonly active: number
}

/** Scores the same tokens on two runtimes of one backend in lock-step and reduces the logits on the device. Index j holds token `from + j`. */
export type ScorePair = (baseline: Runtime, candidate: Runtime, request: ScoreRequest) => Promise<DriftRows>
