/**
 * One request as the core sees it: known tokens, how many of them are computed, where their K and V live, and when it must stop.
 * Three kinds share the scheduler: `generate` samples at the end of what is known; `score` wants a log-probability at every position from
 * `from` on; `reserved` only holds blocks for a sequence that someone else steps (pair.ts).
 */
import type { ResolvedSampling } from './sampling.ts'
import { RuleState, type TokenRules } from './token-rules.ts'
import type { CacheMiss, FinishReason, GenerationStats, ScoreResult } from './types.ts'

export type RequestStatus = 'waiting' | 'running' | 'preempted' | 'ended'

export interface GenerateWork {
  readonly kind: 'generate'
  readonly sampling: ResolvedSampling
  /** null = until the context is full. */
  readonly maxTokens: number | null
  readonly stopTokenIds: ReadonlySet<number>
  /** null or absent = nothing but the model decides. */
  readonly rules?: TokenRules | null
  /** Most probable tokens to report with each one generated; default 0. */
  readonly topCount?: number
  /** Lower first; default 0. */
  readonly priority?: number
  /** Of requests that are let in together; see GenerationRequest. */
  readonly group?: string | undefined
  /** The prompt was computed for this request alone, to score it: finding it in the cache is no saving. */
  readonly fresh?: boolean
}

export interface ScoreWork {
  readonly kind: 'score'
  readonly from: number
  readonly topCount: number
  /** Somebody waits for it, as for an answer. */
  readonly interactive?: boolean
}

export interface ReservedWork {
  readonly kind: 'reserved'
  /** Called once, when the blocks are held. */
  readonly granted: (table: readonly number[]) => void
}

export class Request {
  readonly id: string
  readonly work: GenerateWork | ScoreWork | ReservedWork
  readonly promptCount: number
  readonly cacheSalt: string
  /** Known tokens; only the first `tokenCount` are. */
  tokens: Uint32Array
  tokenCount: number
  /** Tokens whose K and V are in the cache. */
  computed = 0
  /** Block ids in order of position. */
  table: number[] = []
  /** Hashes of full blocks, as far as they were needed. */
  readonly hashes: string[] = []
  /** Leading blocks of `table` whose content is published or was found. */
  published = 0
  status: RequestStatus = 'waiting'
  /** Guesses for the next tokens, kept in `tokens` behind the known ones until they are verified. */
  draftCount = 0
  drafted = 0
  accepted = 0
  /** Guesses to ask for next time, and since how many times in a row none was right. */
  draftLength = 2
  draftMisses = 0
  /** No guesses before this many tokens are known. */
  draftFrom = 0
  /** False while an output constraint is being prepared: it waits, and others go first. */
  ready = true
  readonly rules: RuleState | null
  cacheMiss: CacheMiss | null = null
  /** False until the first token is sampled since the last admission. */
  decoding = false
  cachedTokens = 0
  preemptions = 0
  readonly addedAt: number
  scheduledAt: number | null = null
  firstTokenAt: number | null = null
  lastTokenAt: number | null = null
  /** score: tokens whose log-probability is known; index of the next one. */
  scored: number
  readonly #result: ScoreResult | null

  constructor(id: string, tokens: Uint32Array, work: Request['work'], addedAt: number, cacheSalt = '') {
    this.id = id
    this.work = work
    this.tokens = tokens
    this.tokenCount = tokens.length
    this.promptCount = tokens.length
    this.cacheSalt = cacheSalt
    this.addedAt = addedAt
    this.rules = work.kind === 'generate' && work.rules ? new RuleState(work.rules) : null
    this.scored = work.kind === 'score' ? work.from : 0
    this.#result = work.kind === 'score' ? emptyResult(tokens.length - work.from, work.topCount) : null
  }

  /** Tokens that must be computed before the request has what it wants. The last token of a scored sequence is never fed. */
  get target(): number {
    return this.work.kind === 'generate' ? this.tokenCount + this.draftCount : this.tokenCount - 1
  }

  /** Most tokens that a prefix hit may skip: those after it must be computed, for their logits do not exist otherwise. */
  get mostCached(): number {
    return this.work.kind === 'score' ? this.scored - 1 : this.target - 1
  }

  get completionTokens(): number {
    return this.tokenCount - this.promptCount
  }

  /** Position of the first known token whose logits are wanted; those after it are wanted too. */
  get firstLogitPosition(): number {
    return this.work.kind === 'score' ? this.scored - 1 : this.tokenCount - 1
  }

  get priority(): number {
    return this.work.kind === 'generate' ? (this.work.priority ?? 0) : 0
  }

  append(token: number): void {
    this.#makeRoom(1)
    this.tokens[this.tokenCount++] = token
  }

  /** Replaces the guesses that follow the known tokens. */
  setDrafts(drafts: ArrayLike<number>): void {
    this.#makeRoom(drafts.length)
    this.tokens.set(drafts, this.tokenCount)
    this.draftCount = drafts.length
  }

  #makeRoom(count: number): void {
    if (this.tokenCount + count <= this.tokens.length) return
    const grown = new Uint32Array(Math.max(2 * this.tokens.length, this.tokenCount + count, 64))
    grown.set(this.tokens)
    this.tokens = grown
  }

  /** scores of consecutive tokens starting at `scored`, from rows `row…` of a step's output. */
  record(rows: ScoreRows, row: number, count: number): void {
    const result = this.#result
    if (result === null || this.work.kind !== 'score') throw new Error(`Request ${this.id} is not a scoring request`)
    const { topCount, from } = this.work
    const offset = this.scored - from
    result.logprobs.set(rows.targetLogprob.subarray(row, row + count), offset)
    result.argmax.set(rows.argmax.subarray(row, row + count), offset)
    if (topCount > rows.topCount) throw new Error(`Request ${this.id} wants ${topCount} top tokens, the step returned ${rows.topCount}`)
    for (let i = 0; i < count; i++) {
      const source = (row + i) * rows.topCount
      result.topIds.set(rows.topIds.subarray(source, source + topCount), (offset + i) * topCount)
      result.topLogprobs.set(rows.topLogprobs.subarray(source, source + topCount), (offset + i) * topCount)
    }
    this.scored += count
  }

  get result(): ScoreResult {
    if (this.#result === null) throw new Error(`Request ${this.id} is not a scoring request`)
    return this.#result
  }

  /** The request has ended. What its output constraint says to that concerns nobody any more. */
  dispose(): void {
    try {
      this.rules?.rules.mask?.dispose?.()
    } catch {
      // It is not asked again.
    }
  }

  stats(now: number): GenerationStats {
    const since = (time: number | null): number | null => (time === null ? null : time - this.addedAt)
    return {
      promptTokens: this.promptCount,
      cachedTokens: this.cachedTokens,
      completionTokens: this.completionTokens,
      queueMs: since(this.scheduledAt),
      firstTokenMs: since(this.firstTokenAt),
      lastTokenMs: since(this.lastTokenAt),
      totalMs: now - this.addedAt,
      preemptions: this.preemptions,
      seed: this.work.kind === 'generate' ? this.work.sampling.seed : 0,
      ...(this.drafted === 0 ? {} : { draftedTokens: this.drafted, acceptedTokens: this.accepted }),
      ...(this.cacheMiss === null ? {} : { cacheMiss: this.cacheMiss }),
    }
  }
}

interface ScoreRows {
  readonly targetLogprob: Float32Array
  readonly argmax: Uint32Array
  readonly topIds: Uint32Array
  readonly topLogprobs: Float32Array
  readonly topCount: number
}

/**
 * Whether a request that has just appended its last token must stop (specs/runtime.md §3.5). A stop token that arrives as exactly the last
 * allowed one is `stop`. Where maxTokens and the context end together the caller got what it asked for: `length`.
 */
export function finishReason(request: Request, work: GenerateWork, contextLimit: number): FinishReason | null {
  const last = request.tokens[request.tokenCount - 1]
  if (last !== undefined && work.stopTokenIds.has(last) && request.completionTokens > (work.rules?.minTokens ?? 0)) return 'stop'
  if (work.maxTokens !== null && request.completionTokens >= work.maxTokens) return 'length'
  return request.tokenCount >= contextLimit ? 'context' : null
}

function emptyResult(count: number, topCount: number): ScoreResult {
  return {
    logprobs: new Float32Array(count),
    argmax: new Uint32Array(count),
    topIds: new Uint32Array(count * topCount),
    topLogprobs: new Float32Array(count * topCount),
  }
}
