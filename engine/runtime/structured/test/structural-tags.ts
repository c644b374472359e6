/**
 * Random structural tags, and a judge of answers that shares nothing with the grammar: it searches the text for markers and asks another's validator
 * about JSON. What it says of a format is the set of places where a text that begins here may end.
 */
import type { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { schemas } from './schemas.ts'

export interface TagFormat {
  readonly type: string
  readonly [field: string]: unknown
}

interface TagShape {
  readonly begin: string
  readonly end: string | readonly string[]
  readonly content: TagFormat
}

/** Pieces of markup for a vocabulary, so that a model without opinions comes upon it. */
export const MARKUP = ['<f=', '<a', '<a>', 'x>', 'y>', '</', '</a>', '</f>', '``', '```', '[[', ']]', '<', '>', ';', 'stop', '<日', '本>']

const END = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom<string | string[]>(
      '</a>',
      '</f>',
      '```',
      ']]',
      '</日>',
      'aab',
      ['</a>', '</f>'],
      ['</a>', '</a>;'],
      ['```', 'stop'],
    ),
  },
  fc.constant(''),
)
const BEGIN = fc.constantFrom('<f=x>', '<f=y>', '<a>', '<ab>', '```', '[[', '<日本>', '<f', '<')

const formatOfDepth = (depth: number): fc.Arbitrary<TagFormat> => {
  const leaf = fc.oneof(
    fc.constantFrom('yes', 'a<b', '', '日', '</a>', '"').map((value) => ({ type: 'const_string', value })),
    { weight: 3, arbitrary: schemas.map((json_schema) => ({ type: 'json_schema', json_schema })) },
    fc.constantFrom('[a-c]{1,3}', '(x|<f=)+', '\\d+').map((pattern) => ({ type: 'regex', pattern })),
    fc.constant({ type: 'grammar', grammar: 'root ::= item ("," item)* # a list\nitem ::= "r1" | [0-9"\\]] | ""' }),
    {
      weight: 2,
      arbitrary: fc.subarray(['<a', 'stop', '```', '<日'], { maxLength: 2 }).map((excludes) => ({ type: 'any_text', excludes })),
    },
  )
  if (depth === 0) return leaf
  const inner = formatOfDepth(depth - 1)
  const tag = fc.record({ type: fc.constant('tag'), begin: BEGIN, content: inner, end: END })
  const tags = fc.uniqueArray(tag, { minLength: 1, maxLength: 3, selector: ({ begin }) => begin })
  const flags = { at_least_one: fc.boolean(), stop_after_first: fc.boolean() }
  const triggered = fc
    .record({ tags, ...flags, excludes: fc.subarray(['stop', ']]'], { maxLength: 1 }), length: fc.constantFrom(2, 3, 9) })
    .map(({ length, ...rest }) => ({
      type: 'triggered_tags',
      triggers: [...new Set(rest.tags.map(({ begin }) => begin.slice(0, length)))],
      ...rest,
    }))
  const separated = fc.record({ type: fc.constant('tags_with_separator'), tags, separator: fc.constantFrom(',', ';', '\n', ''), ...flags })
  const dispatch = fc.record({
    type: fc.constant('dispatch'),
    rules: fc.uniqueArray(fc.tuple(fc.constantFrom('<f=x>', '<a', '[['), inner), {
      minLength: 1,
      maxLength: 2,
      selector: ([pattern]) => pattern,
    }),
    loop: fc.boolean(),
    excludes: fc.subarray(['stop']),
  })
  const list = fc.array(inner, { minLength: 1, maxLength: 3 })
  return fc.oneof(
    leaf,
    { weight: 3, arbitrary: tag },
    { weight: 4, arbitrary: triggered },
    { weight: 2, arbitrary: separated },
    dispatch,
    list.map((elements) => ({ type: 'sequence', elements })),
    list.map((elements) => ({ type: 'or', elements })),
    fc.tuple(fc.constantFrom('optional', 'plus', 'star'), inner).map(([type, content]) => ({ type, content })),
    fc.tuple(fc.nat(2), fc.nat(2), inner).map(([min, more, content]) => ({ type: 'repeat', min, max: min + more, content })),
  )
}

export const tagFormats: fc.Arbitrary<TagFormat> = fc.oneof(formatOfDepth(1), formatOfDepth(2), formatOfDepth(3))

export class TagJudge {
  readonly #ajv: Ajv2020
  readonly #known = new Map<string, ReadonlySet<number>>()
  readonly #ids = new Map<TagFormat, number>()
  #text = ''

  constructor(ajv: Ajv2020) {
    this.#ajv = ajv
  }

  accepts(format: TagFormat, text: string): boolean {
    this.#text = text
    this.#known.clear()
    return this.#ends(format, 0, []).has(text.length)
  }

  #ends(format: TagFormat, from: number, ends: readonly string[]): ReadonlySet<number> {
    const id = this.#ids.get(format) ?? this.#ids.size
    this.#ids.set(format, id)
    const key = `${id} ${from} ${ends.join('\0')}`
    const known = this.#known.get(key) ?? this.#judge(format, from, ends)
    this.#known.set(key, known)
    return known
  }

  #judge(format: TagFormat, from: number, ends: readonly string[]): ReadonlySet<number> {
    const { content, elements } = format as unknown as { content: TagFormat; elements: readonly TagFormat[] }
    const each = (starts: Iterable<number>, part: TagFormat): Set<number> =>
      new Set([...starts].flatMap((start) => [...this.#ends(part, start, ends)]))
    switch (format.type) {
      case 'const_string':
        return this.#text.startsWith(format['value'] as string, from) ? new Set([from + (format['value'] as string).length]) : new Set()
      case 'json_schema':
        return this.#places(from, (part) => this.#isValid(format['json_schema'], part))
      case 'regex':
        return this.#places(from, (part) => new RegExp(`^(?:${format['pattern'] as string})$`, 'u').test(part))
      case 'grammar':
        return this.#places(from, (part) => /^(r1|[0-9"\]]|)(,(r1|[0-9"\]]|))*$/.test(part))
      case 'any_text':
        return this.#free(from, [...(format['excludes'] as string[]), ...ends])
      case 'sequence':
        return elements.reduce<ReadonlySet<number>>((starts, part) => each(starts, part), new Set([from]))
      case 'or':
        return new Set(elements.flatMap((part) => [...this.#ends(part, from, ends)]))
      case 'optional':
        return new Set([from, ...this.#ends(content, from, ends)])
      case 'star':
        return many(new Set([from]), (start) => this.#ends(content, start, ends))
      case 'plus':
        return many(this.#ends(content, from, ends), (start) => this.#ends(content, start, ends))
      case 'repeat': {
        const found = new Set<number>()
        let starts: ReadonlySet<number> = new Set([from])
        for (let count = 0; count <= (format['max'] as number); count++) {
          if (count >= (format['min'] as number)) for (const start of starts) found.add(start)
          starts = each(starts, content)
        }
        return found
      }
      case 'tag':
        return this.#tag(format as unknown as TagShape, from)
      case 'tags_with_separator': {
        const { tags, separator, at_least_one, stop_after_first } = format as unknown as Separated
        const one = (start: number): number[] => tags.flatMap((tag) => [...this.#tag(tag, start)])
        const further = (start: number): number[] => (this.#text.startsWith(separator, start) ? one(start + separator.length) : [])
        const first = new Set(one(from))
        return new Set([...(at_least_one ? [] : [from]), ...(stop_after_first ? first : many(first, further))])
      }
      case 'triggered_tags': {
        const { tags, triggers, excludes, at_least_one, stop_after_first } = format as unknown as Triggered
        const after = (at: number): number[] =>
          triggers
            .filter((trigger) => this.#text.startsWith(trigger, at))
            .flatMap((trigger) => tags.filter(({ begin }) => begin.startsWith(trigger)).flatMap((tag) => [...this.#tag(tag, at)]))
        const first = at_least_one ? after(from) : null
        return this.#dispatched(first ?? [from], { first, triggers, excludes: [...excludes, ...ends], loop: !stop_after_first, after })
      }
      case 'dispatch': {
        const { rules, loop, excludes } = format as unknown as { rules: [string, TagFormat][]; loop: boolean; excludes: string[] }
        const after = (at: number): number[] =>
          rules
            .filter(([pattern]) => this.#text.startsWith(pattern, at))
            .flatMap(([pattern, part]) => [...this.#ends(part, at + pattern.length, ends)])
        return this.#dispatched([from], {
          first: null,
          triggers: rules.map(([pattern]) => pattern),
          excludes: [...excludes, ...ends],
          loop,
          after,
        })
      }
      default:
        throw new Error(`The judge knows no ${format.type}`)
    }
  }

  /** Free text, then at the first trigger in it what belongs to that, then free text again. */
  #dispatched(
    starts: readonly number[],
    {
      first,
      triggers,
      excludes,
      loop,
      after,
    }: {
      first: readonly number[] | null
      triggers: readonly string[]
      excludes: readonly string[]
      loop: boolean
      after: (at: number) => readonly number[]
    },
  ): ReadonlySet<number> {
    if (first !== null && !loop) return new Set(first)
    const found = new Set<number>()
    const queue = [...new Set(starts)]
    const seen = new Set(queue)
    for (const start of queue) {
      for (const end of this.#free(start, [...triggers, ...excludes])) found.add(end)
      const places = triggers.map((trigger) => this.#text.indexOf(trigger, start)).filter((at) => at >= 0)
      if (places.length === 0) continue
      const at = Math.min(...places)
      if (!this.#free(start, excludes).has(at)) continue
      for (const end of after(at)) {
        found.add(end)
        if (!loop || seen.has(end)) continue
        seen.add(end)
        queue.push(end)
      }
    }
    return found
  }

  #tag({ begin, content, end }: TagShape, from: number): ReadonlySet<number> {
    if (!this.#text.startsWith(begin, from)) return new Set()
    const ends = typeof end === 'string' ? [end] : end
    const inner = this.#ends(
      content,
      from + begin.length,
      ends.filter((mark) => mark !== ''),
    )
    const all = [...inner].flatMap((at) => ends.filter((mark) => this.#text.startsWith(mark, at)).map((mark) => at + mark.length))
    if (content.type !== 'any_text' || ends.includes('')) return new Set(all)
    // The first end in the text, looked for as a client would, is the tag's own.
    const first = Math.min(...ends.map((mark) => this.#text.indexOf(mark, from + begin.length)).filter((at) => at >= 0))
    return new Set(ends.filter((mark) => this.#text.startsWith(mark, first) && inner.has(first)).map((mark) => first + mark.length))
  }

  /** Where a text may stop that holds none of these. */
  #free(from: number, forbidden: readonly string[]): ReadonlySet<number> {
    const found = forbidden.map((text) => [this.#text.indexOf(text, from), text.length] as const).filter(([at]) => at >= 0)
    const last = Math.min(this.#text.length, ...found.map(([at, length]) => at + length - 1))
    return new Set(Array.from({ length: last - from + 1 }, (_, index) => from + index))
  }

  #places(from: number, fits: (part: string) => boolean): ReadonlySet<number> {
    const found = new Set<number>()
    for (let end = from; end <= this.#text.length; end++) if (fits(this.#text.slice(from, end))) found.add(end)
    return found
  }

  #isValid(schema: unknown, text: string): boolean {
    try {
      return this.#ajv.validate(schema as object, JSON.parse(text))
    } catch {
      return false
    }
  }
}

interface Triggered {
  readonly tags: readonly TagShape[]
  readonly triggers: readonly string[]
  readonly excludes: readonly string[]
  readonly at_least_one: boolean
  readonly stop_after_first: boolean
}

interface Separated {
  readonly tags: readonly TagShape[]
  readonly separator: string
  readonly at_least_one: boolean
  readonly stop_after_first: boolean
}

/** All places that steps lead to, however many. */
function many(starts: ReadonlySet<number>, step: (start: number) => Iterable<number>): Set<number> {
  const all = new Set(starts)
  for (const start of all) for (const end of step(start)) all.add(end)
  return all
}
