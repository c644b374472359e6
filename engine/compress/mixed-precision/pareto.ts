/**
 * Choosing one option for each of many units so that bytes and loss are in the best balance: a multiple-choice knapsack, solved for every
 * budget at once by merging units into a front of (bytes, loss) states none of which is beaten in both. The front answers any target: least
 * loss within so many bytes, or fewest bytes within so much loss. Knows no schemes and no models.
 *
 * Exact as long as the front fits `MAX_STATES`, which the sums of a real model do because its layers repeat a few sizes. Beyond that, states
 * that lie close together in bytes are thinned to the one with the least loss, and the result says that it is not exact.
 */

export interface Option {
  readonly bytes: number
  /** ≥ 0, finite; losses of different units add up. */
  readonly loss: number
}

/** What a front state chose: option index of each unit. */
export interface Allocation {
  readonly choices: readonly number[]
  readonly bytes: number
  readonly loss: number
}

export interface Front {
  /** Bytes ascending, losses descending. */
  readonly states: readonly Option[]
  readonly exact: boolean
  allocation(state: number): Allocation
}

/** 128 units of a 70-layer model then need 20 MB of back references. */
const MAX_STATES = 1 << 14

interface Merge {
  /** State before the unit was added, and the option it took. */
  readonly previous: Int32Array
  readonly option: Int32Array
}

/** Throws RangeError for a unit without options, and for bytes or losses that are negative or not finite. */
export function paretoFront(units: readonly (readonly Option[])[], maxStates: number = MAX_STATES): Front {
  const merges: Merge[] = []
  let states: readonly Option[] = [{ bytes: 0, loss: 0 }]
  let exact = true
  units.forEach((options, unit) => {
    if (options.length === 0) throw new RangeError(`Unit ${unit} has no options`)
    const candidates: { bytes: number; loss: number; previous: number; option: number }[] = []
    options.forEach((option, index) => {
      if (!(option.bytes >= 0 && option.loss >= 0 && option.bytes + option.loss < Infinity)) {
        throw new RangeError(`Option ${index} of unit ${unit} has ${option.bytes} bytes and a loss of ${option.loss}`)
      }
      states.forEach((state, previous) => {
        candidates.push({ bytes: state.bytes + option.bytes, loss: state.loss + option.loss, previous, option: index })
      })
    })
    // Ties go to the earlier option and state, so that the choice is the same everywhere.
    candidates.sort((a, b) => a.bytes - b.bytes || a.loss - b.loss || a.option - b.option || a.previous - b.previous)
    let kept = candidates.filter(beatsAllBefore())
    if (kept.length > maxStates) {
      exact = false
      kept = thinned(kept, maxStates)
    }
    merges.push({ previous: Int32Array.from(kept, (state) => state.previous), option: Int32Array.from(kept, (state) => state.option) })
    states = kept.map(({ bytes, loss }) => ({ bytes, loss }))
  })
  return {
    states,
    exact,
    allocation(state) {
      const end = states[state]
      if (end === undefined) throw new RangeError(`The front has ${states.length} states, not ${state + 1}`)
      const choices: number[] = []
      let at = state
      for (const { previous, option } of merges.toReversed()) {
        choices.unshift(option[at] as number)
        at = previous[at] as number
      }
      return { choices, ...end }
    },
  }
}

function beatsAllBefore(): (state: Option) => boolean {
  let least = Infinity
  return (state) => {
    if (state.loss >= least) return false
    least = state.loss
    return true
  }
}

/** The state of least loss in each of `count` equal ranges of bytes; losses descend, so that is the last. The first state always stays. */
function thinned<State extends Option>(states: readonly State[], count: number): State[] {
  const [first] = states
  const last = states.at(-1)
  if (first === undefined || last === undefined) return []
  const width = (last.bytes - first.bytes) / (count - 1)
  return states.filter((state, i) => {
    const next = states[i + 1]
    return i === 0 || next === undefined || Math.floor((next.bytes - first.bytes) / width) > Math.floor((state.bytes - first.bytes) / width)
  })
}

/** Least loss within `bytes`; null where even the smallest choice is larger. */
export function withinBytes(front: Front, bytes: number): Allocation | null {
  const state = front.states.findLastIndex((each) => each.bytes <= bytes)
  return state < 0 ? null : front.allocation(state)
}

/** Fewest bytes within `loss`; null where even the best choice loses more. */
export function withinLoss(front: Front, loss: number): Allocation | null {
  const state = front.states.findIndex((each) => each.loss <= loss)
  return state < 0 ? null : front.allocation(state)
}
