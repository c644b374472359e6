/**
 * One generation as its caller iterates it: core outputs in, GenerationEvents out (specs/runtime.md §8). Turns tokens into text that never
 * holds half a character or a stop string, merges what a slow consumer has not taken yet, and makes leaving the loop an abort.
 */
import type { StreamDecoder } from '../tokenizer/stream-decoder.ts'
import type { StopMatcher } from '../tokenizer/stop-strings.ts'
import type { RequestOutput } from './core-messages.ts'
import type { GenerationEvent } from './types.ts'

export interface StreamParts {
  /** null = no tokenizer: tokens have no text. */
  readonly decoder: StreamDecoder | null
  readonly matcher: StopMatcher | null
  /** Text of the tokens before this many is not searched for stop strings. */
  readonly minTokens: number
  /** Ends the request in the core; its last output still arrives. */
  readonly abort: () => void
}

type TokensEvent = Extract<GenerationEvent, { kind: 'tokens' }>

export class GenerationStream implements AsyncIterator<GenerationEvent, undefined> {
  readonly #start: (stream: GenerationStream) => StreamParts
  #parts: StreamParts | null = null
  readonly #queue: GenerationEvent[] = []
  #error: Error | null = null
  #ended = false
  #stopString: string | null = null
  #received = 0
  #wake: (() => void) | null = null

  /** `start` runs at the first `next()`; what it throws, that `next()` rejects with. */
  constructor(start: (stream: GenerationStream) => StreamParts) {
    this.#start = start
  }

  async next(): Promise<IteratorResult<GenerationEvent, undefined>> {
    if (this.#parts === null && !this.#ended) {
      try {
        this.#parts = this.#start(this)
      } catch (error) {
        this.#ended = true
        throw error
      }
    }
    for (;;) {
      const event = this.#queue.shift()
      if (event !== undefined) return { done: false, value: event }
      if (this.#error !== null) {
        const error = this.#error
        this.#error = null
        throw error
      }
      if (this.#ended) return { done: true, value: undefined }
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  /** Called when the consumer leaves its loop; does not wait for the step in flight. */
  async return(): Promise<IteratorResult<GenerationEvent, undefined>> {
    const running = this.#parts !== null && !this.#ended
    this.#ended = true
    this.#queue.length = 0
    this.#error = null
    if (running) this.#parts?.abort()
    this.#stir()
    return { done: true, value: undefined }
  }

  /** Takes an event that did not come from the core; for a request that ends before it is added. */
  finish(event: Extract<GenerationEvent, { kind: 'finished' }>): void {
    this.#queue.push(event)
    this.#ended = true
    this.#stir()
  }

  accept(output: RequestOutput): void {
    if (this.#ended || this.#parts === null) return
    // What the request was aborted for by a stop string is over for the caller; only its statistics are still awaited.
    if (this.#stopString === null) this.#acceptContent(output, this.#parts)
    const { end } = output
    if (end?.kind === 'failed') this.#error = end.error
    else if (end?.kind === 'finished') {
      const byString = this.#stopString !== null
      if (!byString) this.#pushTokens([], [], this.#flush(this.#parts))
      this.#queue.push({
        kind: 'finished',
        reason: byString ? 'stop' : end.reason,
        stopString: this.#stopString,
        stopTokenId: byString ? null : end.stopTokenId,
        stats: end.stats,
      })
    }
    if (end !== null) this.#ended = true
    this.#stir()
  }

  #acceptContent(output: RequestOutput, parts: StreamParts): void {
    const { progress, tokens, logprobs, top, end } = output
    if (progress !== null) this.#pushPrefill(progress)
    const ids: number[] = []
    const kept: number[] = []
    let text = ''
    const stopToken = end?.kind === 'finished' ? end.stopTokenId : null
    for (const [i, id] of tokens.entries()) {
      ids.push(id)
      kept.push(logprobs[i] ?? Number.NaN)
      // The token that ended the answer is counted but is no part of its text.
      if (stopToken !== null && i === tokens.length - 1) break
      const piece = parts.decoder?.push([id]) ?? ''
      const searched = this.#received++ >= parts.minTokens ? parts.matcher : null
      const result = searched?.push(piece) ?? { text: piece, stop: null }
      text += result.text
      if (result.stop === null) continue
      this.#stopString = result.stop
      if (end === null) parts.abort()
      break
    }
    this.#pushTokens(ids, kept, text, top?.slice(0, ids.length))
  }

  /** Text withheld until now, which no stop string can claim any more. */
  #flush({ decoder, matcher }: StreamParts): string {
    const tail = decoder?.flush() ?? ''
    if (matcher === null) return tail
    return matcher.push(tail).text + matcher.flush()
  }

  #pushPrefill(progress: { readonly done: number; readonly total: number; readonly cached?: number }): void {
    if (this.#queue.at(-1)?.kind === 'prefill') this.#queue.pop()
    this.#queue.push({ kind: 'prefill', ...progress })
  }

  #pushTokens(ids: readonly number[], logprobs: readonly number[], text: string, top?: TokensEvent['top']): void {
    if (ids.length === 0 && text === '') return
    const last = this.#queue.at(-1)
    const before: TokensEvent = last?.kind === 'tokens' ? last : { kind: 'tokens', ids: [], logprobs: [], text: '' }
    if (before === last) this.#queue.pop()
    this.#queue.push({
      kind: 'tokens',
      ids: [...before.ids, ...ids],
      logprobs: [...before.logprobs, ...logprobs],
      text: before.text + text,
      ...(top === undefined && before.top === undefined ? {} : { top: [...(before.top ?? []), ...(top ?? [])] }),
    })
  }

  #stir(): void {
    this.#wake?.()
    this.#wake = null
  }
}
