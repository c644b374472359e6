/**
 * Python literals as templates print them: `['a', "it's", 3, True]`, tuples, nested lists, and JSON's spelling of the same. Task files get lists
 * of choices this way (`ast.literal_eval`). Nothing is evaluated; anything else is null.
 */

export type PythonValue = string | number | boolean | null | readonly PythonValue[]

/** Nested deeper than this is no list of choices. */
const MAX_DEPTH = 20

class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  whole(): PythonValue | undefined {
    const value = this.#value(0)
    this.#space()
    return this.#at === this.#text.length ? value : undefined
  }

  #space(): void {
    while (/\s/.test(this.#text[this.#at] ?? 'x')) this.#at++
  }

  #value(depth: number): PythonValue | undefined {
    if (depth > MAX_DEPTH) return undefined
    this.#space()
    const first = this.#text[this.#at]
    if (first === '[' || first === '(') return this.#list(first === '[' ? ']' : ')', depth)
    if (first === '"' || first === "'") return this.#string(first)
    const word = /^(?:True|False|None|true|false|null|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)/.exec(
      this.#text.slice(this.#at, this.#at + 40),
    )?.[0]
    if (word === undefined) return undefined
    this.#at += word.length
    if (word === 'None' || word === 'null') return null
    if (/^[Tt]rue$/.test(word)) return true
    if (/^[Ff]alse$/.test(word)) return false
    return Number(word)
  }

  #list(end: string, depth: number): PythonValue | undefined {
    this.#at++
    const values: PythonValue[] = []
    for (;;) {
      this.#space()
      if (this.#text[this.#at] === end) {
        this.#at++
        return values
      }
      const value = this.#value(depth + 1)
      if (value === undefined) return undefined
      values.push(value)
      this.#space()
      const next = this.#text[this.#at]
      if (next === ',') this.#at++
      else if (next !== end) return undefined
    }
  }

  #string(quote: string): string | undefined {
    this.#at++
    let out = ''
    for (;;) {
      const letter = this.#text[this.#at]
      if (letter === undefined || letter === '\n') return undefined
      this.#at++
      if (letter === quote) return out
      if (letter !== '\\') {
        out += letter
        continue
      }
      const escaped = this.#escape()
      if (escaped === undefined) return undefined
      out += escaped
    }
  }

  #escape(): string | undefined {
    const letter = this.#text[this.#at++]
    if (letter === undefined) return undefined
    const digits = { x: 2, u: 4, U: 8 }[letter]
    if (digits !== undefined) {
      const hex = this.#text.slice(this.#at, this.#at + digits)
      if (!/^[\dA-Fa-f]+$/.test(hex) || hex.length !== digits) return undefined
      this.#at += digits
      const code = Number.parseInt(hex, 16)
      // JSON writes a character beyond 2^16 as two halves.
      return code > 0x10ffff ? undefined : code > 0xffff ? String.fromCodePoint(code) : String.fromCharCode(code)
    }
    const simple: Readonly<Record<string, string>> = {
      n: '\n',
      t: '\t',
      r: '\r',
      b: '\b',
      f: '\f',
      '0': '\0',
      '/': '/',
      '\\': '\\',
      "'": "'",
      '"': '"',
    }
    // Python keeps a backslash before any other letter.
    return simple[letter] ?? `\\${letter}`
  }
}

/** undefined when the text is not one literal. */
export function parsePythonLiteral(text: string): PythonValue | undefined {
  return new Reader(text).whole()
}

/** `str(value)` of Python, for values that come from JSON. */
export function pythonText(value: unknown): string {
  if (value === null || value === undefined) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  return pythonRepresentation(value)
}

/** `repr(value)`. */
export function pythonRepresentation(value: unknown): string {
  if (typeof value === 'string') {
    const quote = value.includes("'") && !value.includes('"') ? '"' : "'"
    const escaped = value
      .replaceAll('\\', '\\\\')
      .replaceAll('\n', '\\n')
      .replaceAll('\r', '\\r')
      .replaceAll('\t', '\\t')
      .replaceAll(quote, `\\${quote}`)
    return quote + escaped + quote
  }
  if (Array.isArray(value)) return `[${value.map(pythonRepresentation).join(', ')}]`
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value)
      .map(([key, entry]) => `${pythonRepresentation(key)}: ${pythonRepresentation(entry)}`)
      .join(', ')}}`
  }
  return pythonText(value)
}
