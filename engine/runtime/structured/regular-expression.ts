/**
 * Regular expressions as grammars. The whole text must match, as everywhere in structured output; so a leading ^ and a trailing $ change
 * nothing. Understood: alternatives, groups, classes, escapes and repetitions. What a context-free grammar can't say (look-around, back
 * references, word boundaries) is refused by name. Inside of a JSON string each character is written as JSON writes it.
 */
import { LatheError } from '../../contract/errors.ts'
import { anyOf, characterSet, complement, intersect, literal, normalise, repeated, sequence } from './ebnf.ts'
import type { Ebnf, Range } from './ebnf.ts'

/** How one character out of a set is written. */
export type CharacterWriter = (ranges: readonly Range[]) => Ebnf

/** As itself. */
export const plainCharacter: CharacterWriter = (ranges) => characterSet(ranges)

const UNESCAPED_IN_JSON: readonly Range[] = complement([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x7f, 0x7f],
])
/** Characters that JSON writes with an escape of one letter, and the letter. */
const JSON_ESCAPES: readonly (readonly [number, string])[] = [
  [0x22, '"'],
  [0x5c, '\\'],
  [0x08, 'b'],
  [0x0c, 'f'],
  [0x0a, 'n'],
  [0x0d, 'r'],
  [0x09, 't'],
]

/** As JSON writes it inside of a string. */
export const jsonCharacter: CharacterWriter = (ranges) => {
  const plain = intersect(ranges, UNESCAPED_IN_JSON)
  const escaped = JSON_ESCAPES.filter(([code]) => ranges.some(([low, high]) => low <= code && code <= high))
  return anyOf([...(plain.length > 0 ? [characterSet(plain)] : []), ...escaped.map(([, letter]) => literal(`\\${letter}`))])
}

const DIGITS: readonly Range[] = [[0x30, 0x39]]
const WORD: readonly Range[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
]
const SPACES: readonly Range[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
]
/** JavaScript's other two, U+2028 and U+2029, can't be taken out of a set that holds everything else beyond ASCII. */
const LINE_ENDS: readonly Range[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
]
const CLASSES: Readonly<Record<string, readonly Range[]>> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: SPACES,
  S: complement(SPACES),
}
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 }
const MAX_REPEAT = 4096
const MAX_DEPTH = 100

/** Throws `runtime.invalid-request` with the place of what can't be understood. */
export function regularExpression(pattern: string, write: CharacterWriter): Ebnf {
  return new Parser([...pattern], write).whole()
}

class Parser {
  readonly #text: readonly string[]
  readonly #write: CharacterWriter
  #at = 0
  #depth = 0

  constructor(text: readonly string[], write: CharacterWriter) {
    this.#text = text
    this.#write = write
  }

  whole(): Ebnf {
    const expression = this.#alternatives()
    if (this.#at < this.#text.length) throw this.#refused('a bracket closes that never opened')
    return expression
  }

  #alternatives(): Ebnf {
    if (++this.#depth > MAX_DEPTH) throw this.#refused('groups are nested too deep')
    const branches = [this.#branch()]
    while (this.#take('|')) branches.push(this.#branch())
    this.#depth--
    return anyOf(branches)
  }

  #branch(): Ebnf {
    const parts: Ebnf[] = []
    if (this.#take('^') && this.#depth > 2) throw this.#refused('"^" stands inside of a group')
    while (this.#at < this.#text.length && this.#text[this.#at] !== '|' && this.#text[this.#at] !== ')') {
      if (this.#take('$')) {
        if (this.#at < this.#text.length && this.#text[this.#at] !== '|' && this.#text[this.#at] !== ')')
          throw this.#refused('"$" stands before the end')
        break
      }
      parts.push(this.#repetition(this.#atom()))
    }
    return sequence(parts)
  }

  #repetition(atom: Ebnf): Ebnf {
    const next = this.#text[this.#at]
    let bounds: readonly [number, number | null] | null = null
    if (next === '*') bounds = [0, null]
    else if (next === '+') bounds = [1, null]
    else if (next === '?') bounds = [0, 1]
    if (bounds !== null) this.#at++
    else if (next === '{') bounds = this.#braces()
    if (bounds === null) return atom
    // Lazy or greedy makes no difference to what matches as a whole.
    this.#take('?')
    if (['*', '+', '?', '{'].includes(this.#text[this.#at] ?? '')) throw this.#refused('a repetition follows a repetition')
    return repeated(atom, ...bounds)
  }

  #braces(): readonly [number, number | null] {
    const rest = this.#text.slice(this.#at, this.#at + 16).join('')
    const match = /^\{(\d+)(,?)(\d*)\}/.exec(rest)
    if (match === null) throw this.#refused('"{" begins no repetition')
    this.#at += match[0].length
    const least = Number(match[1])
    const most = match[2] === '' ? least : match[3] === '' ? null : Number(match[3])
    if (least > MAX_REPEAT || (most !== null && (most > MAX_REPEAT || most < least))) {
      throw this.#refused(`the repetition ${match[0]} is backwards or above ${MAX_REPEAT}`)
    }
    return [least, most]
  }

  #atom(): Ebnf {
    const character = this.#next()
    switch (character) {
      case '(':
        return this.#group()
      case '[':
        return this.#set()
      case '.':
        return this.#write(complement(LINE_ENDS))
      case '\\':
        return this.#write(this.#escape(false))
      case '*':
      case '+':
      case '?':
        throw this.#refused(`"${character}" repeats nothing`)
      case '^':
        throw this.#refused('"^" stands after the start')
      default:
        return this.#write(only(character))
    }
  }

  #group(): Ebnf {
    if (this.#take('?')) {
      if (this.#take('<')) {
        const name = /^[A-Za-z_]\w*>/.exec(this.#text.slice(this.#at, this.#at + 64).join(''))
        if (name === null) throw this.#refused('look-behind can not be enforced')
        this.#at += name[0].length
      } else if (!this.#take(':')) throw this.#refused('look-ahead and flags can not be enforced')
    }
    const inner = this.#alternatives()
    if (!this.#take(')')) throw this.#refused('a bracket never closes')
    return inner
  }

  #set(): Ebnf {
    const negated = this.#take('^')
    const ranges: Range[] = []
    while (!this.#take(']')) {
      const low = this.#member()
      const single = low.length === 1 && low[0]?.[0] === low[0]?.[1]
      if (single && this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']') {
        this.#at++
        const high = this.#member()
        const [from, to] = [low[0]?.[0] ?? 0, high[0]?.[0] ?? 0]
        if (high.length !== 1 || high[0]?.[0] !== high[0]?.[1] || to < from) throw this.#refused('a range is backwards')
        ranges.push([from, to])
      } else ranges.push(...low)
    }
    const set = normalise(ranges)
    const wanted = negated ? complement(set) : set
    if (wanted.length === 0) throw this.#refused('a set holds nothing')
    return this.#write(wanted)
  }

  #member(): readonly Range[] {
    const character = this.#next()
    return character === '\\' ? this.#escape(true) : only(character)
  }

  #escape(inSet: boolean): readonly Range[] {
    const letter = this.#next()
    const known = CLASSES[letter]
    if (known !== undefined) return known
    const control = CONTROLS[letter]
    if (control !== undefined) return [[control, control]]
    if (letter === 'x' || letter === 'u') return this.#hexadecimal(letter === 'x' ? 2 : 4)
    if (letter === 'b' && inSet) return [[8, 8]]
    if (/[A-Za-z0-9]/.test(letter)) throw this.#refused(`"\\${letter}" can not be enforced`)
    return only(letter)
  }

  #hexadecimal(digits: number): readonly Range[] {
    const rest = this.#text.slice(this.#at, this.#at + 10).join('')
    const match = (digits === 4 ? /^(?:\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{4}))/ : /^([0-9a-fA-F]{2})/).exec(rest)
    const text = match?.[1] ?? match?.[2]
    const code = Number.parseInt(text ?? '', 16)
    if (match === null || !(code <= 0x10ffff)) throw this.#refused('an escape holds no code point')
    this.#at += match[0].length
    return [[code, code]]
  }

  #next(): string {
    const character = this.#text[this.#at]
    if (character === undefined) throw this.#refused('it ends too early')
    this.#at++
    return character
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false
    this.#at++
    return true
  }

  #refused(why: string): LatheError {
    return new LatheError(
      'runtime.invalid-request',
      `The pattern ${JSON.stringify(this.#text.join('').slice(0, 200))} at character ${this.#at}: ${why}.`,
      'Use literals, sets, groups, alternatives and repetitions; the whole text has to match.',
    )
  }
}

function only(character: string): readonly Range[] {
  const code = character.codePointAt(0) ?? 0
  return [[code, code]]
}
