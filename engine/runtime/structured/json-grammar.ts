/**
 * JSON schemas as grammars. Every keyword is either enforced or refused with its path, so a finished answer validates: see
 * json-grammar.test.ts, which checks answers with an independent validator. Written here rather than left to the grammar engine, whose own
 * conversion ignores keywords and gets some ranges, lengths and names wrong.
 *
 * Narrower than the schema in four things that help models: properties come in the order of the schema, objects that describe their properties are
 * closed unless `additionalProperties` says otherwise, patterns match the whole string, and whitespace and digits are bounded.
 */
import { LatheError } from '../../contract/errors.ts'
import { EMPTY, anyOf, characterSet, complement, intersect, literal, optional, repeated, sequence } from './ebnf.ts'
import type { Ebnf, GrammarRules, Range } from './ebnf.ts'
import { areDisjoint, isSchema, targetOf } from './json-schema.ts'
import type { Schema } from './json-schema.ts'
import { integerBetween, numberBetween } from './number-range.ts'
import type { Bound } from './number-range.ts'
import { jsonCharacter, regularExpression } from './regular-expression.ts'
import { STRING_FORMATS } from './string-formats.ts'

/** Say something about a value, but allow and forbid nothing. */
const ANNOTATIONS = new Set(
  '$schema $id $comment $defs definitions title description default examples deprecated readOnly writeOnly discriminator'.split(' '),
)
const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  string: ['pattern', 'minLength', 'maxLength', 'format'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  boolean: [],
  null: [],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  object: ['properties', 'required', 'additionalProperties', 'minProperties', 'maxProperties'],
}
const MAX_DEPTH = 64
/** Whitespace between the parts of a text: a model may indent, and may not go on for ever. */
const MAX_WHITESPACE = 20
const WHITESPACE = `[ \\U0000000a\\U00000009]{0,${MAX_WHITESPACE}}`
/** A count above this makes a grammar that takes minutes. */
const MAX_COUNT = 65_536
/** Escaped surrogates are left out: half a pair is no character, and a whole one counts as one. */
const UNICODE_ESCAPE = '"u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2})'
const ESCAPE = `${literal('\\')} (["\\U0000005c/bfnrt] | ${UNICODE_ESCAPE})`
const PLAIN: readonly Range[] = complement([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x7f, 0x7f],
])

interface Place {
  readonly path: string
  readonly depth: number
}

export class JsonGrammar {
  readonly #rules: GrammarRules
  readonly #space: Ebnf
  readonly #character: Ebnf
  #any: Ebnf | null = null
  #stringOfAnyLength: Ebnf | null = null
  #root: unknown = null
  #references = new Map<string, string>()
  /** References that are being followed without a character in between. */
  readonly #following = new Set<string>()

  constructor(rules: GrammarRules) {
    this.#rules = rules
    this.#space = rules.add(WHITESPACE)
    this.#character = rules.add(`${characterSet(PLAIN)} | ${ESCAPE}`)
  }

  /** Values that fit the schema. Throws `runtime.invalid-request` with the path of what can't be enforced. */
  schema(schema: unknown): Ebnf {
    this.#root = schema
    this.#references = new Map()
    return this.#value(schema, { path: '#', depth: 0 })
  }

  /** Any object. */
  object(): Ebnf {
    return this.#map(this.anything())
  }

  anything(): Ebnf {
    if (this.#any !== null) return this.#any
    const name = this.#rules.reserve()
    this.#any = name
    const number = this.#rules.add(numberBetween(null, null) ?? EMPTY)
    const parts = [this.#string(0, null), number, '"true"', '"false"', '"null"', this.#list(name, 0, null), this.#map(name)]
    this.#rules.define(name, parts.join(' | '))
    return name
  }

  #value(schema: unknown, place: Place): Ebnf {
    if (place.depth > MAX_DEPTH) throw refused(place, `is nested more than ${MAX_DEPTH} deep`)
    if (schema === true) return this.anything()
    if (!isSchema(schema)) throw refused(place, 'is no schema that a value could fit')
    const keywords = Object.keys(schema).filter((keyword) => !ANNOTATIONS.has(keyword))
    const leading = ['$ref', 'const', 'enum', 'anyOf', 'oneOf', 'allOf'].find((keyword) => keywords.includes(keyword))
    switch (leading) {
      case '$ref':
        onlyThese(keywords, ['$ref'], place)
        return this.#reference(schema['$ref'], place)
      case 'const':
      case 'enum':
        onlyThese(keywords, [leading, 'type'], place)
        return constants(schema, leading, place)
      case 'anyOf':
      case 'oneOf':
      case 'allOf':
        onlyThese(keywords, [leading], place)
        return this.#combined(schema[leading], leading, place)
      default:
        return this.#typed(schema, keywords, place)
    }
  }

  #reference(reference: unknown, place: Place): Ebnf {
    const target = targetOf(this.#root, reference)
    if (target === undefined || typeof reference !== 'string') {
      throw refused(inside(place, '$ref'), `is ${JSON.stringify(reference)}, where this schema has none; only "#/…" can be followed`)
    }
    if (this.#following.has(reference)) throw refused(inside(place, '$ref'), 'leads back to itself without a value in between')
    const known = this.#references.get(reference)
    if (known !== undefined) return known
    const name = this.#rules.reserve()
    this.#references.set(reference, name)
    this.#following.add(reference)
    const passing = isSchema(target) && ['$ref', 'anyOf', 'oneOf', 'allOf'].some((keyword) => target[keyword] !== undefined)
    if (!passing) this.#following.clear()
    this.#rules.define(name, this.#value(target, { path: reference, depth: place.depth + 1 }))
    this.#following.delete(reference)
    return name
  }

  #combined(value: unknown, keyword: 'anyOf' | 'oneOf' | 'allOf', place: Place): Ebnf {
    const at = inside(place, keyword)
    if (!Array.isArray(value) || value.length === 0) throw refused(at, 'lists no schemas')
    const branches = value as readonly unknown[]
    if (keyword === 'allOf' && branches.length > 1) throw refused(at, 'has several schemas, whose combination can not be enforced')
    if (keyword === 'oneOf' && !areDisjoint(this.#root, branches)) {
      throw refused(at, 'has alternatives that one value may fit both of; use anyOf, or tell them apart by type or by a required constant')
    }
    return anyOf(branches.map((branch, index) => this.#value(branch, inside(at, String(index)))))
  }

  #typed(schema: Schema, keywords: readonly string[], place: Place): Ebnf {
    const { type } = schema
    if (type === undefined) {
      // Without a type a keyword binds only the values it speaks of: nothing would forbid all the others.
      if (keywords.length > 0) throw refused(inside(place, keywords[0] ?? ''), 'can not be enforced without "type"')
      return this.anything()
    }
    const types: readonly unknown[] = Array.isArray(type) ? (type as unknown[]) : [type]
    if (types.length === 0) throw refused(inside(place, 'type'), 'lists no types')
    const known = types.map((name) => {
      if (typeof name !== 'string' || !Object.hasOwn(KEYWORDS, name))
        throw refused(inside(place, 'type'), `is ${JSON.stringify(name)}, which is no JSON type`)
      return name
    })
    onlyThese(keywords, ['type', ...known.flatMap((name) => KEYWORDS[name] ?? [])], place)
    return anyOf(known.map((name) => this.#ofType(name, schema, place)))
  }

  #ofType(type: string, schema: Schema, place: Place): Ebnf {
    switch (type) {
      case 'null':
        return '"null"'
      case 'boolean':
        return '("true" | "false")'
      case 'integer':
      case 'number': {
        const between = type === 'integer' ? integerBetween : numberBetween
        const numbers = between(
          boundOf(schema, 'minimum', 'exclusiveMinimum', 1, place),
          boundOf(schema, 'maximum', 'exclusiveMaximum', -1, place),
        )
        if (numbers === null) throw refused(place, 'allows no number at all')
        return this.#rules.add(numbers)
      }
      case 'string':
        return this.#text(schema, place)
      case 'array':
        return this.#array(schema, place)
      default:
        return this.#object(schema, place)
    }
  }

  #text(schema: Schema, place: Place): Ebnf {
    const { pattern, format } = schema
    const [least, most] = counts(schema, 'minLength', 'maxLength', place)
    const wishes = [pattern !== undefined, format !== undefined, least > 0 || most !== null].filter(Boolean).length
    if (wishes > 1)
      throw refused(place, 'combines pattern, format and length, of which one can be enforced; put the length into the pattern')
    if (format !== undefined) {
      const known = typeof format === 'string' && Object.hasOwn(STRING_FORMATS, format) ? STRING_FORMATS[format] : undefined
      if (known === undefined)
        throw refused(inside(place, 'format'), `is ${JSON.stringify(format)}; known are ${Object.keys(STRING_FORMATS).join(', ')}`)
      return this.#rules.add(quoted(regularExpression(known, jsonCharacter)))
    }
    if (pattern === undefined) return this.#string(least, most)
    if (typeof pattern !== 'string') throw refused(inside(place, 'pattern'), 'is not text')
    return this.#rules.add(quoted(regularExpression(pattern, jsonCharacter)))
  }

  #string(least: number, most: number | null): Ebnf {
    if (least === 0 && most === null) return this.#anyString()
    return this.#rules.add(quoted(repeated(this.#character, least, most)))
  }

  /**
   * Without a rule for each character: where one ends, the grammar engine has to try every token by itself, which takes a hundred milliseconds per
   * mask with 128 K tokens.
   */
  #anyString(): Ebnf {
    if (this.#stringOfAnyLength !== null) return this.#stringOfAnyLength
    const rest = this.#rules.reserve()
    this.#rules.define(rest, `${literal('"')} | ${characterSet(PLAIN)} ${rest} | ${ESCAPE} ${rest}`)
    this.#stringOfAnyLength = this.#rules.add(sequence([literal('"'), rest]))
    return this.#stringOfAnyLength
  }

  #array(schema: Schema, place: Place): Ebnf {
    const { items, prefixItems = [] } = schema
    if (!Array.isArray(prefixItems)) throw refused(inside(place, 'prefixItems'), 'is not a list of schemas')
    const [least, most] = counts(schema, 'minItems', 'maxItems', place)
    const first = prefixItems.map((item, index) => this.#rules.add(this.#value(item, inside(place, `prefixItems/${index}`))))
    const closed = items === false
    const most_ = closed ? Math.min(most ?? first.length, first.length) : most
    if (most_ !== null && least > most_) throw refused(place, `wants ${least} items and allows ${most_}`)
    if (first.length === 0) {
      const item = items === undefined || closed ? this.anything() : this.#rules.add(this.#value(items, inside(place, 'items')))
      return this.#list(item, least, most_)
    }
    const further = closed ? null : items === undefined ? this.anything() : this.#rules.add(this.#value(items, inside(place, 'items')))
    return this.#tuple(first, further, least, most_)
  }

  /** The first items each of their kind, then further ones. */
  #tuple(first: readonly Ebnf[], further: Ebnf | null, least: number, most: number | null): Ebnf {
    const space = this.#space
    const comma = sequence([space, '","', space])
    const beyond = most === null ? null : Math.max(0, most - first.length)
    const needed = Math.max(0, least - first.length)
    let rest: Ebnf = further === null ? EMPTY : repeated(sequence([comma, further]), needed, beyond)
    for (const [index, item] of [...first.entries()].toReversed()) {
      if (most !== null && index >= most) continue
      const here = sequence([index === 0 ? EMPTY : comma, item, rest])
      rest = index >= least ? optional(here) : here
    }
    return this.#rules.add(sequence(['"["', space, rest, space, '"]"']))
  }

  #list(item: Ebnf, least: number, most: number | null): Ebnf {
    const space = this.#space
    const more = repeated(sequence([space, '","', space, item]), Math.max(0, least - 1), most === null ? null : Math.max(0, most - 1))
    const items = most === 0 ? EMPTY : sequence([item, more])
    return this.#rules.add(sequence(['"["', space, least === 0 ? optional(items) : items, space, '"]"']))
  }

  #object(schema: Schema, place: Place): Ebnf {
    const { properties, required = [], additionalProperties } = schema
    if (properties !== undefined && !isSchema(properties)) throw refused(inside(place, 'properties'), 'is not an object of schemas')
    if (!Array.isArray(required)) throw refused(inside(place, 'required'), 'is not a list of names')
    const members = Object.entries(properties ?? {})
    const missing = (required as unknown[]).find((name) => !members.some(([known]) => known === name))
    if (missing !== undefined)
      throw refused(inside(place, 'required'), `names ${JSON.stringify(missing)}, which "properties" does not describe`)
    const open = additionalProperties === undefined ? properties === undefined : additionalProperties !== false
    const extra = !open
      ? null
      : additionalProperties === undefined || additionalProperties === true
        ? this.anything()
        : this.#rules.add(this.#value(additionalProperties, inside(place, 'additionalProperties')))
    const [least, most] = counts(schema, 'minProperties', 'maxProperties', place)
    const wanted = new Set(required as unknown[])
    if (least > Math.max(wanted.size, members.length === 0 && extra !== null ? 1 : 0)) {
      throw refused(inside(place, 'minProperties'), `is ${least}; more than the required properties can not be enforced`)
    }
    if (most !== null && (extra !== null ? members.length > 0 || most > 0 : members.length > most)) {
      throw refused(inside(place, 'maxProperties'), `is ${most}; with optional or further properties it can not be enforced`)
    }
    if (most === 0) return literal('{}')
    if (members.length === 0) return extra === null ? this.#rules.add(sequence(['"{"', this.#space, '"}"'])) : this.#map(extra, least > 0)
    const known = members.map(([name, property]) => ({
      member: this.#member(literal(JSON.stringify(name)), this.#rules.add(this.#value(property, inside(place, `properties/${name}`)))),
      required: wanted.has(name),
    }))
    const others = extra === null ? null : this.#member(this.#keyExcept(members.map(([name]) => name)), extra)
    return this.#ordered(known, others)
  }

  #member(key: Ebnf, value: Ebnf): Ebnf {
    return this.#rules.add(sequence([key, this.#space, '":"', this.#space, value]))
  }

  #map(value: Ebnf, atLeastOne = false): Ebnf {
    const space = this.#space
    const member = this.#member(this.#string(0, null), value)
    const members = sequence([member, repeated(sequence([space, '","', space, member]), 0, null)])
    return this.#rules.add(sequence(['"{"', space, atLeastOne ? members : optional(members), space, '"}"']))
  }

  /** Members in order, with a comma before each but the first that is there; then any number of others. */
  #ordered(known: readonly { readonly member: Ebnf; readonly required: boolean }[], others: Ebnf | null): Ebnf {
    const space = this.#space
    const comma = sequence([space, '","', space])
    let after: Ebnf = others === null ? EMPTY : repeated(sequence([comma, others]), 0, null)
    let atFirst: Ebnf = others === null ? EMPTY : optional(sequence([others, after]))
    for (const { member, required } of known.toReversed()) {
      const rest = this.#rules.add(after)
      const here = sequence([member, rest])
      after = required ? sequence([comma, here]) : sequence([optional(sequence([comma, member])), rest])
      atFirst = required ? here : anyOf([here, this.#rules.add(atFirst)])
    }
    return this.#rules.add(sequence(['"{"', space, atFirst, space, '"}"']))
  }

  /** A key that is none of the names. It has no escapes, so that no name can be spelled another way. */
  #keyExcept(names: readonly string[]): Ebnf {
    const plain = names.filter((name) => JSON.stringify(name) === `"${name}"`).map((name) => [...name])
    const rest = this.#rules.add(repeated(characterSet(PLAIN), 0, null))
    const differing = (tails: readonly (readonly string[])[]): Ebnf => {
      if (tails.length === 0) return rest
      const next = Map.groupBy(
        tails.filter((tail) => tail.length > 0),
        (tail) => tail[0] ?? '',
      )
      const taken = [...next.keys()].map((character): Range => [character.codePointAt(0) ?? 0, character.codePointAt(0) ?? 0])
      // Sets can't leave out single characters beyond ASCII; then the key has to differ in an ASCII one.
      const among = taken.some(([code]) => code > 0x7f) ? intersect(PLAIN, [[0, 0x7f]]) : PLAIN
      const parts = [sequence([characterSet(intersect(among, complement(taken))), rest])]
      for (const [character, group] of next) parts.push(sequence([literal(character), differing(group.map((tail) => tail.slice(1)))]))
      const some = anyOf(parts)
      return this.#rules.add(tails.some((tail) => tail.length === 0) ? some : optional(some))
    }
    return this.#rules.add(quoted(differing(plain)))
  }
}

function quoted(content: Ebnf): Ebnf {
  const mark = literal('"')
  return sequence([mark, content, mark])
}

function constants(schema: Schema, keyword: 'const' | 'enum', place: Place): Ebnf {
  const values: unknown = keyword === 'const' ? [schema['const']] : schema['enum']
  if (!Array.isArray(values) || values.length === 0) throw refused(inside(place, 'enum'), 'lists no values')
  const { type } = schema
  const types: unknown[] = Array.isArray(type) ? (type as unknown[]) : [type]
  const fitting = (values as unknown[]).filter((value) => type === undefined || types.some((name) => isOfType(value, name)))
  if (fitting.length === 0) throw refused(inside(place, keyword), 'allows nothing of its type')
  return anyOf(fitting.map((value) => literal(JSON.stringify(value))))
}

function isOfType(value: unknown, type: unknown): boolean {
  switch (type) {
    case 'null':
      return value === null
    case 'array':
      return Array.isArray(value)
    case 'object':
      return isSchema(value)
    case 'integer':
      return Number.isInteger(value)
    default:
      return typeof value === type
  }
}

/** The tighter of an inclusive and an exclusive bound. `sign` 1 for lower ones. */
function boundOf(schema: Schema, inclusive: string, exclusive: string, sign: 1 | -1, place: Place): Bound | null {
  const bounds = [inclusive, exclusive].flatMap((keyword): Bound[] => {
    const value = schema[keyword]
    if (value === undefined) return []
    // Drafts before 6 had a boolean here.
    if (typeof value !== 'number' || !Number.isFinite(value) || Math.abs(value) > 1e15) {
      throw refused(inside(place, keyword), `is ${JSON.stringify(value)}, not a number within ±1e15`)
    }
    return [{ value, exclusive: keyword === exclusive }]
  })
  return bounds.toSorted((a, b) => sign * (b.value - a.value) || Number(b.exclusive) - Number(a.exclusive))[0] ?? null
}

function counts(schema: Schema, leastKeyword: string, mostKeyword: string, place: Place): readonly [number, number | null] {
  const [least = 0, most = null] = [leastKeyword, mostKeyword].map((keyword) => {
    const value = schema[keyword]
    if (value === undefined) return undefined
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > MAX_COUNT) {
      throw refused(inside(place, keyword), `is ${JSON.stringify(value)}, not a count up to ${MAX_COUNT}`)
    }
    return value
  })
  if (most !== null && least > most) throw refused(inside(place, leastKeyword), `is ${least}, above "${mostKeyword}"`)
  return [least, most]
}

function onlyThese(keywords: readonly string[], allowed: readonly string[], place: Place): void {
  const other = keywords.find((keyword) => !allowed.includes(keyword))
  if (other === undefined) return
  const beside = allowed.filter((keyword) => keywords.includes(keyword))
  throw refused(inside(place, other), beside.length === 0 ? 'can not be enforced' : `can not be enforced beside "${beside.join('", "')}"`)
}

function inside(place: Place, step: string): Place {
  return { path: `${place.path}/${step}`, depth: place.depth + 1 }
}

function refused(place: Place, why: string): LatheError {
  return new LatheError(
    'runtime.invalid-request',
    `The JSON schema at ${place.path} ${why}.`,
    'Leave that out of the schema and check it in your program, or describe it another way.',
  )
}
