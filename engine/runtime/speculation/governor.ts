/**
 * Whether speculation pays, from what steps really took: tokens per millisecond with it and without it, per batch size, since a step that is
 * bound by memory verifies drafts for nothing and one bound by arithmetic does not (specs/runtime.md §6.1). Results do not depend on what is
 * decided here.
 */

/** Steps of one kind before it is compared with the other. */
const TRIAL_STEPS = 6
/** Steps after which the kind not in use is tried again: the text, the batch or the device may have changed. */
const RETRY_STEPS = 96
const SMOOTHING = 0.15

interface Rate {
  tokensPerMs: number | null
  steps: number
}

interface Bucket {
  readonly on: Rate
  readonly off: Rate
  /** Steps left of a trial of the kind that was not preferred when it began, and which that is. */
  trial: number
  trialOn: boolean
  sinceTrial: number
}

export class SpeculationGovernor {
  readonly #buckets = new Map<number, Bucket>()
  #last = true

  /** Whether the last answer to `speculates` was yes. */
  get active(): boolean {
    return this.#last
  }

  /** Whether the next step, with so many sequences decoding, should try drafts. */
  speculates(sequences: number): boolean {
    const bucket = this.#bucket(sequences)
    const preferred = prefersOn(bucket)
    const { on, off } = bucket
    const unknown = on.steps >= TRIAL_STEPS && off.steps < TRIAL_STEPS
    if (bucket.trial === 0 && (unknown || bucket.sinceTrial >= RETRY_STEPS)) {
      bucket.trial = TRIAL_STEPS
      bucket.trialOn = !unknown && !preferred
    }
    this.#last = bucket.trial > 0 ? bucket.trialOn : preferred
    return this.#last
  }

  /** A step of decoding only. `milliseconds` includes making the drafts; `speculated`: whether any were verified. */
  observe(sequences: number, tokens: number, milliseconds: number, speculated: boolean): void {
    const bucket = this.#bucket(sequences)
    const rate = speculated ? bucket.on : bucket.off
    const measured = tokens / Math.max(milliseconds, 1e-3)
    rate.tokensPerMs = rate.tokensPerMs === null ? measured : rate.tokensPerMs + SMOOTHING * (measured - rate.tokensPerMs)
    rate.steps++
    if (bucket.trial > 0) {
      bucket.trial--
      bucket.sinceTrial = 0
    } else bucket.sinceTrial++
  }

  #bucket(sequences: number): Bucket {
    const size = Math.clz32(sequences)
    let bucket = this.#buckets.get(size)
    if (bucket === undefined) {
      bucket = { on: { tokensPerMs: null, steps: 0 }, off: { tokensPerMs: null, steps: 0 }, trial: 0, trialOn: false, sinceTrial: 0 }
      this.#buckets.set(size, bucket)
    }
    return bucket
  }
}

function prefersOn({ on, off }: Bucket): boolean {
  return on.tokensPerMs === null || off.tokensPerMs === null || on.tokensPerMs >= off.tokensPerMs
}
