/**
 * Ends the wait for a step that hangs. Some drivers neither finish a submission nor report the device lost (specs/runtime.md §18); without a
 * bound every request would wait for ever. The bound follows measured steps: far above anything a busy machine does to a step that works.
 */
import { LatheError } from '../contract/errors.ts'

/** A first step may compile kernels and page in weights. */
const UNMEASURED_LIMIT_MS = 180_000
/** However short steps usually are: a laptop's GPU may be asleep, a rasteriser's core may be taken. */
const LEAST_LIMIT_MS = 30_000
/** Beyond the slowest step of this size so far. */
const SLOWER = 20

export interface WatchdogLimits {
  readonly unmeasuredMs: number
  readonly leastMs: number
  readonly slower: number
}

export class StepWatchdog {
  readonly #limits: WatchdogLimits
  #msPerToken: number | null = null
  #slowestMs = 0

  constructor(limits: Partial<WatchdogLimits> = {}) {
    this.#limits = { unmeasuredMs: UNMEASURED_LIMIT_MS, leastMs: LEAST_LIMIT_MS, slower: SLOWER, ...limits }
  }

  /** How long a step of so many tokens may take. */
  limitMs(tokens: number): number {
    const { unmeasuredMs, leastMs, slower } = this.#limits
    if (this.#msPerToken === null) return unmeasuredMs
    return Math.max(leastMs, slower * Math.max(this.#slowestMs, tokens * this.#msPerToken))
  }

  observe(tokens: number, milliseconds: number): void {
    this.#msPerToken = Math.max(this.#msPerToken ?? 0, milliseconds / tokens)
    this.#slowestMs = Math.max(this.#slowestMs, milliseconds)
  }

  /** The step's result; rejects with `gpu.device-lost` when it exceeds its limit. The step itself cannot be stopped. */
  async watch<T>(tokens: number, step: Promise<T>): Promise<T> {
    const limitMs = this.limitMs(tokens)
    const expired = Promise.withResolvers<never>()
    const timer = setTimeout(() => expired.reject(hung(tokens, limitMs, this.#slowestMs)), limitMs)
    try {
      return await Promise.race([step, expired.promise])
    } finally {
      clearTimeout(timer)
    }
  }
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`
}

function hung(tokens: number, limitMs: number, slowestMs: number): LatheError {
  return new LatheError(
    'gpu.device-lost',
    `A step of ${tokens} tokens has not ended after ${seconds(limitMs)} (the slowest before it took ${seconds(slowestMs)}): the device hangs.`,
    'Lathe opens the device again with the next request. If it happens again, lower the context or update the graphics driver.',
    { data: { hung: true, tokens, limitMs } },
  )
}

/** Whether this is the watchdog's own verdict, of which the driver knows nothing yet. */
export function isHang(error: unknown): boolean {
  return error instanceof LatheError && error.code === 'gpu.device-lost' && error.data !== undefined && 'hung' in error.data
}
