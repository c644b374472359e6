/**
 * Readings of one counter over time, and the energy between two times. Counters give energy and are subtracted; sensors give power and are
 * integrated by trapezoids. Knows no device: it takes numbers and refuses those that no device could have given.
 */

/** Energy between two times, or why there is none. */
export type EnergyWindow =
  | { readonly kind: 'measured'; readonly joules: number; readonly seconds: number; readonly samples: number }
  | { readonly kind: 'not-measured'; readonly reason: string }

/** Sensors are read every tenth of a second: shorter runs are mostly edges. */
const LEAST_MS = 1000
const LEAST_SAMPLES = 5
/** A sensor that said nothing for so long may have missed anything. Counters miss nothing. */
const LONGEST_GAP_MS = 1000
/** Ten times the largest board; more is a counter that was reset, or a unit misread. */
const MOST_WATTS = 20_000

export function notMeasured(reason: string): Extract<EnergyWindow, { kind: 'not-measured' }> {
  return { kind: 'not-measured', reason }
}

/** Running total of a counter that starts again from 0 after `range`; null = it never does. */
export function createUnwrap(range: number | null): (value: number) => number | null {
  let last: number | null = null
  let turns = 0
  /** null where the value fell and nothing says that it may. */
  return (value) => {
    if (last !== null && value < last) {
      if (range === null || last > range) return null
      turns++
    }
    last = value
    return value + turns * (range ?? 0)
  }
}

export class EnergyTrace {
  readonly #method: 'counter' | 'power'
  readonly #atMs: number[] = []
  /** Joules since the first reading. */
  readonly #joules: number[] = []
  /** Of the counter's first reading. */
  #start = 0
  #lastWatts = 0
  #trouble: string | null = null

  constructor(method: 'counter' | 'power') {
    this.#method = method
  }

  /** Time of the newest reading; −Infinity before the first. */
  get lastMs(): number {
    return this.#atMs.at(-1) ?? -Infinity
  }

  get trouble(): string | null {
    return this.#trouble
  }

  /** From now on there is no energy; the first reason stays. */
  fail(reason: string): void {
    this.#trouble ??= reason
  }

  /** `value` in joules of a counter that never wraps, or in watts. A reading that is not later than the last is left out. */
  add(atMs: number, value: number): void {
    if (!Number.isFinite(value) || value < 0) return this.fail(`A reading was ${value}.`)
    const before = this.#atMs.at(-1)
    if (before !== undefined && atMs <= before) return
    const seconds = before === undefined ? 0 : (atMs - before) / 1000
    if (before === undefined) this.#start = value
    const more = this.#method === 'counter' ? value - this.#start - (this.#joules.at(-1) ?? 0) : ((value + this.#lastWatts) / 2) * seconds
    const watts = this.#method === 'power' ? value : seconds > 0 ? more / seconds : 0
    if (watts > MOST_WATTS || watts < 0) return this.fail(`The counter jumped: ${Math.round(watts)} W between two readings.`)
    this.#atMs.push(atMs)
    this.#joules.push(before === undefined ? 0 : (this.#joules.at(-1) ?? 0) + more)
    this.#lastWatts = value
  }

  between(fromMs: number, toMs: number): EnergyWindow {
    if (this.#trouble !== null) return notMeasured(this.#trouble)
    const length = toMs - fromMs
    if (!(length >= LEAST_MS)) {
      return notMeasured(`The run took ${(length / 1000).toFixed(2)} s; power is read too seldom for less than ${LEAST_MS / 1000} s.`)
    }
    const first = this.#atMs.findLastIndex((at) => at <= fromMs)
    const last = this.#atMs.findIndex((at) => at >= toMs)
    if (first === -1) return notMeasured('The readings began after the run.')
    if (last === -1) return notMeasured(`The readings ended ${((toMs - this.lastMs) / 1000).toFixed(1)} s before the run did.`)
    const samples = this.#atMs.filter((at) => at >= fromMs && at <= toMs).length
    const covering = this.#atMs.slice(first, last + 1)
    const gap = covering.reduce((most, at, i) => Math.max(most, at - (covering[i - 1] ?? at)), 0)
    if (this.#method === 'power' && (samples < LEAST_SAMPLES || gap > LONGEST_GAP_MS)) {
      return notMeasured(
        `Only ${samples} readings of the power in ${(length / 1000).toFixed(1)} s, up to ${(gap / 1000).toFixed(1)} s apart.`,
      )
    }
    return { kind: 'measured', joules: this.#at(toMs) - this.#at(fromMs), seconds: length / 1000, samples }
  }

  /** Joules at a time between two readings, as if the power between them had been even. */
  #at(timeMs: number): number {
    const after = this.#atMs.findIndex((at) => at >= timeMs)
    const [t1, e1] = [this.#atMs[after] ?? 0, this.#joules[after] ?? 0]
    const [t0, e0] = [this.#atMs[after - 1] ?? t1, this.#joules[after - 1] ?? e1]
    return t1 === t0 ? e1 : e0 + ((e1 - e0) * (timeMs - t0)) / (t1 - t0)
  }
}
