/** Filters of generated answers, by lm-eval's names (specs/evaluation.md §2.2). Each works on the list of answers of one document, in order. */
import { LatheError } from '../../contract/errors.ts'
import { withTimeLimit } from '../../checkpoint/time-limit.ts'
import { findAll, pythonRegex } from './python-regex.ts'
import type { FilterPipeline, FilterStep } from './task-config.ts'

/** One list per document. */
export type Responses = readonly (readonly string[])[]
type Filter = (answers: readonly string[], choices: readonly string[]) => readonly string[]

/** All answers of a task under one pattern; a pattern that backtracks for longer is broken. */
const REGEX_LIMIT_MS = 20_000
const PUNCTUATION = /[!-/:-@[-`{-~]/g

function invalid(step: FilterStep, problem: string): LatheError {
  return new LatheError('evaluate.invalid-data', `The filter "${step.function}" ${problem}.`, 'Correct filter_list.')
}

function string(step: FilterStep, key: string, fallback: string): string {
  const value = step.options[key]
  if (value === undefined || value === null) return fallback
  if (typeof value !== 'string') throw invalid(step, `needs text under ${key}`)
  return value
}

function integer(step: FilterStep, key: string, fallback: number): number {
  const value = step.options[key] ?? fallback
  if (typeof value !== 'number' || !Number.isInteger(value)) throw invalid(step, `needs a whole number under ${key}`)
  return value
}

/** Python's indexing: −1 is the last. */
function pick<T>(values: readonly T[], index: number): T | undefined {
  return values.at(index)
}

function flatten(match: string | readonly string[] | undefined): string | null {
  if (match === undefined) return null
  return typeof match === 'string' ? match : (match.find((group) => group !== '') ?? null)
}

function regexFilter(step: FilterStep): Filter {
  const regex = pythonRegex(string(step, 'regex_pattern', '#### (\\-?[0-9\\.\\,]+)'))
  const select = integer(step, 'group_select', 0)
  const fallback = string(step, 'fallback', '[invalid]')
  return (answers) => answers.map((answer) => flatten(pick(findAll(regex, answer), select))?.trim() ?? fallback)
}

/** As `regex`, then the text of a choice, then a letter after a colon. */
function choiceRegexFilter(step: FilterStep): Filter {
  const regex = pythonRegex(string(step, 'regex_pattern', '#### (\\-?[0-9\\.\\,]+)'))
  const select = integer(step, 'group_select', 0)
  const fallback = string(step, 'fallback', '[invalid]')
  const ignored = patterns(step, 'regexes_to_ignore')
  const normalize = (text: string): string => {
    let out = ignored.reduce((current, pattern) => current.replaceAll(pattern, ''), text)
    if (step.options['ignore_case'] === true) out = out.toLowerCase()
    return step.options['ignore_punctuation'] === true ? out.replaceAll(PUNCTUATION, '') : out
  }
  const find = (pattern: RegExp, text: string): string | null => flatten(pick(findAll(pattern, text), select))?.trim() ?? null
  return (answers, choices) => {
    const letters = choices.map((_, i) => String.fromCodePoint(65 + i))
    const texts = choices.map((choice) => normalize(choice.trim()))
    const anyText = texts.length === 0 ? null : new RegExp(texts.map((text) => escapeRegex(text)).join('|'), 'gu')
    const anyLetter = letters.length === 0 ? null : new RegExp(`:\\s*(${letters.join('|')})`, 'gu')
    return answers.map((answer) => {
      const direct = find(regex, answer)
      if (direct !== null && direct !== '') return direct
      const byText = anyText === null ? null : find(anyText, normalize(answer))
      if (byText !== null && byText !== '') return texts.includes(byText) ? `(${letters[texts.lastIndexOf(byText)] ?? ''})` : byText
      const byLetter = anyLetter === null ? null : find(anyLetter, answer)
      return byLetter === null || byLetter === '' ? fallback : `(${byLetter})`
    })
  }
}

function escapeRegex(text: string): string {
  return text.replaceAll(/[\^$\\.*+?()[\]{}|/]/g, '\\$&')
}

function mapFilter(step: FilterStep): Filter {
  const mapping = step.options['mapping_dict']
  if (typeof mapping !== 'object' || mapping === null) throw invalid(step, 'needs mapping_dict')
  const table = new Map(Object.entries(mapping).map(([key, value]) => [key, String(value)]))
  const fallback = step.options['default_value']
  return (answers) => answers.map((answer) => table.get(answer) ?? (fallback === undefined || fallback === null ? '' : String(fallback)))
}

function majority(answers: readonly string[]): readonly string[] {
  const counts = new Map<string, number>()
  for (const answer of answers) counts.set(answer, (counts.get(answer) ?? 0) + 1)
  let best: readonly [string, number] | null = null
  // Of equals, the one that came first, as Counter.most_common has it.
  for (const entry of counts) if (best === null || entry[1] > best[1]) best = entry
  return best === null ? [] : [best[0]]
}

export function patterns(step: { readonly options: Readonly<Record<string, unknown>> }, key: string): RegExp[] {
  const value = step.options[key]
  if (value === undefined || value === null) return []
  return (Array.isArray(value) ? value : [value]).map((pattern) => pythonRegex(String(pattern)))
}

const FILTERS: Readonly<Record<string, (step: FilterStep) => Filter>> = {
  regex: regexFilter,
  multi_choice_regex: choiceRegexFilter,
  map: mapFilter,
  remove_whitespace: () => (answers) => answers.map((answer) => answer.trim()),
  lowercase: () => (answers) => answers.map((answer) => answer.toLowerCase()),
  uppercase: () => (answers) => answers.map((answer) => answer.toUpperCase()),
  take_first: () => (answers) => answers.slice(0, 1),
  take_first_k: (step) => {
    const k = integer(step, 'k', 1)
    return (answers) => answers.slice(0, k)
  },
  majority_vote: () => majority,
}

/** Throws `evaluate.unsupported-task` for a filter that is not known, before anything is asked of the model. */
export function compilePipeline(pipeline: FilterPipeline): (responses: Responses, choices: readonly (readonly string[])[]) => Responses {
  const steps = pipeline.steps.map((step) => {
    const make = Object.hasOwn(FILTERS, step.function) ? FILTERS[step.function] : undefined
    if (make === undefined)
      throw new LatheError(
        'evaluate.unsupported-task',
        `The filter "${step.function}" is not known.`,
        `Use one of ${Object.keys(FILTERS).join(', ')}.`,
      )
    return make(step)
  })
  return (responses, choices) =>
    withTimeLimit(
      REGEX_LIMIT_MS,
      () => responses.map((answers, i) => steps.reduce<readonly string[]>((current, step) => step(current, choices[i] ?? []), answers)),
      () =>
        new LatheError(
          'evaluate.invalid-data',
          `The filter "${pipeline.name}" takes over ${REGEX_LIMIT_MS / 1000} seconds.`,
          'Its pattern backtracks too much: simplify it.',
        ),
    )
}
