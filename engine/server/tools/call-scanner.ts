/**
 * Reads one tool call as it is generated: a JSON object with `name` and `arguments` (or `parameters`), or after a name the arguments alone. Passes
 * the arguments on character by character as soon as the name is known, so that clients see them grow. Knows no markup around the call.
 */

export type CallEvent =
  | { readonly kind: 'name'; readonly name: string }
  /** Raw JSON text of the arguments, in pieces. */
  | { readonly kind: 'arguments'; readonly text: string }

export type ScanState = 'open' | 'done' | 'failed'

const SPACE = /\s/
const ARGUMENT_KEYS = new Set(['arguments', 'parameters'])
/** Keys besides that models put into a call. */
const OTHER_KEYS = new Set(['type', 'id'])

export class CallScanner {
  #phase: 'start' | 'key' | 'colon' | 'value' | 'next' | 'done' | 'failed'
  #key = ''
  #raw = ''
  #depth = 0
  #inString = false
  #escaped = false
  #name: string | null
  #sentName = false
  /** Arguments that came before the name. */
  #early = ''
  #hasArguments = false
  #text = ''
  readonly #single: boolean

  /** With a name given, what follows is the arguments object alone. */
  constructor(name: string | null = null) {
    this.#name = name
    this.#single = name !== null
    this.#phase = name === null ? 'start' : 'value'
    if (name !== null) this.#key = 'arguments'
  }

  get state(): ScanState {
    return this.#phase === 'done' ? 'done' : this.#phase === 'failed' ? 'failed' : 'open'
  }

  /** Everything it was given, for the case that it was no call after all. */
  get text(): string {
    return this.#text
  }

  get named(): boolean {
    return this.#sentName
  }

  /** Takes characters until the call ends; `taken` of them were part of it. */
  push(text: string): { readonly taken: number; readonly events: readonly CallEvent[] } {
    const events: CallEvent[] = []
    let sent = ''
    let taken = 0
    for (const character of text) {
      if (this.state !== 'open') break
      taken += character.length
      this.#text += character
      sent += this.#step(character, events)
    }
    if (sent !== '') events.push({ kind: 'arguments', text: sent })
    return { taken, events }
  }

  /** Returns the argument text that may be passed on. */
  #step(character: string, events: CallEvent[]): string {
    switch (this.#phase) {
      case 'start':
        if (character === '{') this.#phase = 'key'
        else if (!SPACE.test(character)) this.#phase = 'failed'
        return ''
      case 'key':
        return this.#keyStep(character, events)
      case 'colon':
        if (character === ':') {
          this.#phase = 'value'
          this.#raw = ''
        } else if (!SPACE.test(character)) this.#phase = 'failed'
        return ''
      case 'next':
        if (character === ',') this.#phase = 'key'
        else if (character === '}') return this.#close(events)
        else if (!SPACE.test(character)) this.#phase = 'failed'
        return ''
      default:
        return this.#valueStep(character, events)
    }
  }

  #keyStep(character: string, events: CallEvent[]): string {
    if (this.#raw === '' && !this.#inString) {
      if (character === '"') {
        this.#inString = true
        this.#raw = '"'
      } else if (character === '}') return this.#close(events)
      else if (!SPACE.test(character)) this.#phase = 'failed'
      return ''
    }
    this.#raw += character
    if (!this.#endsString(character)) return ''
    const key = parsed(this.#raw)
    this.#raw = ''
    if (typeof key !== 'string' || !(key === 'name' || ARGUMENT_KEYS.has(key) || OTHER_KEYS.has(key))) {
      this.#phase = 'failed'
      return ''
    }
    this.#key = key
    this.#phase = 'colon'
    return ''
  }

  /** Within a string: whether this character ends it. */
  #endsString(character: string): boolean {
    if (this.#escaped) this.#escaped = false
    else if (character === '\\') this.#escaped = true
    else if (character === '"') {
      this.#inString = false
      return true
    }
    return false
  }

  #valueStep(character: string, events: CallEvent[]): string {
    const first = this.#raw === ''
    if (first && SPACE.test(character)) return ''
    if (this.#single && first && character !== '{') {
      this.#phase = 'failed'
      return ''
    }
    if (!this.#inString && this.#depth === 0 && !first && (character === ',' || character === '}')) {
      // A bare number or word ends where the next thing begins.
      const passed = this.#endValue(events)
      if (this.#phase !== 'failed') this.#phase = 'key'
      return passed + (character === '}' && this.#phase === 'key' ? this.#close(events) : '')
    }
    this.#raw += character
    let ended = false
    if (this.#inString) ended = this.#endsString(character) && this.#depth === 0
    else if (character === '"') this.#inString = true
    else if (character === '{' || character === '[') this.#depth++
    else if (character === '}' || character === ']') ended = --this.#depth === 0
    const passes = ARGUMENT_KEYS.has(this.#key) && this.#raw[0] === '{'
    const passed = passes ? this.#pass(character, events) : ''
    if (!ended) return passed
    const rest = this.#endValue(events)
    if (this.#phase === 'value') this.#phase = this.#single ? 'done' : 'next'
    return passed + rest
  }

  #endValue(events: CallEvent[]): string {
    const raw = this.#raw
    this.#raw = ''
    const value = parsed(raw)
    if (value === undefined) {
      this.#phase = 'failed'
      return ''
    }
    if (this.#key === 'name') {
      if (typeof value !== 'string' || value === '') this.#phase = 'failed'
      else this.#name = value
    } else if (ARGUMENT_KEYS.has(this.#key) && raw[0] !== '{') {
      // Some models write the arguments as the text of an object.
      return this.#pass(typeof value === 'string' ? value : raw, events)
    }
    return ''
  }

  #pass(text: string, events: CallEvent[]): string {
    this.#hasArguments = true
    if (this.#name === null) {
      this.#early += text
      return ''
    }
    return this.#announce(events) + text
  }

  /** Sends the name, once; returns what had to wait for it. */
  #announce(events: CallEvent[]): string {
    if (this.#sentName || this.#name === null) return ''
    this.#sentName = true
    events.push({ kind: 'name', name: this.#name })
    const early = this.#early
    this.#early = ''
    return early
  }

  #close(events: CallEvent[]): string {
    if (this.#name === null) {
      this.#phase = 'failed'
      return ''
    }
    this.#phase = 'done'
    return this.#announce(events) + (this.#hasArguments ? '' : '{}')
  }
}

function parsed(raw: string): unknown {
  try {
    return JSON.parse(raw) as unknown
  } catch {
    return undefined
  }
}
