/**
 * Reading a command line: which options a command has, and errors that name the nearest one. Numbers are checked here, so that no command sees a
 * NaN. Knows nothing of what the commands do.
 */
import { parseArgs } from 'node:util'
import { nearestName } from '../../engine/compress/nearest-name.ts'
import { LatheError } from '../../engine/contract/index.ts'

export interface OptionSpec {
  readonly type: 'string' | 'boolean'
  readonly multiple?: boolean
  /** Shown after the name in the help, e.g. "N". */
  readonly value?: string
  readonly help: string
}

/** Options that every command takes. */
export const COMMON_OPTIONS = {
  json: { type: 'boolean', help: 'print one JSON object on stdout, progress on stderr' },
  adapter: { type: 'string', value: 'NAME', help: 'adapter id or part of its name; "reference" is the f64 backend (or LATHE_ADAPTER)' },
  help: { type: 'boolean', help: 'show this help' },
} as const satisfies Record<string, OptionSpec>

export class Arguments {
  readonly positionals: readonly string[]
  readonly #values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>
  readonly #usage: string

  constructor(args: readonly string[], options: Readonly<Record<string, OptionSpec>>, usage: string) {
    this.#usage = usage
    const known = { ...COMMON_OPTIONS, ...options }
    const config = Object.fromEntries(
      Object.entries(known).map(([name, spec]) => [name, { type: spec.type, multiple: 'multiple' in spec && spec.multiple === true }]),
    )
    const { tokens } = parseArgs({ args: [...args], options: config, strict: false, allowPositionals: true, tokens: true })
    for (const token of tokens) {
      if (token.kind === 'option' && !Object.hasOwn(known, token.name)) throw unknownOption(token.rawName, Object.keys(known))
    }
    try {
      const { values, positionals } = parseArgs({ args: [...args], options: config, allowPositionals: true })
      this.#values = values
      this.positionals = positionals
    } catch (error) {
      throw this.invalid(error instanceof Error ? error.message.replace(/\. To specify.*$/s, '.') : String(error))
    }
  }

  flag(name: string): boolean {
    return this.#values[name] === true
  }

  text(name: string): string | null {
    const value = this.#values[name]
    return typeof value === 'string' ? value : null
  }

  texts(name: string): readonly string[] {
    const value = this.#values[name]
    if (typeof value === 'string') return [value]
    return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : []
  }

  required(name: string): string {
    const value = this.text(name)
    if (value === null) throw this.invalid(`--${name} is missing.`)
    return value
  }

  oneOf<T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.text(name)
    if (value === null) return fallback
    const choice = choices.find((candidate) => candidate === value)
    if (choice !== undefined) return choice
    const nearest = nearestName(value, choices)
    throw this.invalid(
      `--${name} can't be "${value}".${nearest === null ? '' : ` Did you mean "${nearest}"?`}`,
      `Use one of: ${choices.join(', ')}.`,
    )
  }

  integer(name: string, range: { readonly min: number; readonly max?: number }): number | null {
    const value = this.number(name, range)
    if (value !== null && !Number.isSafeInteger(value)) throw this.invalid(`--${name} must be a whole number, not ${value}.`)
    return value
  }

  number(name: string, range: { readonly min: number; readonly max?: number }): number | null {
    const text = this.text(name)
    if (text === null) return null
    const value = Number(text)
    const max = range.max ?? Infinity
    if (text.trim() === '' || !Number.isFinite(value) || value < range.min || value > max) {
      const bounds = max === Infinity ? `at least ${range.min}` : `from ${range.min} to ${max}`
      throw this.invalid(`--${name} must be a number ${bounds}, not "${text}".`)
    }
    return value
  }

  /** The one folder or file that the command works on. */
  onlyPositional(what: string): string {
    const [first, ...more] = this.positionals
    if (first === undefined) throw this.invalid(`The ${what} is missing.`)
    if (more.length > 0) throw this.invalid(`One ${what} was expected; "${more[0]}" is one too many.`)
    return first
  }

  invalid(message: string, hint = `Usage: ${this.#usage}`): LatheError {
    return new LatheError('request.invalid', message, hint)
  }
}

function unknownOption(rawName: string, known: readonly string[]): LatheError {
  const nearest = nearestName(rawName.replace(/^-+/, ''), known)
  return new LatheError(
    'request.invalid',
    `There is no option ${rawName}.`,
    nearest === null ? `The options are ${known.map((name) => `--${name}`).join(', ')}.` : `Did you mean --${nearest}?`,
  )
}
