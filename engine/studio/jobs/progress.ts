/**
 * How far a job is and how long it will still take (specs/ux.md §3.4): work units per phase, speeds remembered per machine, an exponentially
 * weighted speed of the running phase. A pure calculator with its clock given; it knows neither the queue nor the store.
 */
import type { StoredPhase } from '../store/job-store.ts'

export interface ProgressSnapshot {
  /** 0…1, never falling within one run. */
  readonly progress: number
  readonly etaSeconds: number | null
  readonly rate: { readonly value: number; readonly unit: string } | null
  readonly stalledSeconds: number
  readonly currentItem: string | null
}

export interface ProgressOptions {
  readonly phases: readonly StoredPhase[]
  /** Units per second remembered for a key, or null. */
  readonly rememberedRate: (key: string) => number | null
  /** Milliseconds on a monotonic clock. */
  readonly now: () => number
  /** True when an earlier run did part of it: then a phase's first report is where that run stopped, not speed. */
  readonly resumed: boolean
}

/** The estimate is shown after this much of the work or this long, whichever comes first (specs/ux.md §3.4). */
const SHOW_AFTER_FRACTION = 0.05
const SHOW_AFTER_MS = 10_000
/** A measured speed counts half after this long: long enough to ride out one slow tensor, short enough to notice a busy machine. */
const RATE_HALF_LIFE_MS = 8000
/** Progress arrives in bursts; a speed over less time than this is noise. */
const RATE_SAMPLE_MS = 250
/** An estimate may drift up by this factor without being shown: it holds still instead. Beyond it the truth is shown. */
const HOLD_FACTOR = 1.25
/** Guess for a phase of unknown length with no memory; seconds. */
const UNKNOWN_PHASE_SECONDS = 10
/** A phase that ran shorter than this says little about the machine's speed. */
const MIN_REMEMBERED_MS = 100

interface PhaseClock {
  /** When this run began to work on it, and how much was done then. */
  startedAt: number
  startedDone: number
  sampledAt: number
  sampledDone: number
  /** Units per second, exponentially weighted; null until the first sample. */
  rate: number | null
  /** The next report only says where the phase stands. */
  settling: boolean
}

export class JobProgress {
  #phases: StoredPhase[]
  readonly #rememberedRate: (key: string) => number | null
  readonly #now: () => number
  readonly #resumed: boolean
  readonly #clocks = new Map<string, PhaseClock>()
  readonly #startedAt: number
  #lastUnitAt: number
  #currentItem: string | null = null
  #highestProgress = 0
  #shown: { readonly etaSeconds: number; readonly at: number } | null = null

  constructor(options: ProgressOptions) {
    this.#phases = [...options.phases]
    this.#rememberedRate = options.rememberedRate
    this.#now = options.now
    this.#resumed = options.resumed
    this.#startedAt = options.now()
    this.#lastUnitAt = this.#startedAt
  }

  get phases(): readonly StoredPhase[] {
    return this.#phases
  }

  phase(id: string): StoredPhase {
    const phase = this.#phases.find((candidate) => candidate.id === id)
    if (phase === undefined) throw new Error(`The job has no phase "${id}".`)
    return phase
  }

  /** Marks the phase running; `total` replaces what was planned. */
  start(id: string, total?: number): void {
    const phase = this.#replace(id, { state: 'running', ...(total === undefined ? {} : { total }) })
    const now = this.#now()
    this.#clocks.set(id, {
      startedAt: now,
      startedDone: phase.done,
      sampledAt: now,
      sampledDone: phase.done,
      rate: null,
      settling: this.#resumed,
    })
    this.#lastUnitAt = now
  }

  /** `done` of `total` units; a higher `done` is a finished unit, a lower one a correction. */
  advance(id: string, done: number, total: number, item: string | null): void {
    const before = this.phase(id)
    if (before.state !== 'running') this.start(id, total)
    const bounded = Math.min(done, total)
    if (bounded > before.done) this.#lastUnitAt = this.#now()
    this.#replace(id, { done: bounded, total })
    this.#currentItem = item
    const clock = this.#clocks.get(id)
    if (clock === undefined) return
    if (clock.settling) {
      const now = this.#now()
      Object.assign(clock, { startedAt: now, startedDone: bounded, sampledAt: now, sampledDone: bounded, settling: false })
    } else {
      this.#sample(clock, bounded)
    }
  }

  /** A sign of life between units. */
  working(item: string): void {
    this.#currentItem = item
    this.#lastUnitAt = this.#now()
  }

  /** Marks the phase done and returns its speed if it is worth remembering. */
  finish(id: string): { readonly key: string; readonly unitsPerSecond: number } | null {
    const before = this.phase(id)
    this.#replace(id, { state: 'done', done: before.total })
    this.#lastUnitAt = this.#now()
    this.#currentItem = null
    const clock = this.#clocks.get(id)
    this.#clocks.delete(id)
    if (clock === undefined || before.rateKey === null) return null
    const elapsedMs = this.#now() - clock.startedAt
    const units = before.total - clock.startedDone
    return elapsedMs < MIN_REMEMBERED_MS || units <= 0 ? null : { key: before.rateKey, unitsPerSecond: (units / elapsedMs) * 1000 }
  }

  skip(id: string): void {
    this.#replace(id, { state: 'skipped' })
    this.#clocks.delete(id)
  }

  snapshot(): ProgressSnapshot {
    const groups = Map.groupBy(
      this.#phases.filter((phase) => phase.state !== 'skipped'),
      (phase) => phase.group,
    )
    let expected = 0
    let spent = 0
    let remaining = 0
    for (const members of groups.values()) {
      const seconds = Math.max(...members.map((phase) => this.#expectedSeconds(phase)))
      const left = Math.max(...members.map((phase) => this.#remainingSeconds(phase)))
      const fraction = members.reduce((sum, phase) => sum + fractionOf(phase), 0) / members.length
      expected += seconds
      spent += seconds * fraction
      remaining += left
    }
    this.#highestProgress = Math.max(this.#highestProgress, expected === 0 ? 0 : Math.min(1, spent / expected))
    const running = this.#phases.find((phase) => phase.state === 'running' && this.#clocks.get(phase.id)?.rate !== null)
    const rate = running === undefined ? null : (this.#clocks.get(running.id)?.rate ?? null)
    return {
      progress: this.#highestProgress,
      etaSeconds: this.#eta(remaining),
      rate: running === undefined || rate === null ? null : { value: rate, unit: running.unit },
      stalledSeconds: (this.#now() - this.#lastUnitAt) / 1000,
      currentItem: this.#currentItem,
    }
  }

  #eta(remaining: number): number | null {
    const now = this.#now()
    const enough = this.#highestProgress >= SHOW_AFTER_FRACTION || now - this.#startedAt >= SHOW_AFTER_MS
    if (!enough) return null
    const shown = this.#shown
    if (shown !== null) {
      const counted = Math.max(0, shown.etaSeconds - (now - shown.at) / 1000)
      // hold still rather than count up for noise
      if (remaining > counted && remaining <= shown.etaSeconds * HOLD_FACTOR && remaining > 0) {
        const held = Math.min(shown.etaSeconds, remaining)
        this.#shown = { etaSeconds: held, at: now }
        return held
      }
    }
    this.#shown = { etaSeconds: remaining, at: now }
    return remaining
  }

  #sample(clock: PhaseClock, done: number): void {
    const now = this.#now()
    const elapsedMs = now - clock.sampledAt
    if (elapsedMs < RATE_SAMPLE_MS || done <= clock.sampledDone) return
    const measured = ((done - clock.sampledDone) / elapsedMs) * 1000
    const weight = 1 - 0.5 ** (elapsedMs / RATE_HALF_LIFE_MS)
    clock.rate = clock.rate === null ? measured : clock.rate + (measured - clock.rate) * weight
    clock.sampledAt = now
    clock.sampledDone = done
  }

  #rateOf(phase: StoredPhase): number {
    const measured = this.#clocks.get(phase.id)?.rate ?? null
    if (measured !== null) return measured
    const remembered = phase.rateKey === null ? null : this.#rememberedRate(phase.rateKey)
    return remembered ?? phase.priorRate
  }

  #expectedSeconds(phase: StoredPhase): number {
    return phase.total === 0 ? UNKNOWN_PHASE_SECONDS : phase.total / this.#rateOf(phase)
  }

  #remainingSeconds(phase: StoredPhase): number {
    if (phase.state === 'done' || phase.state === 'skipped') return 0
    const expected = this.#expectedSeconds(phase)
    const left = phase.total === 0 ? expected : (phase.total - phase.done) / this.#rateOf(phase)
    if (phase.state !== 'running') return left
    // between two units the clock still runs: a unit that should be nearly finished is counted as nearly finished, but never as more than that
    const sinceUnitSeconds = (this.#now() - this.#lastUnitAt) / 1000
    return Math.max(left - sinceUnitSeconds, left * 0.1)
  }

  #replace(id: string, change: Partial<StoredPhase>): StoredPhase {
    const index = this.#phases.findIndex((phase) => phase.id === id)
    const current = this.#phases[index]
    if (current === undefined) throw new Error(`The job has no phase "${id}".`)
    const next = { ...current, ...change }
    this.#phases[index] = next
    return next
  }
}

function fractionOf(phase: StoredPhase): number {
  if (phase.state === 'done') return 1
  return phase.total === 0 ? 0 : phase.done / phase.total
}
