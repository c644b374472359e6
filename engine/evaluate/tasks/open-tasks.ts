/**
 * Task files as the user names them: lm-eval's YAML, or bare JSON lines whose fields tell what they are (specs/evaluation.md §4).
 */
import { readFile } from 'node:fs/promises'
import { basename, extname, resolve } from 'node:path'
import { LatheError } from '../../contract/errors.ts'
import { taskOf } from './task-config.ts'
import type { TaskConfig, TaskFile } from './task-config.ts'
import { readTaskYaml } from './task-file.ts'
import { parseJsonItems } from './task-data.ts'
import type { Doc } from './template.ts'

function has(doc: Doc, ...fields: readonly string[]): boolean {
  return fields.every((field) => doc[field] !== undefined)
}

/** A task from the fields of its first item. */
export function inferTask(name: string, docs: readonly Doc[]): TaskConfig {
  const [first] = docs
  if (first === undefined)
    throw new LatheError('evaluate.invalid-data', `${name} holds no items.`, 'Choose a file with one JSON object a line.')
  const base = { name, title: name, documents: docs, fewshot: 0 }
  const answerField = ['gold', 'label', 'answer'].find((field) => has(first, field)) ?? ''
  // `query` sets bring their own spacing; plain questions expect a space before the answer.
  if (has(first, 'query', 'choices') && answerField !== '')
    return taskOf({
      ...base,
      outputType: 'multiple_choice',
      docToText: 'query',
      docToChoice: 'choices',
      docToTarget: answerField,
      targetDelimiter: '',
      metrics: [ACCURACY],
    })
  if (has(first, 'question', 'choices') && answerField !== '')
    return taskOf({
      ...base,
      outputType: 'multiple_choice',
      docToText: 'Question: {{question}}\nAnswer:',
      docToChoice: 'choices',
      docToTarget: answerField,
    })
  if (has(first, 'ctx', 'endings') && answerField !== '')
    return taskOf({ ...base, outputType: 'multiple_choice', docToText: 'ctx', docToChoice: 'endings', docToTarget: answerField })
  if (has(first, 'prompt')) {
    const target = ['response', 'answer', 'completion'].find((field) => has(first, field))
    const exact = {
      metrics: [
        { metric: 'exact_match', aggregation: 'mean', higherIsBetter: true, options: { ignore_case: true, ignore_punctuation: true } },
      ],
      filters: [TRIM],
    }
    if (target !== undefined)
      return taskOf({ ...base, ...exact, outputType: 'generate_until', docToText: 'prompt', docToTarget: target, targetDelimiter: '' })
  }
  if (has(first, 'text')) return taskOf({ ...base, outputType: 'loglikelihood_rolling', docToText: '', docToTarget: 'text' })
  throw new LatheError(
    'evaluate.invalid-data',
    `${name}: items with the fields ${Object.keys(first).slice(0, 10).join(', ')} are of no known kind.`,
    'Use {query, choices, gold}, {question, choices, answer}, {prompt, response} or {text} — or describe the task in a YAML file.',
  )
}

const ACCURACY = { metric: 'acc', aggregation: 'mean', higherIsBetter: true, options: {} }

const TRIM = {
  name: 'none',
  steps: [
    { function: 'remove_whitespace', options: {} },
    { function: 'take_first', options: {} },
  ],
}

/** Throws `evaluate.invalid-data` and `evaluate.unsupported-task`. */
export async function openTaskFile(path: string): Promise<TaskFile> {
  const extension = extname(path).toLowerCase()
  if (extension === '.yaml' || extension === '.yml') return readTaskYaml(path)
  if (extension !== '.jsonl' && extension !== '.json' && extension !== '.ndjson') {
    throw new LatheError(
      'evaluate.invalid-data',
      `${path} is not a task file.`,
      'Give a .yaml file in lm-eval’s form, or .jsonl with one item a line.',
    )
  }
  const text = await readFile(resolve(path), 'utf8').catch((cause: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause })
  })
  return { tasks: [inferTask(basename(path, extname(path)), parseJsonItems(path, text))], groups: [] }
}
