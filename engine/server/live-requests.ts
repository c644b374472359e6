/**
 * What the server is doing, request by request, for the screen and for /load: state, progress, speed. Kept for those that run and for the last
 * ones that ended. Knows no HTTP.
 */
import type { CacheMiss, GenerationEvent } from '../runtime/types.ts'

export type LiveState = 'queued' | 'prefill' | 'decode' | 'finished' | 'aborted' | 'failed'

export interface LiveRequest {
  readonly id: string
  readonly endpoint: string
  readonly model: string
  readonly state: LiveState
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  readonly endedAt: number | null
  readonly promptTokens: number
  /** Prompt tokens found in the prefix cache; null until known. */
  readonly cachedTokens: number | null
  readonly prefilledTokens: number
  readonly generatedTokens: number
  readonly maxTokens: number
  readonly firstTokenMs: number | null
  /** Of decoding, the first token not counted; null before the second. */
  readonly tokensPerSecond: number | null
  readonly finishReason: string | null
  /** Why no more of the prompt was found in the prefix cache; null until it is known, or where all was found. */
  readonly cacheMiss: CacheMiss | null
}

export interface TrackedRequest {
  event(event: GenerationEvent): void
  failed(failure: unknown): void
}

/** For one exchange: its endpoint and model are known. */
export interface RequestTracker {
  start(request: { readonly id: string; readonly promptTokens: number; readonly maxTokens: number }): TrackedRequest
}

/** Ended requests stay visible until this many newer ones have ended. */
const KEPT = 50

/** Of all requests that have ended. */
export interface LiveTotals {
  readonly requests: number
  readonly failed: number
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly generatedTokens: number
}

export class LiveRequests {
  #totals: LiveTotals = { requests: 0, failed: 0, promptTokens: 0, cachedTokens: 0, generatedTokens: 0 }
  readonly #running = new Map<number, LiveRequest>()
  readonly #ended: LiveRequest[] = []
  readonly #onChange: () => void
  #serial = 0

  constructor(onChange: () => void = () => {}) {
    this.#onChange = onChange
  }

  /** Running ones first, in order of arrival, then ended ones, newest first. */
  list(): readonly LiveRequest[] {
    return [...this.#running.values(), ...this.#ended]
  }

  get totals(): LiveTotals {
    return this.#totals
  }

  tracker(endpoint: string, model: string): RequestTracker {
    return { start: (request) => this.#start(endpoint, model, request) }
  }

  #start(endpoint: string, model: string, request: Parameters<RequestTracker['start']>[0]): TrackedRequest {
    const key = this.#serial++
    const began = performance.now()
    let firstAt: number | null = null
    let live: LiveRequest = {
      ...request,
      endpoint,
      model,
      state: 'queued',
      startedAt: Date.now(),
      endedAt: null,
      cachedTokens: null,
      prefilledTokens: 0,
      generatedTokens: 0,
      firstTokenMs: null,
      tokensPerSecond: null,
      finishReason: null,
      cacheMiss: null,
    }
    const update = (change: Partial<LiveRequest>): void => {
      live = { ...live, ...change }
      this.#running.set(key, live)
      this.#onChange()
    }
    const end = (change: Partial<LiveRequest>): void => {
      if (!this.#running.delete(key)) return
      const ended = { ...live, ...change, endedAt: Date.now() }
      this.#ended.unshift(ended)
      this.#totals = {
        requests: this.#totals.requests + 1,
        failed: this.#totals.failed + (ended.state === 'failed' ? 1 : 0),
        promptTokens: this.#totals.promptTokens + ended.promptTokens,
        cachedTokens: this.#totals.cachedTokens + (ended.cachedTokens ?? 0),
        generatedTokens: this.#totals.generatedTokens + ended.generatedTokens,
      }
      this.#ended.length = Math.min(this.#ended.length, KEPT)
      this.#onChange()
    }
    update({})
    return {
      event: (event) => {
        if (event.kind === 'prefill') update({ state: 'prefill', prefilledTokens: event.done, cachedTokens: event.cached ?? 0 })
        else if (event.kind === 'tokens') {
          const now = performance.now()
          firstAt ??= now
          const generatedTokens = live.generatedTokens + event.ids.length
          const seconds = (now - firstAt) / 1000
          update({
            state: 'decode',
            prefilledTokens: live.promptTokens,
            generatedTokens,
            firstTokenMs: firstAt - began,
            tokensPerSecond: generatedTokens > 1 && seconds > 0 ? (generatedTokens - 1) / seconds : null,
          })
        } else if (event.kind === 'finished') {
          end({
            state: event.reason === 'aborted' ? 'aborted' : 'finished',
            finishReason: event.reason,
            cachedTokens: event.stats.cachedTokens,
            cacheMiss: event.stats.cacheMiss ?? null,
            generatedTokens: event.stats.completionTokens,
            firstTokenMs: event.stats.firstTokenMs,
          })
        }
      },
      failed: (failure) => end({ state: 'failed', finishReason: failure instanceof Error ? failure.message : String(failure) }),
    }
  }
}
