/**
 * A client's own EBNF as a part of a larger grammar: its rules get names of their own, and what only makes sense for a whole answer is refused.
 * Knows only the dialect's words, not its meaning; what is no grammar is found where the whole is compiled.
 */
import type { Ebnf, GrammarRules } from './ebnf.ts'
import { invalid } from './invalid.ts'

/**
 * Comments, texts, sets, names with the sign of a definition behind them, and the opening of a look-ahead. What never closes is matched too: looking
 * for its end from every place where it could begin would take time in the square of the length.
 */
const WORDS = /#[^\n]*|"(?:[^"\\\n]|\\.)*"?|\[(?:[^\]\\\n]|\\.)*\]?|([A-Za-z_][\w.-]*)(\s*::=)?|\(\s*=/g

/** Throws `runtime.invalid-request`. */
export function nestedGrammar(ebnf: string, rules: GrammarRules): Ebnf {
  const words = [...ebnf.matchAll(WORDS)]
  const defined = new Map<string, string>()
  for (const [, name, definition] of words) {
    if (name === undefined || definition === undefined) continue
    if (defined.has(name)) throw invalid(`The grammar defines the rule "${name}" twice.`, 'Give every rule one definition.')
    defined.set(name, rules.reserve())
  }
  const root = defined.get('root')
  if (root === undefined) throw invalid('The grammar has no rule "root".', 'Give EBNF rules, one of them named root.')
  let rule: string | null = null
  let text = ''
  let end = 0
  const close = (): void => {
    if (rule !== null) rules.define(rule, text.trim())
    else if (text.trim() !== '') throw invalid('The grammar has something in front of its first rule.', 'Begin with "name ::=".')
    text = ''
  }
  for (const word of words) {
    const [whole, name, definition] = word
    text += ebnf.slice(end, word.index).replaceAll(/\s+/g, ' ')
    end = word.index + whole.length
    if (whole.startsWith('#')) continue
    if (whole.startsWith('('))
      throw invalid('The grammar looks ahead with "(=".', 'Look-ahead is understood in a whole grammar only; leave it out.')
    if (name === undefined) {
      if (whole.length < 2 || whole.at(-1) !== (whole.startsWith('[') ? ']' : '"'))
        throw invalid(`The grammar opens ${whole.slice(0, 40)} and never closes it on that line.`, 'Close it.')
      text += whole
      continue
    }
    if (definition !== undefined) {
      close()
      rule = defined.get(name) ?? null
      continue
    }
    const known = defined.get(name)
    if (known === undefined)
      throw invalid(
        `The grammar uses "${name}" and has no rule of that name.`,
        'Define it; TagDispatch is for whole answers: use triggered_tags.',
      )
    text += known
  }
  text += ebnf.slice(end).replaceAll(/\s+/g, ' ')
  close()
  return root
}
