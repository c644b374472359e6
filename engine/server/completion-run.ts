/**
 * Runs the choices of one prompt on a runtime and reports them as they grow: shared by chat and text completions, streamed or not. Resolves
 * lengths, forms and seeds (specs/runtime.md §3.6, §14); knows nothing of HTTP or of response shapes.
 */
import { randomUUID } from 'node:crypto'
import { LatheError } from '../contract/errors.ts'
import { requestsForChoices } from '../runtime/choices.ts'
import type { StructuredOutput } from '../runtime/structured/grammar-source.ts'
import type { FinishReason, GenerationRequest, GenerationStats, ScoreResult, TokenLogprob, TokenMaskProvider } from '../runtime/types.ts'
import { ApiError } from './api-error.ts'
import { resolveSampling } from './generation-fields.ts'
import type { GenerationFields } from './generation-fields.ts'
import type { RequestTracker } from './live-requests.ts'
import type { ServedModel } from './served-model.ts'
import type { ServingMetrics } from './serving-metrics.ts'

export interface ChoicePiece {
  readonly choice: number
  readonly ids: readonly number[]
  readonly logprobs: readonly number[]
  /** Per token, where alternatives were asked for. */
  readonly top: readonly (readonly TokenLogprob[])[] | null
  readonly text: string
}

export interface ChoiceEnd {
  readonly choice: number
  readonly reason: FinishReason
  readonly stopString: string | null
  /** One that the request named; the model's own end of an answer is no reason to tell, as in vLLM. */
  readonly stopTokenId: number | null
  readonly stats: GenerationStats
}

export interface RunHandlers {
  readonly onPiece: (piece: ChoicePiece) => void
  readonly onEnd: (end: ChoiceEnd) => void
  /** `cached`: prompt tokens that an earlier request had computed, as far as it is known by now. */
  readonly onProgress?: (done: number, total: number, cached: number) => void
  /** The prompt's own log-probabilities, where they were asked for. */
  readonly onPrompt?: (scores: ScoreResult) => void
}

/** What answering a request needs, whatever its endpoint. */
export interface RequestRun {
  readonly model: ServedModel
  readonly metrics: ServingMetrics
  readonly tracker: RequestTracker
  readonly signal: AbortSignal
  readonly overlong: Overlong
  /** Of the request, from its body or its header. */
  readonly id: string
  /** Drawn: what belongs to it is let in together. */
  readonly group: string
}

export interface PromptRun {
  readonly promptTokens: Uint32Array
  readonly maxTokens: number
  readonly firstChoice: number
  readonly topLogprobs: number
  /** Overrides that of the fields. */
  readonly structured?: StructuredOutput | null
  readonly skipSpecialTokens?: boolean
  /** Wraps the grammar's state of one choice. */
  readonly wrapMask?: (mask: TokenMaskProvider) => TokenMaskProvider
  /** Binds a choice besides, with a grammar or without. */
  readonly limitMask?: (mask: TokenMaskProvider | null) => TokenMaskProvider | null
  readonly signal?: AbortSignal
}

/** What happens to a limit that the context has no room for: refused as vLLM does, or cut to the room, for clients that always ask for a lot. */
export type Overlong = 'reject' | 'clamp'

/** Tokens a request may generate. A prompt without room for one is refused in any case. */
export function resolveMaxTokens(
  promptTokens: number,
  asked: number | undefined,
  contextLimit: number,
  { param, overlong }: { readonly param: 'messages' | 'prompt'; readonly overlong: Overlong },
): number {
  const room = contextLimit - promptTokens
  if (room > 0 && asked !== undefined && overlong === 'clamp') return Math.min(asked, room)
  if (room <= 0 || (asked !== undefined && asked > room)) {
    const wish = asked === undefined ? '' : ` and asked for ${asked} more`
    throw new ApiError(
      400,
      `This model's maximum context length is ${contextLimit} tokens. The prompt has ${promptTokens} tokens${wish}.`,
      { param: asked === undefined || room <= 0 ? param : 'max_tokens' },
    )
  }
  return asked ?? room
}

export interface FittedPrompt {
  readonly tokens: Uint32Array
  /** Tokens taken from the front because the client asked for it. */
  readonly dropped: number
}

/** Nothing is ever cut from a prompt unless `truncate_prompt_tokens` says so; then its end is kept. */
export function fitPrompt(tokens: Uint32Array, fields: GenerationFields, contextLimit: number): FittedPrompt {
  const { truncatePrompt } = fields
  if (truncatePrompt === undefined) return { tokens, dropped: 0 }
  const keep = truncatePrompt === -1 ? contextLimit - Math.max(1, fields.maxTokens ?? 1) : truncatePrompt
  if (keep < 1) throw new ApiError(400, `Nothing of the prompt would be left.`, { param: 'truncate_prompt_tokens' })
  return { tokens: tokens.slice(Math.max(0, tokens.length - keep)), dropped: Math.max(0, tokens.length - keep) }
}

/** Generates every choice of one prompt concurrently. Rejects with the first failure, having stopped the others. */
export async function runChoices(run: RequestRun, fields: GenerationFields, prompt: PromptRun, handlers: RunHandlers): Promise<void> {
  const { model, metrics } = run
  const stopOthers = new AbortController()
  const signal = AbortSignal.any([run.signal, stopOthers.signal, ...(prompt.signal === undefined ? [] : [prompt.signal])])
  const structured = prompt.structured === undefined ? fields.structured : prompt.structured
  // Before anything is sent: what is no grammar is a bad request.
  using grammar = structured === null ? null : await model.grammars.compile(structured, signal)
  const wrap = prompt.wrapMask ?? ((mask) => mask)
  const { limitMask } = prompt
  const bound = grammar === null ? null : (): TokenMaskProvider => wrap(grammar.start())
  const maskOf = limitMask === undefined ? (bound ?? undefined) : () => limitMask(bound?.() ?? null) ?? undefined
  // A special token that a form lets through, as some vocabularies have for tool calls, is a part of what the form binds.
  const skipSpecialTokens = structured === null && (prompt.skipSpecialTokens ?? fields.skipSpecialTokens)
  const request: GenerationRequest = {
    id: randomUUID(),
    promptTokens: prompt.promptTokens,
    sampling: resolveSampling(fields, {
      tokenizer: model.tokenizer,
      vocabulary: model.runtime.info.vocabulary,
      defaults: model.runtime.info.defaultSampling,
    }),
    maxTokens: prompt.maxTokens,
    stopStrings: fields.stop,
    stopTokenIds: fields.stopTokenIds,
    ignoreEos: fields.ignoreEos,
    cacheSalt: fields.cacheSalt,
    group: run.group,
    ...(fields.minTokens !== undefined && { minTokens: fields.minTokens }),
    ...(prompt.topLogprobs > 0 && { topLogprobs: prompt.topLogprobs }),
    ...(fields.priority !== undefined && { priority: fields.priority }),
    ...(skipSpecialTokens ? {} : { skipSpecialTokens: false }),
    signal,
  }
  metrics.arrived(fields.choices, prompt.maxTokens)
  const runOne = async (choice: GenerationRequest, index: number): Promise<void> => {
    const tracked = run.tracker.start({
      id: fields.choices === 1 ? run.id : `${run.id}#${index}`,
      promptTokens: prompt.promptTokens.length,
      maxTokens: prompt.maxTokens,
    })
    let lastOutput: number | null = null
    try {
      for await (const event of model.runtime.generate(choice)) {
        tracked.event(event)
        if (event.kind === 'tokens') {
          const now = performance.now()
          if (lastOutput !== null && event.ids.length > 0) metrics.gap(now - lastOutput)
          lastOutput = now
          handlers.onPiece({
            choice: prompt.firstChoice + index,
            ids: event.ids,
            logprobs: event.logprobs,
            top: event.top ?? null,
            text: event.text,
          })
        } else if (event.kind === 'prefill') {
          // The others read the same prompt.
          if (index === 0) handlers.onProgress?.(event.done, event.total, event.cached ?? 0)
        } else if (event.kind === 'prompt') handlers.onPrompt?.(event.scores)
        else {
          metrics.finished(event.reason, event.stats)
          if (fields.includeStop && event.stopString !== null)
            handlers.onPiece({ choice: prompt.firstChoice + index, ids: [], logprobs: [], top: null, text: event.stopString })
          handlers.onEnd({
            choice: prompt.firstChoice + index,
            reason: event.reason,
            stopString: event.stopString,
            stopTokenId: event.stopTokenId !== null && fields.stopTokenIds.includes(event.stopTokenId) ? event.stopTokenId : null,
            stats: event.stats,
          })
        }
      }
    } catch (failure) {
      metrics.finished('error', null, failure instanceof LatheError && failure.code === 'runtime.non-finite')
      tracked.failed(failure)
      throw failure
    }
  }
  const scored = fields.promptLogprobs === undefined ? request : { ...request, promptLogprobs: fields.promptLogprobs }
  const requests = requestsForChoices(request, fields.choices, maskOf)
  try {
    // All choices have one prompt: the first scores it for all.
    await Promise.all(
      requests.map((choice, index) => runOne(index === 0 ? { ...choice, promptLogprobs: scored.promptLogprobs } : choice, index)),
    )
  } catch (failure) {
    stopOthers.abort()
    throw failure
  }
}

export interface Usage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number; readonly truncated_tokens?: number }
  readonly completion_tokens_details?: { readonly reasoning_tokens: number }
}

/** Prompt tokens count once per prompt, completion tokens over all choices. */
export function usageOf(promptTokens: number, ends: readonly Pick<ChoiceEnd, 'stats'>[], dropped = 0): Usage {
  const completionTokens = ends.reduce((sum, end) => sum + end.stats.completionTokens, 0)
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: {
      cached_tokens: ends.reduce((most, end) => Math.max(most, end.stats.cachedTokens), 0),
      ...(dropped > 0 && { truncated_tokens: dropped }),
    },
  }
}

/** OpenAI's words. A full context is a length; an abort has no reader left, or was asked for. */
export function finishReasonOf(reason: FinishReason): 'stop' | 'length' | 'abort' {
  switch (reason) {
    case 'stop':
      return 'stop'
    case 'length':
    case 'context':
      return 'length'
    case 'aborted':
      return 'abort'
  }
}

/** Opt-in timings of a choice, in vLLM's words: tokens per second exclude the first token and the wait for it. */
export function metricsOf(stats: GenerationStats): object {
  const { queueMs, firstTokenMs, lastTokenMs, completionTokens, totalMs } = stats
  const decodeMs = firstTokenMs === null || lastTokenMs === null ? null : lastTokenMs - firstTokenMs
  const gaps = completionTokens - 1
  return {
    queue_time_ms: queueMs,
    time_to_first_token_ms: firstTokenMs,
    generation_time_ms: totalMs,
    mean_itl_ms: decodeMs === null || gaps < 1 ? null : decodeMs / gaps,
    tokens_per_second: decodeMs === null || decodeMs <= 0 || gaps < 1 ? null : (1000 * gaps) / decodeMs,
    cached_tokens: stats.cachedTokens,
    preemptions: stats.preemptions,
    seed: stats.seed,
    ...(stats.transferredTokens !== undefined && { transferred_tokens: stats.transferredTokens }),
    ...(stats.draftedTokens !== undefined && { draft_tokens: stats.draftedTokens, accepted_draft_tokens: stats.acceptedTokens ?? 0 }),
    ...(stats.cacheMiss !== undefined && { cache_miss: stats.cacheMiss }),
  }
}
