/**
 * What an answer may be bound to (specs/runtime.md §7), and the grammar that says so. Refuses what can't be enforced, so that an answer that
 * arrives is an answer that fits. Knows no tokens and no models.
 */
import { GrammarRules, anyOf, literal, optional, repeated, sequence } from './ebnf.ts'
import type { Ebnf } from './ebnf.ts'
import { invalid } from './invalid.ts'
import { JsonGrammar } from './json-grammar.ts'
import { plainCharacter, regularExpression } from './regular-expression.ts'
import { structuralTag } from './structural-tag.ts'

export type StructuredOutput =
  /** Any JSON object. */
  | { readonly kind: 'json' }
  | { readonly kind: 'json-schema'; readonly schema: unknown }
  /** The whole answer matches. */
  | { readonly kind: 'regex'; readonly pattern: string }
  /** Exactly one of these texts. */
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  /** EBNF in XGrammar's (GBNF-like) dialect with the rule `root`. */
  | { readonly kind: 'grammar'; readonly ebnf: string }
  /** Tags in free text, in XGrammar's words or in their older form; not checked yet. `param` is what errors call it. */
  | { readonly kind: 'structural-tag'; readonly tag: unknown; readonly param: string }
  /** For tool calls. */
  | { readonly kind: 'form'; readonly form: Form }

/** Texts and JSON values in order, by choice, or repeated. */
export type Form =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'json'; readonly schema: unknown }
  | { readonly kind: 'sequence'; readonly parts: readonly Form[] }
  | { readonly kind: 'any-of'; readonly parts: readonly Form[] }
  | { readonly kind: 'optional'; readonly part: Form }
  /** `most` null = without end. */
  | { readonly kind: 'repeated'; readonly part: Form; readonly least: number; readonly most: number | null }

/** Beyond this a grammar takes minutes to compile. */
const MAX_CHARACTERS = 1 << 20
const MAX_CHOICES = 4096

/** EBNF with the rule `root`. Throws `runtime.invalid-request` for what can't be enforced; a client's own grammar is checked where it is compiled. */
export function grammarText(output: StructuredOutput): string {
  const text = textOf(output)
  if (text.length > MAX_CHARACTERS) {
    throw invalid(
      `The answer's form makes a grammar of ${text.length} characters; ${MAX_CHARACTERS} are the most.`,
      'Describe a simpler form.',
    )
  }
  return text
}

function textOf(output: StructuredOutput): string {
  const rules = new GrammarRules()
  switch (output.kind) {
    case 'json':
      return rules.text(new JsonGrammar(rules).object())
    case 'json-schema':
      return rules.text(new JsonGrammar(rules).schema(output.schema))
    case 'regex':
      if (output.pattern === '') throw invalid('The regular expression is empty.', 'Give a pattern that the whole answer must match.')
      return rules.text(regularExpression(output.pattern, plainCharacter))
    case 'choice':
      return rules.text(choice(output.choices))
    case 'grammar':
      if (output.ebnf.trim() === '') throw invalid('The grammar is empty.', 'Give EBNF rules, one of them named root.')
      return output.ebnf
    case 'structural-tag':
      return rules.text(structuralTag(output.tag, output.param, rules))
    case 'form':
      return rules.text(formExpression(output.form, rules, new JsonGrammar(rules)))
  }
}

function formExpression(form: Form, rules: GrammarRules, json: JsonGrammar): Ebnf {
  const inner = (part: Form): Ebnf => formExpression(part, rules, json)
  switch (form.kind) {
    case 'text':
      return literal(form.text)
    case 'json':
      return rules.add(json.schema(form.schema))
    case 'sequence':
      return sequence(form.parts.map(inner))
    case 'any-of':
      return anyOf(form.parts.map(inner))
    case 'optional':
      return optional(inner(form.part))
    case 'repeated':
      return repeated(rules.add(inner(form.part)), form.least, form.most)
  }
}

function choice(choices: readonly string[]): Ebnf {
  if (choices.length === 0 || choices.length > MAX_CHOICES)
    throw invalid(`There are ${choices.length} choices.`, `Give 1 to ${MAX_CHOICES}.`)
  for (const text of choices) {
    if (text === '') throw invalid('A choice is empty.', 'Every choice needs at least one character.')
    if (!text.isWellFormed()) throw invalid('A choice holds half a character.', 'Send whole Unicode characters.')
  }
  return anyOf(choices.map(literal))
}
