/**
 * Python's `re` patterns as JavaScript ones: filters of task files are written in Python's dialect, and a pattern that silently means something
 * else gives silently wrong scores. What has no equal here is refused by name (specs/evaluation.md §2.2).
 */
import { LatheError } from '../../contract/errors.ts'

/** Python's \w and \d know all scripts. */
const WORD = '\\p{L}\\p{N}_'
const DIGIT = '\\p{Nd}'

function refuse(pattern: string, what: string): never {
  throw new LatheError(
    'evaluate.unsupported-task',
    `The pattern ${JSON.stringify(pattern)} uses ${what}, which has no equal here.`,
    'Rewrite the pattern without it.',
  )
}

/** Flags in front of the pattern: `(?is)`. */
function leadingFlags(pattern: string): { readonly flags: string; readonly rest: string } {
  const match = /^\(\?([a-zA-Z]+)\)/.exec(pattern)
  if (match === null) return { flags: '', rest: pattern }
  const flags = match[1] ?? ''
  for (const flag of flags) if (!'ismu'.includes(flag)) refuse(pattern, `the flag (?${flag})`)
  return { flags, rest: pattern.slice(match[0].length) }
}

function escapeInClass(letter: string): string | null {
  if (letter === 'w') return WORD
  if (letter === 'd') return DIGIT
  if (letter === 'D') return '\\P{Nd}'
  return null
}

interface Translation {
  readonly source: string
  readonly flags: string
}

function translate(pattern: string): Translation {
  const { flags, rest } = leadingFlags(pattern)
  const dotAll = flags.includes('s')
  const multiline = flags.includes('m')
  let out = ''
  let inClass = false
  let i = 0
  const take = (length: number): string => {
    const piece = rest.slice(i, i + length)
    i += length
    return piece
  }
  while (i < rest.length) {
    const letter = rest[i] ?? ''
    if (letter === '\\') {
      const next = rest[i + 1]
      if (next === undefined) refuse(pattern, 'a backslash at its end')
      take(2)
      out += escape(pattern, next, inClass)
    } else if (inClass) {
      take(1)
      if (letter === ']') inClass = false
      // In JavaScript's Unicode mode a bracket inside a class must be escaped.
      out += letter === '[' ? '\\[' : letter
    } else if (letter === '[') {
      take(1)
      inClass = true
      out += '['
      if (rest[i] === '^') out += take(1)
      // A bracket that comes first is a member.
      if (rest[i] === ']') {
        take(1)
        out += '\\]'
      }
    } else if (letter === '(' && rest[i + 1] === '?') out += group(pattern, rest.slice(i), take)
    else if (letter === '.') {
      take(1)
      out += dotAll ? '[^]' : '[^\\n]'
    } else if (letter === '$') {
      take(1)
      out += multiline ? '(?=\\n|(?![^]))' : '(?=\\n?(?![^]))'
    } else if (letter === '^') {
      take(1)
      out += multiline ? '(?<=\\n|(?<![^]))' : '(?<![^])'
    } else if (letter === '{') {
      const quantifier = /^\{(\d*)(,?)(\d*)\}/.exec(rest.slice(i))
      const bounded = quantifier !== null && (quantifier[1] !== '' || quantifier[3] !== '')
      out += bounded ? `{${quantifier[1] === '' ? '0' : quantifier[1]}${quantifier[2]}${quantifier[3]}}` : '\\{'
      take(bounded ? quantifier[0].length : 1)
      if (bounded) out += afterQuantifier(pattern, rest[i])
    } else if (letter === '}' || letter === ']') {
      take(1)
      out += `\\${letter}`
    } else if (letter === '*' || letter === '+' || letter === '?') {
      out += take(1)
      out += afterQuantifier(pattern, rest[i])
    } else {
      const point = String.fromCodePoint(rest.codePointAt(i) ?? 0)
      out += take(point.length)
    }
  }
  return { source: out, flags: `gu${flags.includes('i') ? 'i' : ''}` }
}

/** A possessive quantifier is the only thing a + after a quantifier can be. */
function afterQuantifier(pattern: string, next: string | undefined): string {
  return next === '+' ? refuse(pattern, 'a possessive quantifier') : ''
}

function escape(pattern: string, next: string, inClass: boolean): string {
  if (inClass) {
    const members = escapeInClass(next)
    if (members !== null) return members
    if (next === 'W') return refuse(pattern, '\\W inside a class')
    if (next === 'b') return '\\x08'
  } else {
    if (next === 'w') return `[${WORD}]`
    if (next === 'W') return `[^${WORD}]`
    if (next === 'd') return DIGIT
    if (next === 'D') return '\\P{Nd}'
    if (next === 'b') return `(?:(?<=[${WORD}])(?![${WORD}])|(?<![${WORD}])(?=[${WORD}]))`
    if (next === 'B') return `(?:(?<=[${WORD}])(?=[${WORD}])|(?<![${WORD}])(?![${WORD}]))`
    if (next === 'A') return '(?<![^])'
    if (next === 'Z') return '(?![^])'
  }
  if (/[sStnrfvux1-9]/.test(next)) return `\\${next}`
  if (next === 'a') return '\\x07'
  if (next === '0') return '\\0'
  if (/[A-Za-z]/.test(next)) return refuse(pattern, `\\${next}`)
  // In Unicode mode only syntax characters may be escaped.
  if (/[\^$\\.*+?()[\]{}|/]/.test(next)) return `\\${next}`
  return next === '-' && inClass ? '\\-' : next
}

function group(pattern: string, ahead: string, take: (length: number) => string): string {
  const named = /^\(\?P<([A-Za-z_]\w*)>/.exec(ahead)
  if (named !== null) {
    take(named[0].length)
    return `(?<${named[1]}>`
  }
  const reference = /^\(\?P=([A-Za-z_]\w*)\)/.exec(ahead)
  if (reference !== null) {
    take(reference[0].length)
    return `\\k<${reference[1]}>`
  }
  const plain = /^\(\?(?::|=|!|<=|<!)/.exec(ahead)
  if (plain !== null) return take(plain[0].length)
  const what = ahead.startsWith('(?>')
    ? 'an atomic group'
    : ahead.startsWith('(?#')
      ? 'a comment'
      : ahead.startsWith('(?(')
        ? 'a conditional group'
        : `the group ${ahead.slice(0, 4)}`
  return refuse(pattern, what)
}

/** A global, Unicode-aware RegExp that matches what Python's does. Throws `evaluate.unsupported-task`. */
export function pythonRegex(pattern: string): RegExp {
  const { source, flags } = translate(pattern)
  try {
    return new RegExp(source, flags)
  } catch (cause) {
    throw new LatheError(
      'evaluate.unsupported-task',
      `The pattern ${JSON.stringify(pattern)} is not one that can be used here: ${cause instanceof Error ? cause.message : String(cause)}`,
      'Check it, and rewrite it in a simpler way.',
      { cause },
    )
  }
}

/** `re.findall`: the match, its only group, or its groups. */
export function findAll(regex: RegExp, text: string): (string | readonly string[])[] {
  return Array.from(text.matchAll(regex), (match) => {
    if (match.length === 1) return match[0]
    return match.length === 2 ? (match[1] ?? '') : match.slice(1).map((part) => part ?? '')
  })
}
