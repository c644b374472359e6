/**
 * From documents to requests: fields and templates, few-shot examples, chat turns (specs/evaluation.md §2.1–2.5, lm-eval's rules of delimiters).
 * Everything is decided here, in the order of the documents, before anything is asked: so a run that was cut off builds the same prompts again.
 */
import { createHash } from 'node:crypto'
import { LatheError } from '../../contract/errors.ts'
import { parsePythonLiteral, pythonRepresentation, pythonText } from './python-literal.ts'
import { PythonRandom } from './python-random.ts'
import type { ChatTurnText, EvaluationTarget } from './target.ts'
import type { FieldSource, TaskConfig } from './task-config.ts'
import { renderTemplate } from './template.ts'
import type { Doc } from './template.ts'

/** lm-eval's default seed of few-shot draws. */
const FEWSHOT_SEED = 1234

export interface PromptOptions {
  /** null = what the task says, else 0. A task that says 0 keeps it. */
  readonly fewshot: number | null
  readonly chatTemplate: boolean
  readonly fewshotAsMultiturn: boolean
  readonly systemInstruction: string | null
}

export const PLAIN_PROMPTS: PromptOptions = { fewshot: null, chatTemplate: false, fewshotAsMultiturn: true, systemInstruction: null }

/** Right answer: an index into the choices, several of them, or text. */
export type Gold = number | readonly number[] | string | readonly string[]

export interface PreparedItem {
  readonly docId: number
  readonly doc: Doc
  readonly docHash: string
  /** What the model reads before its answer; one per choice where contexts vary. */
  readonly contexts: readonly string[]
  /** As turns, where a conversation is sent as one. */
  readonly turns: readonly ChatTurnText[] | null
  readonly choices: readonly string[]
  /** With the delimiter in front; empty for generation. */
  readonly continuations: readonly string[]
  readonly gold: Gold
  /** The right answer as text. */
  readonly target: string
  readonly promptHash: string
  readonly cluster: string | null
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** lm-eval's digest of a document: JSON with an indent of 2. */
export function docHash(doc: Doc): string {
  return sha256(JSON.stringify(doc, null, 2))
}

function resolveText(source: string, doc: Doc): unknown {
  return Object.hasOwn(doc, source) ? doc[source] : renderTemplate(source, doc)
}

export function choicesOf(source: FieldSource | null, doc: Doc): string[] {
  if (source === null) return []
  if (typeof source === 'number')
    throw new LatheError('evaluate.invalid-data', 'doc_to_choice is a number.', 'Name the field with the choices.')
  if (typeof source !== 'string') return source.map((choice) => renderTemplate(String(choice), doc))
  const value = resolveText(source, doc)
  const parsed = typeof value === 'string' ? parsePythonLiteral(value) : value
  if (!Array.isArray(parsed)) {
    const entries = typeof parsed === 'object' && parsed !== null ? Object.values(parsed) : null
    if (entries === null)
      throw new LatheError(
        'evaluate.invalid-data',
        `doc_to_choice gave ${JSON.stringify(value)?.slice(0, 80)}, which is no list.`,
        'Use a field that holds a list, or a template that prints one.',
      )
    return entries.map(pythonText)
  }
  return parsed.map(pythonText)
}

/** A number picks a choice as the text, for tasks whose contexts vary. */
export function textOf(source: FieldSource, doc: Doc, hasChoices: boolean): string | number {
  if (typeof source === 'number') return source
  if (typeof source !== 'string') return source.map(String).join('')
  const value = resolveText(source, doc)
  if (typeof value === 'number' && hasChoices) return value
  const text = pythonText(value)
  return hasChoices && /^\d+$/.test(text) ? Number(text) : text
}

export function goldOf(source: FieldSource | null, doc: Doc, hasChoices: boolean): Gold {
  if (source === null) return ''
  if (typeof source === 'number') return source
  if (typeof source !== 'string') return source.every((value) => typeof value === 'number') ? (source as number[]) : source.map(String)
  const value = resolveText(source, doc)
  if (typeof value === 'number') return hasChoices ? value : pythonText(value)
  if (typeof value === 'boolean') return hasChoices ? Number(value) : pythonText(value)
  if (Array.isArray(value)) return value.every((entry) => typeof entry === 'number') ? (value as number[]) : value.map(pythonText)
  const text = pythonText(value)
  if (hasChoices && /^\d+$/.test(text)) return Number(text)
  if (text.startsWith('[') && text.endsWith(']')) {
    const parsed = parsePythonLiteral(text)
    if (Array.isArray(parsed)) return parsed.every((entry) => typeof entry === 'number') ? (parsed as number[]) : parsed.map(pythonText)
  }
  return text
}

/** The first right answer as text. */
export function goldText(gold: Gold, choices: readonly string[]): string {
  const first: unknown = Array.isArray(gold) ? gold[0] : gold
  if (typeof first === 'number') return choices[first] ?? String(first)
  return typeof first === 'string' ? first : ''
}

const endsInSpace = (text: string): boolean => /\s$/u.test(text)
const startsWithSpace = (text: string): boolean => /^\s/u.test(text)

/** Joined with the delimiter unless there is a space at the border already. */
function delimited(left: string, right: string, delimiter: string): string {
  if (left === '') return right
  if (right === '') return left
  return endsInSpace(left) || startsWithSpace(right) ? left + right : left + delimiter + right
}

interface Turn {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
  /** What follows in plain text. */
  readonly suffix: string
}

function questionTurns(question: string, answer: string | null, genPrefix: string, delimiter: string, after: string): Turn[] {
  const needsDelimiter =
    answer !== null
      ? genPrefix === '' || !(question === '' || endsInSpace(question) || startsWithSpace(genPrefix))
      : genPrefix !== '' && question !== '' && !endsInSpace(question) && !startsWithSpace(genPrefix)
  const turns: Turn[] = [{ role: 'user', content: question, suffix: needsDelimiter ? delimiter : '' }]
  if (answer !== null) turns.push({ role: 'assistant', content: delimited(genPrefix, answer, ' '), suffix: after })
  else if (genPrefix !== '') turns.push({ role: 'assistant', content: genPrefix, suffix: '' })
  return turns
}

/** Everything between the system turn and an open answer in one user turn. */
function singleTurn(turns: readonly Turn[]): Turn[] {
  const system = turns[0]?.role === 'system' ? [turns[0]] : []
  const open = turns.at(-1)?.role === 'assistant' ? turns.slice(-1) : []
  const middle = turns.slice(system.length, turns.length - open.length)
  return [
    ...system,
    {
      role: 'user',
      content: middle
        .map((turn) => turn.content + turn.suffix)
        .join('')
        .trimEnd(),
      suffix: '',
    },
    ...open,
  ]
}

/** Draws the examples of each document in order. */
class FewshotSampler {
  readonly #task: TaskConfig
  readonly #docs: readonly Doc[]
  readonly #sharesSplit: boolean
  readonly #random = new PythonRandom(FEWSHOT_SEED)

  constructor(task: TaskConfig, docs: readonly Doc[], sharesSplit: boolean) {
    this.#task = task
    this.#docs = docs
    this.#sharesSplit = sharesSplit
  }

  draw(count: number, doc: Doc): Doc[] {
    if (count === 0) return []
    const own = this.#sharesSplit ? docHash(doc) : null
    const needed = this.#sharesSplit ? count + 1 : count
    if (this.#docs.length < needed) {
      throw new LatheError(
        'evaluate.invalid-data',
        `${this.#task.name} asks for ${count} examples; its source has ${this.#docs.length} documents.`,
        'Ask for fewer examples, or give it a larger few-shot split.',
      )
    }
    const { sampler } = this.#task.fewshotConfig
    const drawn = sampler === 'first_n' ? this.#docs.slice(0, needed) : this.#random_(sampler, needed, doc)
    return drawn.filter((example) => own === null || docHash(example) !== own).slice(0, count)
  }

  #random_(sampler: 'default' | 'per_document', count: number, doc: Doc): Doc[] {
    const random =
      sampler === 'default' ? this.#random : new PythonRandom(Number.parseInt(sha256(`${FEWSHOT_SEED}:${docHash(doc)}`).slice(0, 8), 16))
    return random.sampleIndices(this.#docs.length, count).map((index) => this.#docs[index] ?? {})
  }
}

export interface TaskDocuments {
  readonly docs: readonly Doc[]
  readonly fewshot: readonly Doc[]
  /** True when examples come from the documents that are evaluated. */
  readonly sharesSplit: boolean
}

/** How many examples this run shows. A task that says 0 keeps it. */
export function fewshotCount(task: TaskConfig, options: PromptOptions): number {
  return task.fewshot === 0 ? 0 : (options.fewshot ?? task.fewshot ?? 0)
}

export function prepareItems(
  task: TaskConfig,
  documents: TaskDocuments,
  target: Pick<EvaluationTarget, 'renderChat' | 'name'>,
  options: PromptOptions,
): PreparedItem[] {
  const count = fewshotCount(task, options)
  const sampler = new FewshotSampler(task, documents.fewshot, documents.sharesSplit)
  return documents.docs.map((doc, docId) => {
    const examples = sampler.draw(count, doc)
    return inTask(task, docId, () => {
      const item = prepareItem(task, doc, docId, examples, target, options)
      // Before the first request, not after the last.
      if (task.outputType === 'multiple_choice') mustHaveGold(item)
      return item
    })
  })
}

/** Of several tasks and thousands of documents, the one that is wrong has a name. */
function inTask<T>(task: TaskConfig, docId: number, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof LatheError)) throw error
    throw new LatheError(error.code, `${task.name}, document ${docId}: ${error.message}`, error.hint, { cause: error })
  }
}

/** Places of the right answers among the choices; empty where none is one of them. */
export function goldIndices(gold: Gold, choices: readonly string[]): readonly number[] {
  const list: readonly unknown[] = Array.isArray(gold) ? gold : [gold]
  return list
    .map((entry) => (typeof entry === 'number' ? entry : choices.indexOf(String(entry))))
    .filter((index) => index >= 0 && index < choices.length)
}

function mustHaveGold({ gold, choices }: PreparedItem): void {
  if (goldIndices(gold, choices).length > 0) return
  throw new LatheError(
    'evaluate.invalid-data',
    `the right answer (${JSON.stringify(gold)}) is not one of its ${choices.length} choices.`,
    'Check doc_to_target and doc_to_choice.',
  )
}

function prepareItem(
  task: TaskConfig,
  doc: Doc,
  docId: number,
  examples: readonly Doc[],
  target: Pick<EvaluationTarget, 'renderChat' | 'name'>,
  options: PromptOptions,
): PreparedItem {
  const hasChoices = task.docToChoice !== null
  const choices = choicesOf(task.docToChoice, doc)
  const question = textOf(task.docToText, doc, hasChoices)
  const gold = goldOf(task.docToTarget, doc, hasChoices)
  const genPrefix = task.genPrefix === null ? '' : renderTemplate(task.genPrefix, doc)
  const system = delimited(
    options.systemInstruction ?? '',
    task.description === '' ? '' : renderTemplate(task.description, doc),
    task.fewshotDelimiter,
  )
  const head: Turn[] = system === '' ? [] : [{ role: 'system', content: system, suffix: '' }]
  for (const example of examples) head.push(...exampleTurns(task, example, genPrefix))
  const isRolling = task.outputType === 'loglikelihood_rolling'
  // A question that is a number means: the contexts are the choices, and the continuation is shared.
  const variesContext = task.outputType === 'multiple_choice' && typeof question === 'number'
  const questions = variesContext ? choices : [String(question)]
  const conversations = questions.map((text) => [
    ...head,
    ...questionTurns(text, null, genPrefix, variesContext ? '' : task.targetDelimiter, ''),
  ])
  const rendered = conversations.map((turns) => render(turns, target, task, options))
  const delimiter = options.chatTemplate && (genPrefix === '' || endsInSpace(genPrefix)) ? '' : task.targetDelimiter
  const targetText = variesContext ? goldText(typeof gold === 'number' ? gold : 0, choices) : goldText(gold, choices)
  const continuations = continuationsOf(task, { variesContext, delimiter, choices, gold, doc })
  const first = rendered[0]
  return {
    docId,
    doc,
    docHash: docHash(doc),
    contexts: isRolling ? [''] : rendered.map(({ text }) => text),
    turns: first?.turns ?? null,
    choices,
    continuations: isRolling ? [isTargetText(task) ? targetText : String(question)] : continuations,
    // Where contexts vary, doc_to_text says which one is right.
    gold: variesContext ? (question as number) : gold,
    target: targetText,
    promptHash: sha256(JSON.stringify(rendered.map(({ text }) => text))),
    cluster: task.clusterField === null ? null : pythonText(doc[task.clusterField]),
  }
}

/** Rolling tasks score doc_to_target, and doc_to_text where there is none. */
function isTargetText(task: TaskConfig): boolean {
  return task.docToTarget !== null
}

interface ContinuationParts {
  readonly variesContext: boolean
  readonly delimiter: string
  readonly choices: readonly string[]
  readonly gold: Gold
  readonly doc: Doc
}

function continuationsOf(task: TaskConfig, { variesContext, delimiter, choices, gold, doc }: ContinuationParts): string[] {
  if (task.outputType === 'generate_until') return []
  if (task.outputType === 'multiple_choice' && !variesContext) return choices.map((choice) => delimiter + choice)
  const shared =
    variesContext && typeof task.docToTarget === 'string' ? pythonText(resolveText(task.docToTarget, doc)) : goldText(gold, choices)
  return [delimiter + shared]
}

function exampleTurns(task: TaskConfig, example: Doc, genPrefix: string): Turn[] {
  const config = task.fewshotConfig
  const choiceSource = config.docToChoice ?? task.docToChoice
  const hasChoices = choiceSource !== null
  const choices = choicesOf(choiceSource, example)
  const question = textOf(config.docToText ?? task.docToText, example, hasChoices)
  const targetSource = config.docToTarget ?? task.docToTarget
  const answer =
    typeof question === 'number' && typeof targetSource === 'string'
      ? pythonText(resolveText(targetSource, example))
      : goldText(goldOf(targetSource, example, hasChoices), choices)
  const text = typeof question === 'number' ? (choices[question] ?? '') : question
  return questionTurns(text, answer, genPrefix, task.targetDelimiter, task.fewshotDelimiter)
}

function render(
  turns: readonly Turn[],
  target: Pick<EvaluationTarget, 'renderChat' | 'name'>,
  task: TaskConfig,
  options: PromptOptions,
): { readonly text: string; readonly turns: readonly ChatTurnText[] | null } {
  if (!options.chatTemplate) return { text: turns.map((turn) => turn.content + turn.suffix).join(''), turns: null }
  const used = (options.fewshotAsMultiturn ? turns : singleTurn(turns)).map(({ role, content }) => ({ role, content }))
  const continueFinal = used.at(-1)?.role === 'assistant'
  if (target.renderChat === null) {
    if (task.outputType === 'generate_until' && !continueFinal)
      return { text: pythonRepresentation(used.map(({ role, content }) => [role, content])), turns: used }
    throw new LatheError(
      'remote.unsupported',
      `${target.name} renders conversations itself, so the answers of ${task.name} can't be scored after one.`,
      'Evaluate without the chat template, or use a generate_until task.',
    )
  }
  return { text: renderTurns(target.renderChat, used, continueFinal), turns: used }
}

/** Some templates refuse a system turn; then its text opens the first question. */
function renderTurns(
  renderChat: NonNullable<EvaluationTarget['renderChat']>,
  turns: readonly ChatTurnText[],
  continueFinal: boolean,
): string {
  try {
    return renderChat(turns, { continueFinal })
  } catch (error) {
    const [system, first, ...rest] = turns
    const refusesSystem =
      error instanceof LatheError && error.code === 'tokenizer.template-failed' && system?.role === 'system' && first !== undefined
    if (!refusesSystem) throw error
    return renderChat([{ role: first.role, content: `${system.content}\n\n${first.content}` }, ...rest], { continueFinal })
  }
}
