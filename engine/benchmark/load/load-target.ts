/** What a load generator sends to, and what it notes: nothing but times and counts. Times are milliseconds on the run's own clock. */

export interface LoadPrompt {
  /** Token ids where the target takes them, so that lengths are exact. */
  readonly tokens: readonly number[] | null
  readonly text: string
  /** What was asked for; the server's own count is the truth where it gives one. */
  readonly promptTokens: number
  readonly outputTokens: number
}

export interface LoadEnd {
  readonly inputTokens: number
  readonly outputTokens: number
  readonly cachedTokens: number
  readonly finish: string
}

export interface LoadTarget {
  readonly kind: 'server' | 'in-process'
  readonly model: string
  readonly url: string | null
  /** Requests of so many tokens that it can work on at once; absent where nobody says. */
  readonly places?: (tokens: number) => number
  /** Calls `onChunk` when tokens arrive, with how many where that is known. Rejects when the request fails. */
  send(prompt: LoadPrompt, id: number, onChunk: (tokens?: number) => void, signal: AbortSignal): Promise<LoadEnd>
}

/** Whether client and model work on one machine: the client's work is then in the model's figures. */
export function sharesMachine({ kind, url }: Pick<LoadTarget, 'kind' | 'url'>): boolean {
  return kind === 'in-process' || /\/\/(?:127\.|localhost|\[::1\])/.test(url ?? '')
}

/** One request from schedule to end. The raw material of every figure. */
export interface RequestRecord {
  readonly index: number
  readonly isWarmup: boolean
  readonly scheduledMs: number
  readonly sentMs: number
  /** Arrival of each chunk of tokens; null times never occur. */
  readonly chunksMs: readonly number[]
  /** Tokens in each chunk; absent where the target does not say, as no server does. */
  readonly chunkTokens?: readonly number[] | undefined
  readonly endMs: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly cachedTokens: number
  readonly finish: string | null
  readonly status: 'completed' | 'failed' | 'incomplete'
  readonly error: string | null
}

export interface LoadClock {
  now(): number
  /** Resolves at or after that time; rejects when aborted. */
  until(timeMs: number, signal: AbortSignal): Promise<void>
}

export const SYSTEM_CLOCK: LoadClock = {
  now: () => performance.now(),
  until: (timeMs, signal) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    if (signal.aborted) {
      reject(signal.reason)
      return promise
    }
    const onAbort = (): void => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(
      () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      },
      Math.max(0, timeMs - performance.now()),
    )
    signal.addEventListener('abort', onAbort, { once: true })
    return promise
  },
}
