/**
 * Multiple choice by log-likelihood on jsonl items (specs/evaluation.md §2.1). Reads `{query, choices, gold}` and the common
 * `{question, choices, answer | label}`; scores Σ log p(choice tokens | query); ties go to the first choice.
 * Data files are user input: every line is checked before any is used.
 */
import { createHash } from 'node:crypto'
import { LatheError } from '../contract/errors.ts'
import type { SampleRow } from '../contract/comparison.ts'
import type { TaskResult } from '../contract/result.ts'
import type { Runtime } from '../runtime/types.ts'
import { comparePaired } from './paired.ts'
import { meanWithError, wilsonInterval } from './statistics.ts'
import type { TextCodec } from './text-codec.ts'

/** An answer sheet longer than this is a mistake or an attack, not a question; the widest public set (MMLU-Pro) has 10. */
const MAX_CHOICES = 64

export interface ChoiceItem {
  readonly query: string
  readonly choices: readonly string[]
  readonly gold: number
}

export interface ChoiceTask {
  readonly name: string
  readonly title: string
  readonly items: readonly ChoiceItem[]
  /** name + digest of the items, so that only equal sets are compared. */
  readonly dataset: string
}

function fail(name: string, line: number, problem: string): never {
  throw new LatheError(
    'evaluate.invalid-data',
    `${name}, line ${line}: ${problem}`,
    'Each line must be a JSON object {"query": "…", "choices": ["…", "…"], "gold": 0}, with gold counting from 0.',
  )
}

function parseItem(name: string, line: number, text: string): ChoiceItem {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    return fail(name, line, `not valid JSON (${cause instanceof Error ? cause.message : String(cause)})`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail(name, line, 'not a JSON object')
  const record = value as Record<string, unknown>
  // Public sets ask in plain words and expect a space before the answer; `query` sets bring their own spacing.
  const isQuery = typeof record['query'] === 'string'
  const query = isQuery ? record['query'] : record['question']
  if (typeof query !== 'string' || query === '') return fail(name, line, 'has no text under "query" or "question"')
  const { choices } = record
  if (
    !Array.isArray(choices) ||
    choices.length < 2 ||
    choices.length > MAX_CHOICES ||
    !choices.every((choice) => typeof choice === 'string' && choice !== '')
  ) {
    return fail(name, line, `"choices" must be 2 to ${MAX_CHOICES} non-empty strings`)
  }
  const texts = choices as string[]
  const key = record['gold'] ?? record['label'] ?? record['answer']
  const gold = typeof key === 'string' ? texts.indexOf(key) : key
  if (typeof gold !== 'number' || !Number.isInteger(gold) || gold < 0 || gold >= texts.length) {
    return fail(name, line, `the right answer (${JSON.stringify(key)}) is not one of the ${texts.length} choices`)
  }
  return isQuery
    ? { query: query as string, choices: texts, gold }
    : { query: `Question: ${query}\nAnswer:`, choices: texts.map((choice) => ` ${choice}`), gold }
}

/** Parses a jsonl task file. `limit` keeps the first so many items (the order is the file's, so that limited runs stay paired). */
export function parseChoiceTask(name: string, title: string, jsonl: string, limit: number | null): ChoiceTask {
  const items: ChoiceItem[] = []
  const lines = jsonl.split('\n')
  for (const [index, line] of lines.entries()) {
    if (limit !== null && items.length >= limit) break
    if (line.trim() !== '') items.push(parseItem(name, index + 1, line))
  }
  if (items.length === 0)
    throw new LatheError('evaluate.invalid-data', `${name} holds no items.`, 'Choose a jsonl file with one question per line.')
  const digest = createHash('sha256').update(JSON.stringify(items)).digest('hex').slice(0, 12)
  return { name, title, items, dataset: `${name}@${digest}` }
}

/**
 * Tokens of a choice after its query. Spaces at the end of the query belong to the continuation, and the split is by token count of the
 * encoded query, exactly as lm-eval does it, so that scores are comparable even where a tokenizer merges across the border.
 */
export function tokenizeChoice(codec: TextCodec, query: string, choice: string): { readonly tokens: Uint32Array; readonly from: number } {
  const trimmed = query.replace(/ +$/, '')
  const context = codec.encode(trimmed, { addSpecialTokens: false })
  const whole = codec.encode(query + choice, { addSpecialTokens: false })
  if (context.length > 0 && whole.length > context.length) return { tokens: whole, from: context.length }
  if (whole.length === 0)
    throw new LatheError('evaluate.invalid-data', `The choice ${JSON.stringify(choice)} has no tokens.`, 'Remove the empty choice.')
  const prefix = codec.bosTokenId ?? codec.eosTokenId
  if (prefix === null || context.length > 0) {
    throw new LatheError(
      'evaluate.invalid-data',
      `The choice ${JSON.stringify(choice)} adds no token after its query.`,
      'Start the choice with a space or a letter.',
    )
  }
  const tokens = new Uint32Array(whole.length + 1)
  tokens[0] = prefix
  tokens.set(whole, 1)
  return { tokens, from: 1 }
}

export interface ChoiceAnswers {
  readonly task: ChoiceTask
  /** Per item: index of the likeliest choice. */
  readonly chosen: readonly number[]
  readonly right: readonly boolean[]
  /** log p of the right choice minus the best wrong one, nats: a finer signal than right or wrong. */
  readonly margins: readonly number[]
  /** Per item and choice, Σ log p; empty where only the outcome was kept. */
  readonly scores?: readonly (readonly number[])[]
}

export interface ChoiceOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (doneItems: number, totalItems: number) => void
}

/** Items asked at the same time. A runtime batches what is in flight; more than its eight sequences would only wait. */
const ITEMS_IN_FLIGHT = 8

async function scoreChoice(
  runtime: Runtime,
  codec: TextCodec,
  task: ChoiceTask,
  query: string,
  choice: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  const { tokens, from } = tokenizeChoice(codec, query, choice)
  if (tokens.length > runtime.info.contextLimit) {
    throw new LatheError(
      'runtime.context-exceeded',
      `An item of ${task.name} has ${tokens.length} tokens; the context holds ${runtime.info.contextLimit}.`,
      'Load the model with a larger context, or remove the item.',
    )
  }
  const { logprobs } = await runtime.score({ tokens, from, signal })
  return logprobs.reduce((sum, value) => sum + value, 0)
}

/** Scores of all choices: the first alone, so that a runtime with a prefix cache computes the query once, then the others together. */
async function scoreItem(
  runtime: Runtime,
  codec: TextCodec,
  task: ChoiceTask,
  item: ChoiceItem,
  signal: AbortSignal | undefined,
): Promise<readonly number[]> {
  const [first = '', ...rest] = item.choices
  const score = await scoreChoice(runtime, codec, task, item.query, first, signal)
  return [score, ...(await Promise.all(rest.map((choice) => scoreChoice(runtime, codec, task, item.query, choice, signal))))]
}

/**
 * Answers every item, several at a time: a runtime whose results do not depend on the batch gives the same answers in any company. The first
 * failure stops the rest.
 */
export async function answerChoiceTask(
  runtime: Runtime,
  codec: TextCodec,
  task: ChoiceTask,
  options: ChoiceOptions = {},
): Promise<ChoiceAnswers> {
  const failed = new AbortController()
  const signal = options.signal === undefined ? failed.signal : AbortSignal.any([options.signal, failed.signal])
  const scores: (readonly number[])[] = []
  let next = 0
  let done = 0
  const worker = async (): Promise<void> => {
    for (let index = next++; index < task.items.length; index = next++) {
      scores[index] = await scoreItem(runtime, codec, task, task.items[index] as ChoiceItem, signal)
      done++
      options.onProgress?.(done, task.items.length)
    }
  }
  try {
    await Promise.all(Array.from({ length: ITEMS_IN_FLIGHT }, worker))
  } catch (failure) {
    failed.abort()
    throw failure
  }
  const answered = task.items.map((item, index) => judge(item, scores[index] ?? []))
  return {
    task,
    chosen: answered.map(({ chosen }) => chosen),
    right: answered.map(({ right }) => right),
    margins: answered.map(({ margin }) => margin),
    scores: task.items.map((_, index) => scores[index] ?? []),
  }
}

/** The likeliest choice (the first of equals), whether it is the right one, and by how much. */
function judge(item: ChoiceItem, scores: readonly number[]): { readonly chosen: number; readonly right: boolean; readonly margin: number } {
  let chosen = 0
  for (let i = 1; i < scores.length; i++) if ((scores[i] ?? -Infinity) > (scores[chosen] ?? -Infinity)) chosen = i
  const bestWrong = Math.max(...scores.filter((_, index) => index !== item.gold))
  return { chosen, right: chosen === item.gold, margin: (scores[item.gold] ?? Number.NaN) - bestWrong }
}

/**
 * Accuracy with its interval; paired against the baseline's answers where given, with a verdict against `margin`. Throws
 * `evaluate.incomparable` for other items.
 */
export function scoreChoiceTask(
  answers: ChoiceAnswers,
  baseline: { readonly id: string; readonly answers: ChoiceAnswers } | null,
  margin: number | null = null,
): TaskResult {
  const { task, right } = answers
  if (baseline !== null && baseline.answers.task.dataset !== task.dataset) {
    throw new LatheError(
      'evaluate.incomparable',
      `The baseline answered ${baseline.answers.task.dataset}, this model ${task.dataset}.`,
      'Evaluate both models on the same items.',
    )
  }
  const correct = right.filter(Boolean).length
  const accuracy = meanWithError(right.map(Number))
  const chance = task.items.reduce((sum, item) => sum + 1 / item.choices.length, 0) / task.items.length
  const paired =
    baseline === null
      ? null
      : comparePaired({
          baselineId: baseline.id,
          baseline: baseline.answers.right.map(Number),
          candidate: right.map(Number),
          higherIsBetter: true,
          margin,
          chance,
          changed: answers.chosen.filter((choice, i) => choice !== baseline.answers.chosen[i]).length,
        })
  return {
    name: task.name,
    title: task.title,
    metric: 'acc',
    value: accuracy.mean,
    standardError: accuracy.standardError,
    interval: wilsonInterval(correct, right.length),
    n: right.length,
    chance,
    paired,
    dataset: task.dataset,
    task: task.name,
    filter: 'none',
    higherIsBetter: true,
    fewshot: 0,
    outputType: 'multiple_choice',
    primary: true,
    origin: 'measured',
    hasSamples: false,
    note: null,
  }
}

/** The items as the board shows them. Only for answers whose scores are known. */
export function choiceSampleRows({ task, chosen, right, scores = [] }: ChoiceAnswers): SampleRow[] {
  return task.items.map((item, index): SampleRow => {
    const output = item.choices[chosen[index] ?? -1] ?? ''
    return {
      docId: index,
      docHash: createHash('sha256').update(JSON.stringify(item)).digest('hex'),
      prompt: item.query,
      target: item.choices[item.gold] ?? '',
      choices: [...item.choices],
      output,
      answer: output,
      baselineOutput: null,
      baselineAnswer: null,
      correct: right[index] ?? null,
      baselineCorrect: null,
      metrics: { acc: Number(right[index] === true) },
      baselineMetrics: null,
      logprobs: (scores[index] ?? []).map((score) => (Number.isFinite(score) ? score : null)),
      baselineLogprobs: null,
      samePrompt: true,
    }
  })
}
