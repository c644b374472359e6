/**
 * One answer from a model: load, render the chat template, encode, generate, and turn the runtime's times into the figures that a person reads.
 * Knows nothing of threads or the store, so the command line chats through the same code.
 *
 * Speeds follow specs/runtime.md §17: prefill counts only computed prompt tokens, decode is (n − 1) / (last − first), loading is its own figure.
 */
import { LatheError } from '../contract/index.ts'
import type { AnswerStats, Sampling } from '../contract/index.ts'
import type { GenerationEvent } from '../runtime/types.ts'
import { answerRoom, fitMessages } from './context-overflow.ts'
import type { AcquireModel, CurrentAdapter, ModelsPort, PromptMessage, TokenizerPort } from './ports.ts'

const THINK_OPEN = '<think>'

export type AnswerEvent =
  | { readonly kind: 'loading'; readonly doneBytes: number; readonly totalBytes: number; readonly phase: string }
  | { readonly kind: 'prefill'; readonly done: number; readonly total: number }
  /** `tokens` counts all so far, those without visible text included. */
  | { readonly kind: 'text'; readonly text: string; readonly tokens: number }
  | { readonly kind: 'finished'; readonly stats: AnswerStats }

export interface AnswerParts {
  readonly models: ModelsPort
  readonly tokenizers: TokenizerPort
  readonly adapter: () => Promise<CurrentAdapter>
}

export interface AnswerRequest {
  readonly id: string
  readonly model: Omit<AcquireModel, 'onProgress'>
  readonly messages: readonly PromptMessage[]
  readonly sampling: Sampling
}

/**
 * Calls back for each event, in order, and resolves after `finished`. An abort while generating ends with stop reason `aborted`; before that,
 * and for every failure, it rejects.
 */
export async function answer(parts: AnswerParts, request: AnswerRequest, emit: (event: AnswerEvent) => void): Promise<void> {
  const { signal } = request.model
  const tokenizer = await parts.tokenizers.open(request.model.folder)
  const encode = (messages: readonly PromptMessage[]): Uint32Array =>
    tokenizer.encode(tokenizer.renderChat(messages), { addSpecialTokens: false })
  // Before anything is loaded: what the template refuses, it refuses at once.
  const prompt = tokenizer.renderChat(request.messages)
  const whole = tokenizer.encode(prompt, { addSpecialTokens: false })
  const loadStarted = performance.now()
  let loaded = false
  using lease = await parts.models.acquire({
    ...request.model,
    onProgress: (progress) => {
      loaded = true
      emit({ kind: 'loading', ...progress })
    },
  })
  const loadMs = loaded ? performance.now() - loadStarted : 0
  const { runtime } = lease
  const adapter = await parts.adapter()
  const { seed, maxTokens, stop, overflow = 'stop', ...sampling } = request.sampling
  const { contextLimit } = runtime.info
  const promptTokens = fitMessages(request.messages, whole, overflow, contextLimit - answerRoom(maxTokens, contextLimit), encode)
  let tokens = 0
  // A template that opens the thinking itself leaves only its end to the model: with its beginning the answer can be taken apart again.
  if (prompt.trimEnd().endsWith(THINK_OPEN)) emit({ kind: 'text', text: `${THINK_OPEN}\n`, tokens })
  for await (const event of runtime.generate({
    id: request.id,
    promptTokens,
    sampling: { ...sampling, seed: seed ?? undefined },
    maxTokens: maxTokens ?? undefined,
    stopStrings: stop,
    signal,
  })) {
    if (event.kind === 'prefill') emit(event)
    else if (event.kind === 'tokens') {
      tokens += event.ids.length
      emit({ kind: 'text', text: event.text, tokens })
    } else if (event.kind === 'finished') {
      emit({
        kind: 'finished',
        stats: statsOf(event, loadMs, labelledAdapter(adapter, runtime.info), contextLimit, whole.length - promptTokens.length),
      })
      return
    }
  }
  throw new LatheError('internal', 'The answer ended without its closing event.', 'Copy the details and report it.')
}

/** Speeds of matrix units are never taken for those of the default kernels: their adapter says so. */
export function labelledAdapter(adapter: CurrentAdapter, { matrixUnits }: { readonly matrixUnits?: boolean | undefined }): CurrentAdapter {
  return matrixUnits === true ? { ...adapter, name: `${adapter.name} (matrix units)` } : adapter
}

function statsOf(
  event: Extract<GenerationEvent, { kind: 'finished' }>,
  loadMs: number,
  adapter: CurrentAdapter,
  contextLimit: number,
  droppedTokens: number,
): AnswerStats {
  const { promptTokens, cachedTokens, completionTokens, queueMs, firstTokenMs, lastTokenMs, totalMs, seed } = event.stats
  const prefillMs = firstTokenMs === null || queueMs === null ? null : firstTokenMs - queueMs
  const decodeMs = firstTokenMs === null || lastTokenMs === null ? null : lastTokenMs - firstTokenMs
  return {
    promptTokens,
    completionTokens,
    // an answer stopped before its first token has waited this long for nothing
    timeToFirstTokenMs: firstTokenMs ?? totalMs,
    loadMs,
    prefillTokensPerSecond: perSecond(promptTokens - cachedTokens, prefillMs),
    decodeTokensPerSecond: perSecond(completionTokens - 1, decodeMs),
    stopReason: event.reason,
    seed,
    adapter: adapter.name,
    softwareAdapter: adapter.type === 'software' || adapter.type === 'reference',
    contextUsed: promptTokens + completionTokens,
    contextLimit,
    cachedTokens,
    ...(droppedTokens > 0 && { droppedTokens }),
  }
}

function perSecond(count: number, ms: number | null): number | null {
  return ms === null || ms <= 0 || count <= 0 ? null : (count / ms) * 1000
}
