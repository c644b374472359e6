/**
 * Numbers between bounds as grammars: digits are compared from the left, place by place. Integers have at most 15 digits and fractions 9, which a
 * double holds exactly enough that the number read back is on the right side of its bound, and which a model that has begun to write digits
 * without end runs into.
 */
import { EMPTY, anyOf, literal, optional, repeated, sequence } from './ebnf.ts'
import type { Ebnf } from './ebnf.ts'

const MAX_DIGITS = 15
const MAX_FRACTION = 9
const DIGIT = '[0-9]'

export interface Bound {
  readonly value: number
  /** The value itself is not allowed. */
  readonly exclusive: boolean
}

/** null where no integer lies between the bounds. */
export function integerBetween(low: Bound | null, high: Bound | null): Ebnf | null {
  const least = low === null ? null : Number.isInteger(low.value) && low.exclusive ? low.value + 1 : Math.ceil(low.value)
  const most = high === null ? null : Number.isInteger(high.value) && high.exclusive ? high.value - 1 : Math.floor(high.value)
  if (least !== null && most !== null && least > most) return null
  const parts: Ebnf[] = []
  if (most === null || most >= 0) parts.push(natural(Math.max(least ?? 0, 0), most))
  if (least === null || least < 0) {
    parts.push(sequence([literal('-'), natural(Math.max(most === null ? 1 : -most, 1), least === null ? null : -least)]))
  }
  return anyOf(parts)
}

/** null where no number lies between the bounds. */
export function numberBetween(low: Bound | null, high: Bound | null): Ebnf | null {
  if (low === null && high === null) {
    const exponent = sequence(['[eE]', optional('[+-]'), repeated(DIGIT, 1, 2)])
    return sequence([optional(literal('-')), natural(0, null), optional(fraction(repeated(DIGIT, 1, MAX_FRACTION))), optional(exponent)])
  }
  const empty = low !== null && high !== null && (low.value > high.value || (low.value === high.value && (low.exclusive || high.exclusive)))
  if (empty) return null
  const parts: Ebnf[] = []
  const zero: Bound = { value: 0, exclusive: false }
  if (high === null || high.value > 0 || (high.value === 0 && !high.exclusive)) {
    const positive = magnitude(low !== null && low.value >= 0 ? low : zero, high)
    if (positive !== null) parts.push(positive)
  }
  if (low === null || low.value < 0) {
    const negative = magnitude(high !== null && high.value <= 0 ? negate(high) : zero, low === null ? null : negate(low))
    if (negative !== null) parts.push(sequence([literal('-'), negative]))
  }
  return parts.length === 0 ? null : anyOf(parts)
}

function negate({ value, exclusive }: Bound): Bound {
  return { value: value === 0 ? 0 : -value, exclusive }
}

/** Integers from `least` ≥ 0 on, without leading zeros. */
function natural(least: number, most: number | null): Ebnf {
  if (most !== null) {
    const [low, high] = [digitsOf(least), digitsOf(most)]
    const parts: Ebnf[] = []
    for (let length = low.length; length <= high.length; length++) {
      const from = length === low.length ? low : `1${'0'.repeat(length - 1)}`
      const to = length === high.length ? high : '9'.repeat(length)
      parts.push(sameLength(from, to))
    }
    return anyOf(parts)
  }
  const low = digitsOf(least)
  const longer = sequence(['[1-9]', repeated(DIGIT, low.length, Math.max(low.length, MAX_DIGITS - 1))])
  return anyOf([sameLength(low, '9'.repeat(low.length)), longer])
}

function digitsOf(value: number): string {
  return BigInt(Math.min(value, 1e21)).toString()
}

/** Digit strings of one length between two. */
function sameLength(low: string, high: string): Ebnf {
  if (low === '') return EMPTY
  const [first, last] = [Number(low[0]), Number(high[0])]
  const rest = low.length - 1
  if (first === last) return sequence([literal(String(first)), sameLength(low.slice(1), high.slice(1))])
  const parts = [sequence([literal(String(first)), sameLength(low.slice(1), '9'.repeat(rest))])]
  if (last - first > 1) parts.push(sequence([`[${first + 1}-${last - 1}]`, repeated(DIGIT, rest, rest)]))
  parts.push(sequence([literal(String(last)), sameLength('0'.repeat(rest), high.slice(1))]))
  return anyOf(parts)
}

/** Non-negative decimals between bounds ≥ 0; null where there are none. */
function magnitude(low: Bound, high: Bound | null): Ebnf | null {
  const from = split(low.value)
  const to = high === null ? null : split(high.value)
  const anyFraction = optional(fraction(repeated(DIGIT, 1, MAX_FRACTION)))
  const parts: (Ebnf | null)[] = []
  if (to !== null && from.whole === to.whole) {
    const both = fractionBetween(from.digits, low.exclusive, to.digits, high?.exclusive ?? false)
    return both === null ? null : sequence([literal(digitsOf(from.whole)), both])
  }
  const start = fractionBetween(from.digits, low.exclusive, null, false)
  parts.push(start === null ? null : sequence([literal(digitsOf(from.whole)), start]))
  const next = from.whole + 1
  if (to === null) parts.push(sequence([natural(next, null), anyFraction]))
  else {
    if (next <= to.whole - 1) parts.push(sequence([natural(next, to.whole - 1), anyFraction]))
    const end = fractionBetween('', false, to.digits, high?.exclusive ?? false)
    parts.push(end === null ? null : sequence([literal(digitsOf(to.whole)), end]))
  }
  const found = parts.filter((part) => part !== null)
  return found.length === 0 ? null : anyOf(found)
}

function split(value: number): { readonly whole: number; readonly digits: string } {
  const whole = Math.floor(value)
  const digits = (value - whole).toFixed(MAX_FRACTION).slice(2).replace(/0+$/, '')
  return { whole, digits: Number.isInteger(value) ? '' : digits }
}

function fraction(digits: Ebnf): Ebnf {
  return sequence([literal('.'), digits])
}

/**
 * The fraction with its point, or nothing, between two digit strings (0.digits); `high` null = below 1. null where there is none. Digits are
 * compared place by place: what is left of both bounds is free.
 */
function fractionBetween(low: string, lowExclusive: boolean, high: string | null, highExclusive: boolean): Ebnf | null {
  const parts: Ebnf[] = []
  // The number without a fraction is .0.
  const zeroAboveLow = low === '' && !lowExclusive
  const zeroBelowHigh = high === null || high !== '' || !highExclusive
  if (zeroAboveLow && zeroBelowHigh) parts.push(EMPTY)
  const digits = digitsBetween(low === '' && !lowExclusive ? null : low, lowExclusive, high, highExclusive, MAX_FRACTION, true)
  if (digits !== null) parts.push(fraction(digits))
  if (parts.length === 0) return null
  return parts.length === 2 ? optional(parts[1] ?? EMPTY) : (parts[0] ?? EMPTY)
}

/** At least one digit where `first`; at most `room`. Past the end of a bound its digits are zeros. null = a bound that does not bind any more. */
function digitsBetween(
  low: string | null,
  lowExclusive: boolean,
  high: string | null,
  highExclusive: boolean,
  room: number,
  first: boolean,
): Ebnf | null {
  if (low === null && high === null) return repeated(DIGIT, first ? 1 : 0, room)
  const ends = (low === null || (low === '' && !lowExclusive)) && (high === null || high !== '' || !highExclusive)
  if (room === 0) return ends ? EMPTY : null
  // Beyond the last digit of the upper bound only zeros are not above it.
  if (high === '' && low === null) return highExclusive ? null : repeated(literal('0'), first ? 1 : 0, room)
  const [from, to] = [low === null ? 0 : Number(low[0] ?? 0), high === null ? 9 : Number(high[0] ?? 0)]
  const parts: Ebnf[] = []
  for (let digit = from; digit <= to; digit++) {
    const restLow = low !== null && digit === from ? low.slice(1) : null
    const restHigh = high !== null && digit === to ? high.slice(1) : null
    // An inclusive lower bound with no digits left binds no more.
    const boundLow = restLow === '' && !lowExclusive ? null : restLow
    const rest = digitsBetween(boundLow, lowExclusive, restHigh, highExclusive, room - 1, false)
    if (rest !== null) parts.push(sequence([literal(String(digit)), rest]))
  }
  if (parts.length === 0) return ends && !first ? EMPTY : null
  const some = anyOf(parts)
  return ends && !first ? optional(some) : some
}
