/**
 * Runs the choices of one prompt on a runtime and reports them as they grow: shared by chat and text completions, streamed or not. Resolves
 * lengths and seeds (specs/runtime.md §14, §21.10); knows nothing of HTTP or of response shapes.
 */
import { randomUUID } from 'node:crypto'
import type { FinishReason, GenerationRequest, GenerationStats, SamplingParameters } from '../runtime/types.ts'
import { ApiError } from './api-error.ts'
import type { GenerationFields } from './request-schema.ts'
import type { ServedModel } from './served-model.ts'
import type { ServingMetrics } from './serving-metrics.ts'

export interface ChoicePiece {
  readonly choice: number
  readonly ids: readonly number[]
  readonly logprobs: readonly number[]
  readonly text: string
}

export interface ChoiceEnd {
  readonly choice: number
  readonly reason: FinishReason
  readonly stopString: string | null
  readonly stopTokenId: number | null
  readonly stats: GenerationStats
}

export interface RunHandlers {
  readonly onPiece: (piece: ChoicePiece) => void
  readonly onEnd: (end: ChoiceEnd) => void
}

/** Tokens a request may generate. An explicit limit that can't be met is refused, as vLLM does; nothing is ever cut from the prompt. */
export function resolveMaxTokens(promptTokens: number, asked: number | undefined, contextLimit: number): number {
  const room = contextLimit - promptTokens
  if (room <= 0 || (asked !== undefined && asked > room)) {
    const wish = asked === undefined ? '' : ` and asked for ${asked} more`
    throw new ApiError(
      400,
      `This model's maximum context length is ${contextLimit} tokens. The prompt has ${promptTokens} tokens${wish}.`,
      {
        param: asked === undefined || room <= 0 ? 'messages' : 'max_tokens',
      },
    )
  }
  return asked ?? room
}

function samplingOf(fields: GenerationFields, defaults: SamplingParameters, choice: number): SamplingParameters {
  return {
    temperature: fields.temperature ?? defaults.temperature,
    topK: fields.topK ?? defaults.topK,
    topP: fields.topP ?? defaults.topP,
    minP: fields.minP ?? defaults.minP,
    // n answers of one seed would be n copies.
    seed: fields.seed === undefined ? undefined : fields.seed + choice,
  }
}

/** Generates every choice of one prompt concurrently. Rejects with the first failure, having stopped the others. */
export async function runChoices(
  model: ServedModel,
  promptTokens: Uint32Array,
  fields: GenerationFields,
  run: { readonly maxTokens: number; readonly firstChoice: number; readonly signal: AbortSignal; readonly metrics: ServingMetrics },
  handlers: RunHandlers,
): Promise<void> {
  const stopOthers = new AbortController()
  const signal = AbortSignal.any([run.signal, stopOthers.signal])
  const runOne = async (index: number): Promise<void> => {
    const request: GenerationRequest = {
      id: randomUUID(),
      promptTokens,
      sampling: samplingOf(fields, model.runtime.info.defaultSampling, index),
      maxTokens: run.maxTokens,
      stopStrings: fields.stop,
      stopTokenIds: fields.stopTokenIds,
      ignoreEos: fields.ignoreEos,
      cacheSalt: fields.cacheSalt,
      signal,
    }
    let lastOutput: number | null = null
    try {
      for await (const event of model.runtime.generate(request)) {
        if (event.kind === 'tokens') {
          const now = performance.now()
          if (lastOutput !== null) run.metrics.gap(now - lastOutput)
          lastOutput = now
          handlers.onPiece({ choice: run.firstChoice + index, ids: event.ids, logprobs: event.logprobs, text: event.text })
        } else if (event.kind === 'finished') {
          run.metrics.finished(event.reason, event.stats)
          handlers.onEnd({
            choice: run.firstChoice + index,
            reason: event.reason,
            stopString: event.stopString,
            stopTokenId: event.stopTokenId,
            stats: event.stats,
          })
        }
      }
    } catch (failure) {
      run.metrics.finished('error', null)
      throw failure
    }
  }
  try {
    await Promise.all(Array.from({ length: fields.choices }, (_, index) => runOne(index)))
  } catch (failure) {
    stopOthers.abort()
    throw failure
  }
}

export interface Usage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number }
}

/** Prompt tokens count once per prompt, completion tokens over all choices. */
export function usageOf(promptTokens: number, ends: readonly ChoiceEnd[]): Usage {
  const completionTokens = ends.reduce((sum, end) => sum + end.stats.completionTokens, 0)
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: ends.reduce((most, end) => Math.max(most, end.stats.cachedTokens), 0) },
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
