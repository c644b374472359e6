/**
 * Reads the fields of a structural tag, which come from a client unchecked, and says which one is wrong by its path. Knows types, not meanings.
 */
import { LatheError } from '../../contract/errors.ts'

/** More is no description that a person wrote. */
const MAX_LISTED = 256
/** Each character of a text that is looked for makes a rule of the grammar. */
const MAX_CHARACTERS = 65_536

export class Fields {
  readonly #values: Readonly<Record<string, unknown>>
  readonly #path: string

  /** Throws for anything but an object. */
  constructor(value: unknown, path: string) {
    this.#path = path
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.refused(
        '',
        `${shown(path)} is ${kindOf(value)}, not an object.`,
        'Send an object as described in XGrammar’s "Structural Tag Usage".',
      )
    this.#values = value as Readonly<Record<string, unknown>>
  }

  /** null is absent, as everywhere in requests. */
  has(name: string): boolean {
    return this.#get(name) !== undefined
  }

  /** What is not understood would change the answer if it were ignored. */
  only(names: readonly string[]): void {
    const other = Object.keys(this.#values).find((name) => this.has(name) && !names.includes(name))
    if (other !== undefined) throw this.refused(other, `"${other}" can't be enforced here.`, `Understood are ${names.join(', ')}.`)
  }

  object(name: string): Fields {
    return new Fields(this.#needed(name, 'an object'), this.#inside(name))
  }

  /** At least one. */
  objects(name: string): readonly Fields[] {
    return this.#list(name, 1).map((value, index) => new Fields(value, this.#inside(`${name}.${index}`)))
  }

  /** A list of pairs of a text that is not empty and an object. */
  pairs(name: string): readonly { readonly text: string; readonly fields: Fields }[] {
    return this.#list(name, 1).map((value, index) => {
      const place = `${name}.${index}`
      const pair: readonly unknown[] = Array.isArray(value) ? value : []
      if (pair.length !== 2) throw this.refused(place, `${shown(place)} is no pair.`, 'Write ["text", {format}].')
      return { text: this.#filled(`${place}.0`, pair[0]), fields: new Fields(pair[1], this.#inside(`${place}.1`)) }
    })
  }

  text(name: string): string {
    return this.#text(name, this.#needed(name, 'text'))
  }

  filledText(name: string): string {
    return this.#filled(name, this.#needed(name, 'text'))
  }

  /** Texts that are not empty; absent = none, where `least` is 0. */
  texts(name: string, least: number): readonly string[] {
    if (least === 0 && !this.has(name)) return []
    return this.#list(name, least).map((value, index) => this.#filled(`${name}.${index}`, value))
  }

  /** One text or several, which may be empty. */
  oneOrMoreTexts(name: string): readonly string[] {
    if (!Array.isArray(this.#get(name))) return [this.text(name)]
    return this.#list(name, 1).map((value, index) => this.#text(`${name}.${index}`, value))
  }

  flag(name: string, absent = false): boolean {
    const value = this.#get(name) ?? absent
    if (typeof value !== 'boolean') throw this.refused(name, `"${name}" is ${kindOf(value)}, not true or false.`, 'Send true or false.')
    return value
  }

  integer(name: string): number {
    const value = this.#needed(name, 'a whole number')
    if (typeof value !== 'number' || !Number.isSafeInteger(value))
      throw this.refused(name, `"${name}" is ${kindOf(value)}, not a whole number.`, 'Send a whole number.')
    return value
  }

  optionalWord(name: string, words: readonly string[]): void {
    const value = this.#get(name)
    if (value !== undefined && !words.includes(value as string))
      throw this.refused(name, `"${name}" is ${JSON.stringify(value)?.slice(0, 100)}.`, `Understood is ${words.join(', ')}.`)
  }

  /** An object, true, or the text of either; absent = true where it is optional. */
  schema(name: string, { optional }: { readonly optional: boolean }): unknown {
    const value = optional ? (this.#get(name) ?? true) : this.#needed(name, 'a JSON schema')
    if (typeof value !== 'string') return value
    try {
      return JSON.parse(value) as unknown
    } catch (cause) {
      throw this.refused(
        name,
        `The schema is not JSON: ${cause instanceof Error ? cause.message : String(cause)}.`,
        'Send it as an object.',
      )
    }
  }

  /** Does what may find something wrong inside of a field, and says in which. */
  at<T>(name: string, make: () => T): T {
    try {
      return make()
    } catch (error) {
      if (!(error instanceof LatheError) || error.data?.['param'] !== undefined) throw error
      throw new LatheError(error.code, error.message, error.hint, { data: { param: this.#inside(name) }, cause: error })
    }
  }

  refused(name: string, message: string, hint: string): LatheError {
    return new LatheError('runtime.invalid-request', message, hint, { data: { param: name === '' ? this.#path : this.#inside(name) } })
  }

  #get(name: string): unknown {
    return Object.hasOwn(this.#values, name) ? (this.#values[name] ?? undefined) : undefined
  }

  #needed(name: string, what: string): unknown {
    const value = this.#get(name)
    if (value === undefined) throw this.refused(name, `"${name}" is missing.`, `Give ${what}.`)
    return value
  }

  #list(name: string, least: number): readonly unknown[] {
    const value = this.#needed(name, 'a list')
    if (!Array.isArray(value)) throw this.refused(name, `"${name}" is ${kindOf(value)}, not a list.`, 'Send a list.')
    if (value.length < least || value.length > MAX_LISTED)
      throw this.refused(name, `"${name}" lists ${value.length}.`, `Give ${least} to ${MAX_LISTED}.`)
    return value
  }

  #text(name: string, value: unknown): string {
    if (typeof value !== 'string') {
      const token = typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'token'
      throw this.refused(
        name,
        `"${name}" is ${token ? 'a token' : kindOf(value)}, not text.`,
        token ? 'Answers are bound by their text: give the text of the token.' : 'Send text.',
      )
    }
    if (!value.isWellFormed()) throw this.refused(name, `"${name}" holds half a character.`, 'Send whole Unicode characters.')
    if (value.length > MAX_CHARACTERS)
      throw this.refused(name, `"${name}" has ${value.length} characters.`, `${MAX_CHARACTERS} are the most.`)
    return value
  }

  #filled(name: string, value: unknown): string {
    const text = this.#text(name, value)
    if (text === '') throw this.refused(name, `"${name}" is empty.`, 'Give at least one character.')
    return text
  }

  #inside(name: string): string {
    return `${this.#path}.${name}`
  }
}

function shown(path: string): string {
  return `"${path.split('.').at(-1) ?? path}"`
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
