/**
 * Into how many submits a step is cut, so that none keeps the device busy for long: Windows resets a driver after about two seconds of one
 * submission, and everybody's windows stand still meanwhile (specs/runtime.md §3.4). The token budget bounds most steps; where even its least
 * chunk takes longer (a large model or a long context on a slow device), the step goes out in pieces. Results have the same bits.
 */

/** Dispatches of a submit while nothing was measured: a few layers. */
const UNMEASURED_DISPATCHES = 64

export class SubmitClock {
  readonly #limitMs: number
  readonly #dispatches: number
  /** By power of two of tokens: what its last step took. */
  readonly #lastMs = new Map<number, number>()

  /** `dispatches`: of a whole step. */
  constructor(limitMs: number, dispatches: number) {
    this.#limitMs = limitMs
    this.#dispatches = dispatches
  }

  /** Submits for a step of so many tokens, 1 … dispatches. */
  submits(tokens: number): number {
    const expectedMs = this.#expectedMs(tokens)
    const wanted = expectedMs === null ? this.#dispatches / UNMEASURED_DISPATCHES : expectedMs / this.#limitMs
    return Math.max(1, Math.min(this.#dispatches, Math.ceil(wanted)))
  }

  observe(tokens: number, milliseconds: number): void {
    this.#lastMs.set(Math.clz32(tokens), milliseconds)
  }

  /** As the last of its size; else as long per token as the nearest smaller, which is too much rather than too little. */
  #expectedMs(tokens: number): number | null {
    const size = Math.clz32(tokens)
    for (let smaller = size; smaller <= 32; smaller++) {
      const ms = this.#lastMs.get(smaller)
      if (ms !== undefined) return ms * 2 ** (smaller - size)
    }
    return null
  }
}
