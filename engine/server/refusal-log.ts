/**
 * Tells a server's log which requests were refused and why: whoever sets up a client looks there first. A client that repeats a mistake thousands
 * of times, or sends nonsense on purpose, must not fill it.
 */

/** Refusals that are told one by one within a window; the rest is counted. */
const MOST_IN_WINDOW = 10
const WINDOW_MS = 10_000
/** A message may quote the request. */
const MOST_CHARACTERS = 300

export class RefusalLog {
  readonly #log: (text: string) => void
  readonly #now: () => number
  #windowStart = -Infinity
  readonly #told = new Set<string>()
  #left = 0

  constructor(log: (text: string) => void, now: () => number = () => performance.now()) {
    this.#log = log
    this.#now = now
  }

  note(text: string): void {
    const now = this.#now()
    if (now - this.#windowStart >= WINDOW_MS) {
      if (this.#left > 0) this.#log(`${this.#left} more requests were refused.`)
      this.#left = 0
      this.#told.clear()
      this.#windowStart = now
    }
    // One line each, whatever a client put into it.
    const line = text.replaceAll(/\p{Cc}+/gu, ' ').slice(0, MOST_CHARACTERS)
    if (this.#told.has(line) || this.#told.size >= MOST_IN_WINDOW) {
      this.#left++
      return
    }
    this.#told.add(line)
    this.#log(line)
  }
}
