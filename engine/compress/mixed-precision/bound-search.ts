/**
 * The smallest state of a front that stays within a bound when it is measured, in few measurements. Predictions order the states and say
 * roughly how they compare; what counts is measured: losses of layers add up only approximately, and a proxy has another unit altogether. Knows
 * no models.
 */
import type { Front } from './pareto.ts'

/** A state that uses this much of the bound is near enough: what is left is worth less than another measurement. */
const NEAR_ENOUGH = 0.85

export class BoundSearch {
  readonly #front: Front
  readonly #bound: number
  /** Largest state that broke the bound; −1 while none did. */
  #broke = -1
  /** Smallest state that held; the last loses nothing and needs no measurement. */
  #held: number
  #heldMeasured = 0
  #ratio: number

  /** `ratio` is what a measurement is expected to be of its prediction. */
  constructor(front: Front, bound: number, ratio = 1) {
    this.#front = front
    this.#bound = bound
    this.#held = front.states.length - 1
    this.#ratio = ratio
  }

  /** The state to measure next; null where nothing smaller is worth it. */
  next(): number | null {
    const least = this.#broke + 1
    const most = this.#held - 1
    if (most < least || this.#heldMeasured >= NEAR_ENOUGH * this.#bound) return null
    const target = this.#bound / this.#ratio
    const guess = this.#front.states.findIndex(({ loss }) => loss <= target)
    if (guess <= least && this.#broke >= 0) return Math.floor((least + most) / 2)
    return Math.min(most, Math.max(least, guess < 0 ? most : guess))
  }

  report(state: number, measured: number): void {
    const { loss } = this.#front.states[state] ?? { loss: 0 }
    if (loss > 0 && Number.isFinite(measured) && measured > 0) this.#ratio = measured / loss
    if (measured <= this.#bound) {
      if (state > this.#held) return
      this.#held = state
      this.#heldMeasured = measured
    } else this.#broke = Math.max(this.#broke, state)
  }

  /** The smallest state known to hold; the last one where nothing was measured to. */
  get held(): number {
    return this.#held
  }

  /** What the last measurement was of its prediction. */
  get ratio(): number {
    return this.#ratio
  }
}
