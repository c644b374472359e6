/**
 * Structural tags as grammars: XGrammar's description of answers that mix free text with tags whose content has a form, in the words of its
 * documentation ("Structural Tag Usage", 0.2), and the older shape with `structures` and `triggers` that vLLM and SGLang still take. Every field is
 * either enforced or refused by its place. What speaks of single tokens, and the XML styles of `json_schema`, are refused: the grammar sees text.
 *
 * Free text ends where the end of the tag around it first appears, and a trigger in it must go on as one of its tags, as there.
 */
import { EMPTY, anyOf, literal, optional, repeated, sequence } from './ebnf.ts'
import type { Ebnf, GrammarRules } from './ebnf.ts'
import { canBeLookedFor, freeText } from './free-text.ts'
import { JsonGrammar } from './json-grammar.ts'
import { nestedGrammar } from './nested-grammar.ts'
import { plainCharacter, regularExpression } from './regular-expression.ts'
import { Fields } from './tag-fields.ts'

const KINDS =
  'const_string, json_schema, regex, grammar, any_text, sequence, or, optional, plus, star, repeat, tag, triggered_tags, tags_with_separator and dispatch'
const BY_TOKEN = new Set(['token', 'exclude_token', 'any_tokens', 'token_triggered_tags', 'token_dispatch'])
/** Each is looked at for each of the others in every free text. */
const MAX_ENDS = 32
const MAX_FORMATS = 4096
/** Deeper is no description that a person wrote, and each level calls the next. */
const MAX_DEPTH = 64
/** A count above this makes a grammar that takes minutes. */
const MAX_REPEAT = 4096
/** Each of its characters makes a rule. */
const MAX_MARKER = 1024

/** Where a part stands. */
interface Surroundings {
  /** Ends of the nearest tag around it: free text may not hold them. */
  readonly ends: readonly string[]
  /** One of the ends, as grammar. */
  readonly ending: Ebnf
  /** The part is the last of that tag, and brings the end itself. */
  readonly closes: boolean
  readonly depth: number
}

const OUTSIDE: Surroundings = { ends: [], ending: EMPTY, closes: false, depth: 0 }

interface Tag {
  readonly begin: string
  readonly ends: readonly string[]
  /** The content and, as the surroundings say, the end. */
  readonly content: (around: Surroundings) => Ebnf
  readonly place: Fields
}

/** A text, and what must follow where free text comes to it. */
interface Dispatch {
  readonly trigger: string
  readonly goesOn: Ebnf
}

/** Throws `runtime.invalid-request`; its data holds `param`, the place of what can't be enforced. */
export function structuralTag(tag: unknown, param: string, rules: GrammarRules): Ebnf {
  const fields = new Fields(tag, param)
  const grammar = new TagGrammar(rules)
  fields.optionalWord('type', ['structural_tag'])
  if (!fields.has('structures')) {
    fields.only(['type', 'format'])
    return grammar.format(fields.object('format'), OUTSIDE)
  }
  fields.only(['type', 'structures', 'triggers', 'at_least_one', 'stop_after_first'])
  const structures = fields.objects('structures').map((structure): Tag => {
    structure.only(['begin', 'schema', 'end'])
    return {
      begin: structure.text('begin'),
      ends: [structure.text('end')],
      content: ({ ending }) => sequence([grammar.schema(structure, 'schema', { optional: true }), ending]),
      place: structure,
    }
  })
  return grammar.triggered(fields, structures, OUTSIDE)
}

/** The text with which every answer begins, as far as the outermost formats say so; null = they don't. Never throws. */
export function openingText(tag: unknown): string | null {
  let format = (tag as { format?: unknown } | null)?.format
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const { type, elements, begin, value } = (format ?? {}) as Readonly<Record<string, unknown>>
    const text = type === 'tag' ? begin : type === 'const_string' ? value : null
    if (typeof text === 'string') return text
    if (type !== 'sequence' || !Array.isArray(elements)) return null
    format = (elements as unknown[])[0]
  }
  return null
}

class TagGrammar {
  readonly #rules: GrammarRules
  readonly #json: JsonGrammar
  #formats = 0

  constructor(rules: GrammarRules) {
    this.#rules = rules
    this.#json = new JsonGrammar(rules)
  }

  format(fields: Fields, around: Surroundings): Ebnf {
    if (around.depth > MAX_DEPTH) throw fields.refused('', `The format is nested more than ${MAX_DEPTH} deep.`, 'Describe it flatter.')
    if (++this.#formats > MAX_FORMATS) throw fields.refused('', `There are over ${MAX_FORMATS} formats.`, 'Describe it with fewer.')
    const inside = { ...around, depth: around.depth + 1 }
    const kind = fields.text('type')
    const closed = (content: Ebnf): Ebnf => (around.closes ? sequence([content, around.ending]) : content)
    switch (kind) {
      case 'const_string':
        fields.only(['type', 'value'])
        return closed(literal(fields.text('value')))
      case 'json_schema':
        fields.only(['type', 'json_schema', 'style', 'any_order'])
        fields.optionalWord('style', ['json'])
        if (fields.flag('any_order'))
          throw fields.refused('any_order', 'Properties come in the order of the schema.', 'Leave "any_order" out.')
        return closed(this.schema(fields, 'json_schema', { optional: false }))
      case 'regex':
        fields.only(['type', 'pattern'])
        return closed(fields.at('pattern', () => regularExpression(fields.filledText('pattern'), plainCharacter)))
      case 'grammar':
        fields.only(['type', 'grammar'])
        return closed(fields.at('grammar', () => nestedGrammar(fields.filledText('grammar'), this.#rules)))
      case 'any_text':
        fields.only(['type', 'excludes'])
        return this.#freeText(fields, [], false, around)
      case 'sequence': {
        fields.only(['type', 'elements'])
        const elements = fields.objects('elements')
        return sequence(
          elements.map((part, index) => this.format(part, { ...inside, closes: around.closes && index === elements.length - 1 })),
        )
      }
      case 'or':
        fields.only(['type', 'elements'])
        return this.#rules.add(anyOf(fields.objects('elements').map((part) => this.format(part, inside))))
      case 'optional':
      case 'plus':
      case 'star':
      case 'repeat':
        return closed(this.#repeated(kind, fields, { ...inside, closes: false }))
      case 'tag':
        return closed(this.#tag(this.#tagOf(fields), '', inside))
      case 'triggered_tags':
        fields.only(['type', 'triggers', 'tags', 'at_least_one', 'stop_after_first', 'excludes'])
        return this.triggered(fields, this.#tagsOf(fields), inside)
      case 'tags_with_separator':
        fields.only(['type', 'tags', 'separator', 'at_least_one', 'stop_after_first'])
        return closed(this.#separated(fields, inside))
      case 'dispatch': {
        fields.only(['type', 'rules', 'loop', 'excludes'])
        const dispatches = fields.pairs('rules').map(({ text, fields: content }): Dispatch => ({
          trigger: text,
          goesOn: this.#rules.add(this.format(content, { ...inside, closes: false })),
        }))
        return this.#freeText(fields, dispatches, fields.flag('loop', true), inside)
      }
      default: {
        const why = BY_TOKEN.has(kind)
          ? `"${kind}" speaks of single tokens, where answers are bound by their text.`
          : kind === 'qwen_xml_parameter'
            ? '"qwen_xml_parameter" writes values as XML, for which there is no exact grammar here.'
            : `${JSON.stringify(kind)} is no known format.`
        throw fields.refused('type', why, `Understood are ${KINDS}.`)
      }
    }
  }

  schema(fields: Fields, name: string, wanted: { readonly optional: boolean }): Ebnf {
    const schema = fields.schema(name, wanted)
    return fields.at(name, () => this.#rules.add(this.#json.schema(schema)))
  }

  /** Free text in which a trigger must go on as one of the tags that begin with it. */
  triggered(fields: Fields, tags: readonly Tag[], around: Surroundings): Ebnf {
    const triggers = fields.texts('triggers', 1)
    const loop = !fields.flag('stop_after_first')
    const matching = tags.map(({ begin, place }) => {
      const matches = triggers.filter((trigger) => begin.startsWith(trigger))
      if (matches.length !== 1)
        throw place.refused(
          'begin',
          `${matches.length === 0 ? 'No trigger begins' : `${matches.length} triggers begin`} the tag ${JSON.stringify(begin)}.`,
          'Each tag needs exactly one trigger that its "begin" starts with.',
        )
      return matches[0]
    })
    const dispatches = triggers.map((trigger, index): Dispatch => {
      const own = tags.filter((_, at) => matching[at] === trigger)
      if (own.length === 0)
        throw fields.refused(`triggers.${index}`, `No tag begins with ${JSON.stringify(trigger)}.`, 'Leave the trigger out or add its tag.')
      return { trigger, goesOn: this.#rules.add(anyOf(own.map((tag) => this.#tag(tag, trigger, around)))) }
    })
    if (!fields.flag('at_least_one')) return this.#freeText(fields, dispatches, loop, around)
    const first = this.#rules.add(anyOf(dispatches.map(({ trigger, goesOn }) => sequence([literal(trigger), goesOn]))))
    if (loop) return sequence([first, this.#freeText(fields, dispatches, true, around)])
    // Nothing is left in which something could be excluded.
    fields.texts('excludes', 0)
    return around.closes ? sequence([first, around.ending]) : first
  }

  #tagsOf(fields: Fields): readonly Tag[] {
    return fields.objects('tags').map((tag) => this.#tagOf(tag))
  }

  #tagOf(fields: Fields): Tag {
    fields.optionalWord('type', ['tag'])
    fields.only(['type', 'begin', 'content', 'end'])
    const content = fields.object('content')
    const ends = fields.oneOrMoreTexts('end')
    if (ends.length > MAX_ENDS) throw fields.refused('end', `"end" lists ${ends.length}.`, `Give 1 to ${MAX_ENDS}.`)
    return {
      begin: fields.text('begin'),
      ends,
      content: (around) => this.format(content, around),
      place: fields,
    }
  }

  /** What is left of the tag behind the beginning that stands already. */
  #tag({ begin, ends, content }: Tag, before: string, { depth }: Surroundings): Ebnf {
    return sequence([
      literal(begin.slice(before.length)),
      content({ ends, ending: this.#rules.add(anyOf(ends.map(literal))), closes: true, depth }),
    ])
  }

  #separated(fields: Fields, around: Surroundings): Ebnf {
    const tag = this.#rules.add(anyOf(this.#tagsOf(fields).map((one) => this.#tag(one, '', around))))
    const further = this.#rules.add(sequence([literal(fields.text('separator')), tag]))
    const tags = fields.flag('stop_after_first') ? tag : sequence([tag, repeated(further, 0, null)])
    return fields.flag('at_least_one') ? tags : optional(tags)
  }

  #repeated(kind: 'optional' | 'plus' | 'star' | 'repeat', fields: Fields, around: Surroundings): Ebnf {
    fields.only(kind === 'repeat' ? ['type', 'content', 'min', 'max'] : ['type', 'content'])
    const content = this.#rules.add(this.format(fields.object('content'), around))
    if (kind === 'optional') return optional(content)
    if (kind !== 'repeat') return repeated(content, kind === 'plus' ? 1 : 0, null)
    const [least, most] = [fields.integer('min'), fields.integer('max')]
    if (least < 0 || least > MAX_REPEAT) throw fields.refused('min', `"min" is ${least}.`, `Give 0 to ${MAX_REPEAT}.`)
    if (most !== -1 && (most < least || most > MAX_REPEAT))
      throw fields.refused('max', `"max" is ${most}.`, `Give ${least} to ${MAX_REPEAT}, or -1 for no end.`)
    return repeated(content, least, most === -1 ? null : most)
  }

  #freeText(fields: Fields, dispatches: readonly Dispatch[], loop: boolean, { ends, ending, closes }: Surroundings): Ebnf {
    // An empty end is no mark: it may come anywhere.
    const marks = ends.filter((end) => end !== '')
    const excludes = fields.texts('excludes', 0)
    const triggers = dispatches.map(({ trigger }) => trigger)
    checkMarkers(fields, { triggers, marks, excludes, closes })
    // Where one end begins with another, the shorter one decides that the text is over.
    const first = marks.filter((mark) => !marks.some((other) => other !== mark && mark.startsWith(other)))
    const closing = new Map(
      first.map((mark) => [mark, anyOf(marks.filter((other) => other.startsWith(mark)).map((other) => literal(other.slice(mark.length))))]),
    )
    return freeText(this.#rules, !closes || marks.length < ends.length, (again) => {
      const after = loop ? again : closes ? ending : EMPTY
      return new Map<string, Ebnf | null>([
        ...excludes.map((text) => [text, null] as const),
        ...first.map((mark) => [mark, closes ? (closing.get(mark) ?? EMPTY) : null] as const),
        ...dispatches.map(({ trigger, goesOn }) => [trigger, sequence([goesOn, after])] as const),
      ])
    })
  }
}

/** What is looked for in free text must be able to come up there, and must say which of them it is. */
function checkMarkers(
  fields: Fields,
  found: {
    readonly triggers: readonly string[]
    readonly marks: readonly string[]
    readonly excludes: readonly string[]
    readonly closes: boolean
  },
): void {
  const { triggers, marks, excludes, closes } = found
  const all = [
    ...triggers.map((text) => ['trigger', text] as const),
    ...marks.map((text) => ['end', text] as const),
    ...excludes.map((text) => ['exclude', text] as const),
  ]
  for (const [index, [kind, text]] of all.entries()) {
    if (!canBeLookedFor(text))
      throw fields.refused(
        '',
        `The ${kind} ${JSON.stringify(text)} begins with a character beyond ASCII, for which free text can't be searched exactly.`,
        'Begin it with an ASCII character, or describe what stands before it by a regex.',
      )
    if (text.length > MAX_MARKER)
      throw fields.refused('', `A text to be looked for has ${text.length} characters.`, `${MAX_MARKER} are the most.`)
    if (kind === 'exclude' || (kind === 'end' && !closes)) continue
    const within = all.find(([otherKind, other], at) => {
      if (at === index || !text.includes(other)) return false
      // An end may be named as excluded too, and may begin with another end.
      if (kind === 'end') return otherKind === 'exclude' ? other !== text : otherKind === 'trigger' || !text.startsWith(other)
      return true
    })
    if (within !== undefined)
      throw fields.refused(
        '',
        `The ${kind} ${JSON.stringify(text)} holds the ${within[0]} ${JSON.stringify(within[1])}, so free text would never come to it.`,
        'Let none of the triggers, ends and excludes hold another one.',
      )
  }
}
