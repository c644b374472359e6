/**
 * Writing grammars in the EBNF dialect of the grammar engine: rules with names of their own, literals and character sets with everything unusual
 * escaped by code point. Knows nothing of JSON or of regular expressions.
 */
import { LatheError } from '../../contract/errors.ts'

/** An expression that may stand anywhere; alternatives are in brackets already. */
export type Ebnf = string

export const EMPTY: Ebnf = '""'

/** More than this compiles for minutes and is no description that a person wrote. */
const MAX_RULES = 20_000

export class GrammarRules {
  readonly #rules: string[] = []

  /** Adds a rule and returns a reference to it. */
  add(expression: Ebnf): Ebnf {
    const name = this.reserve()
    this.define(name, expression)
    return name
  }

  /** A name to refer to before its rule is known, for recursion. */
  reserve(): string {
    if (this.#rules.length >= MAX_RULES) {
      throw new LatheError('runtime.invalid-request', 'The answer’s form is too large to enforce.', 'Describe it with fewer alternatives.')
    }
    this.#rules.push('')
    return `r${this.#rules.length - 1}`
  }

  define(name: string, expression: Ebnf): void {
    this.#rules[Number(name.slice(1))] = expression
  }

  /** The whole grammar, starting at `root`. */
  text(root: Ebnf): string {
    return [`root ::= ${root}`, ...this.#rules.map((expression, index) => `r${index} ::= ${expression}`)].join('\n')
  }
}

function codePoint(value: number): string {
  return `\\U${value.toString(16).padStart(8, '0')}`
}

/** Exactly this text. */
export function literal(text: string): Ebnf {
  const escaped = [...text].map((character) =>
    /^[A-Za-z0-9 :,{}_.-]$/.test(character) ? character : codePoint(character.codePointAt(0) ?? 0),
  )
  return `"${escaped.join('')}"`
}

export function sequence(parts: readonly Ebnf[]): Ebnf {
  const kept = parts.filter((part) => part !== EMPTY)
  return kept.length === 0 ? EMPTY : kept.length === 1 ? (kept[0] ?? EMPTY) : `(${kept.join(' ')})`
}

export function anyOf(parts: readonly Ebnf[]): Ebnf {
  const distinct = [...new Set(parts)]
  return distinct.length === 1 ? (distinct[0] ?? EMPTY) : `(${distinct.join(' | ')})`
}

export function optional(part: Ebnf): Ebnf {
  return part === EMPTY ? EMPTY : `(${part})?`
}

/** `most` null = without end. */
export function repeated(part: Ebnf, least: number, most: number | null): Ebnf {
  if (most === 0 || part === EMPTY) return EMPTY
  if (least === 0 && most === null) return `(${part})*`
  if (least === 1 && most === null) return `(${part})+`
  if (least === 1 && most === 1) return part
  return `(${part}){${least},${most ?? ''}}`
}

/** Inclusive code points, ascending and apart. */
export type Range = readonly [number, number]

export const LAST_CODE_POINT = 0x10ffff

const ASCII: readonly Range[] = [[0, 0x7f]]
/** Surrogates are never part of a text. */
const BEYOND_ASCII: readonly Range[] = [
  [0x80, 0xd7ff],
  [0xe000, LAST_CODE_POINT],
]
const MAX_LISTED = 512

/**
 * One character out of the ranges. The grammar engine gets sets with code points beyond ASCII wrong unless they hold all of them, so those
 * are written out one by one; throws `runtime.invalid-request` where they are too many.
 */
export function characterSet(ranges: readonly Range[]): Ebnf {
  const ascii = intersect(ranges, ASCII)
  const beyond = intersect(ranges, BEYOND_ASCII)
  const count = size(beyond)
  if (count === size(BEYOND_ASCII)) {
    const missing = intersect(complement(ascii), ASCII)
    return missing.length === 0 ? `([${members(ASCII)}] | [^${members(ASCII)}])` : `[^${members(missing)}]`
  }
  if (count > MAX_LISTED) {
    throw new LatheError(
      'runtime.invalid-request',
      `A set of ${count} characters beyond ASCII can't be enforced.`,
      `Use at most ${MAX_LISTED} of them, or all ("." or a negated set of ASCII characters).`,
    )
  }
  const listed = beyond.flatMap(([low, high]) => Array.from({ length: high - low + 1 }, (_, index) => `"${codePoint(low + index)}"`))
  return anyOf([...(ascii.length > 0 ? [`[${members(ascii)}]`] : []), ...listed])
}

function size(ranges: readonly Range[]): number {
  return ranges.reduce((sum, [low, high]) => sum + high - low + 1, 0)
}

function members(ranges: readonly Range[]): string {
  return ranges.map(([low, high]) => (low === high ? codePoint(low) : `${codePoint(low)}-${codePoint(high)}`)).join('')
}

export function normalise(ranges: readonly Range[]): readonly Range[] {
  const sorted = ranges.toSorted((a, b) => a[0] - b[0])
  const merged: [number, number][] = []
  for (const [low, high] of sorted) {
    const last = merged.at(-1)
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high)
    else merged.push([low, high])
  }
  return merged
}

export function complement(ranges: readonly Range[]): readonly Range[] {
  const result: Range[] = []
  let next = 0
  for (const [low, high] of normalise(ranges)) {
    if (low > next) result.push([next, low - 1])
    next = high + 1
  }
  if (next <= LAST_CODE_POINT) result.push([next, LAST_CODE_POINT])
  return result
}

export function intersect(a: readonly Range[], b: readonly Range[]): readonly Range[] {
  return a.flatMap(([low, high]) =>
    b.flatMap(([otherLow, otherHigh]): Range[] => {
      const from = Math.max(low, otherLow)
      const to = Math.min(high, otherHigh)
      return from <= to ? [[from, to]] : []
    }),
  )
}
