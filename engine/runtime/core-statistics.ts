/** What the loop counts and measures of itself from load on, and what it tells those who must wait. Knows no requests and no device. */
import type { RuntimeTelemetry } from './types.ts'

/** However long the queue: a client that waits longer has given up. */
const MOST_RETRY_SECONDS = 120
/** Before any request has ended. */
const UNKNOWN_SERVICE_MS = 1000
/** Weight of the newest step in the smoothed host time, and of the newest request in the smoothed service time. */
const SMOOTHING = 0.1

type Counted = Pick<RuntimeTelemetry, 'lastStepMs' | 'steps' | 'promptTokens' | 'cachedPromptTokens' | 'generatedTokens' | 'hostMsPerStep'>

export class CoreStatistics {
  steps = 0
  promptTokens = 0
  cachedPromptTokens = 0
  generatedTokens = 0
  lastStepMs: number | null = null
  #hostMsPerStep: number | null = null
  /** Smoothed time that a generation holds its place. */
  #serviceMs: number | null = null

  /** A step's time on the host, outside of the device. */
  observeHost(milliseconds: number): void {
    this.#hostMsPerStep = smoothed(this.#hostMsPerStep, milliseconds)
  }

  /** A generation has held its place for so long. */
  observeService(milliseconds: number): void {
    this.#serviceMs = smoothed(this.#serviceMs, milliseconds)
  }

  /** Seconds until about one of so many who wait will have got one of the places. */
  retryAfterSeconds(waiting: number, places: number): number {
    const waitMs = ((this.#serviceMs ?? UNKNOWN_SERVICE_MS) * Math.max(1, waiting)) / places
    return Math.min(MOST_RETRY_SECONDS, Math.max(1, Math.ceil(waitMs / 1000)))
  }

  counted(): Counted {
    const { lastStepMs, steps, promptTokens, cachedPromptTokens, generatedTokens } = this
    return { lastStepMs, steps, promptTokens, cachedPromptTokens, generatedTokens, hostMsPerStep: this.#hostMsPerStep }
  }
}

function smoothed(known: number | null, measured: number): number {
  return known === null ? measured : known + SMOOTHING * (measured - known)
}
