/**
 * Stop strings on streamed text (specs/runtime.md §8). Text is withheld only as long as it may still become a stop string: the longest
 * suffix that is a proper prefix of one. Of several matches the one that finishes first wins, then the one that started first. Only text
 * given to `push` can match, so a prompt's tail never does. Knows no tokens; push one token's text at a time so that counts are cut there.
 */
import { LatheError } from '../contract/errors.ts'

export interface StopResult {
  /** Text that may be shown; ends before the stop string when one matched. */
  readonly text: string
  /** The stop string that matched, or null. After a match the matcher is finished. */
  readonly stop: string | null
}

export interface StopMatcher {
  push(text: string): StopResult
  /** Withheld text, when the stream ended for another reason. */
  flush(): string
}

/** Throws `runtime.invalid-request` for an empty stop string or half a surrogate pair (which would cut a character in two). */
export function createStopMatcher(stops: readonly string[]): StopMatcher {
  for (const stop of stops) {
    if (stop !== '' && stop.isWellFormed()) continue
    const hint = 'Give at least one whole character, or leave the stop string out.'
    throw new LatheError('runtime.invalid-request', `${JSON.stringify(stop)} is not a usable stop string.`, hint)
  }
  let pending = ''
  let finished = false
  return {
    push(text) {
      if (finished) throw new Error('the stop matcher has already matched')
      const window = pending + text
      let start = -1
      let end = Infinity
      let stop: string | null = null
      for (const candidate of stops) {
        const at = window.indexOf(candidate)
        if (at < 0) continue
        const candidateEnd = at + candidate.length
        if (candidateEnd < end || (candidateEnd === end && at < start)) {
          start = at
          end = candidateEnd
          stop = candidate
        }
      }
      if (stop !== null) {
        finished = true
        pending = ''
        return { text: window.slice(0, start), stop }
      }
      const keep = window.length - heldLength(window, stops)
      pending = window.slice(keep)
      return { text: window.slice(0, keep), stop: null }
    },
    flush() {
      const text = pending
      pending = ''
      return text
    },
  }
}

/** Length of the longest suffix of `text` that begins a stop string without completing it. */
function heldLength(text: string, stops: readonly string[]): number {
  let held = 0
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > held; length--) {
      if (stop.startsWith(text.slice(text.length - length))) held = length
    }
  }
  return held
}
