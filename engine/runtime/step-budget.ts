/**
 * How many tokens a step may process, so that it ends within a time a person does not notice and no driver watchdog does either
 * (specs/runtime.md §3.4). The only estimate is milliseconds per token of the last steps: chunks of a long prompt get slower as attention
 * grows, and a slower device is simply one with a larger figure.
 *
 * Results do not depend on the budget (engine/gpu keeps each token's arithmetic independent of the batch), only response times do.
 */

export interface StepBudget {
  /** Tokens for the next step. `decoding`: somebody is waiting for the next word of an answer. */
  tokens(decoding: boolean): number
  observe(tokens: number, milliseconds: number): void
}

/** While an answer streams, the gap between two of its words. */
const DECODING_STEP_MS = 150
/** While nothing streams: still prompt to cancel, and far from the 2 s after which Windows resets a driver. */
const PREFILL_STEP_MS = 400
/** Steps shorter than this say more about the cost of a step than of a token. Also the least budget: one row of GEMM tiles. */
const LEAST_CHUNK = 16
/** A first step of this size is the least that `observe` takes note of. */
export const CALIBRATION_TOKENS = LEAST_CHUNK
/** A first guess is small so that a slow device is not asked for a minute's work at once; it grows by at most this factor per step. */
const GROWTH = 4
/** Share of the newest measurement when steps get faster. When they get slower it counts in full. */
const SMOOTHING = 0.3

export class TimedStepBudget implements StepBudget {
  readonly #least: number
  readonly #most: number
  readonly #decodingElsewhere: () => boolean
  #millisecondsPerToken: number | null = null
  #largestSeen: number

  /** `sequences`: every running request must get its token, however slow the device. `decodingElsewhere`: beside this runtime, on its device. */
  constructor(capacityTokens: number, sequences: number, decodingElsewhere: () => boolean = () => false) {
    this.#decodingElsewhere = decodingElsewhere
    this.#most = capacityTokens
    this.#least = Math.min(Math.max(LEAST_CHUNK, sequences), capacityTokens)
    this.#largestSeen = this.#least / GROWTH
  }

  tokens(decoding: boolean): number {
    const target = decoding || this.#decodingElsewhere() ? DECODING_STEP_MS : PREFILL_STEP_MS
    const affordable = this.#millisecondsPerToken === null ? this.#least : Math.floor(target / this.#millisecondsPerToken)
    return Math.min(Math.max(affordable, this.#least), this.#most, Math.max(this.#least, this.#largestSeen * GROWTH))
  }

  observe(tokens: number, milliseconds: number): void {
    if (tokens < LEAST_CHUNK) return
    this.#largestSeen = Math.max(this.#largestSeen, tokens)
    const measured = Math.max(milliseconds, 1e-3) / tokens
    const known = this.#millisecondsPerToken
    this.#millisecondsPerToken = known === null || measured > known ? measured : known + SMOOTHING * (measured - known)
  }
}

/** The same budget for every step; for tests and benchmarks. */
export class FixedStepBudget implements StepBudget {
  readonly #tokens: number

  constructor(tokens: number) {
    this.#tokens = tokens
  }

  tokens(): number {
    return this.#tokens
  }

  observe(): void {
    // A fixed budget learns nothing.
  }
}
