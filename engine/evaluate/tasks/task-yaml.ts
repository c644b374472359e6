/**
 * A task file as YAML: parsed without running anything, with what it includes, and every problem named with its line. What would need Python is refused
 * by name, never dropped (specs/evaluation.md §4). Knows no task, only fields.
 */
import { readFile, realpath } from 'node:fs/promises'
import { dirname, isAbsolute, resolve, sep } from 'node:path'
import { isMap, isScalar, LineCounter, parseDocument, visit } from 'yaml'
import type { Document, Pair } from 'yaml'
import { LatheError } from '../../contract/errors.ts'
import type { FieldSource } from './task-config.ts'

export type Json = Readonly<Record<string, unknown>>

/** Python behind these keys decides what is asked or how it is scored. */
const CODE_KEYS: Readonly<Record<string, string>> = {
  class: 'a Python class',
  custom_dataset: 'a Python function that makes the data',
  process_docs: 'a Python function over the documents',
  process_results: 'a Python function that scores',
  use_prompt: 'prompts from a Python package',
  unsafe_code: 'code to be run',
  doc_to_image: 'images, which these models do not read',
  doc_to_audio: 'sound, which these models do not hear',
}

/** A task file is a page; more is data in the wrong place or an attack. */
const MAX_YAML_BYTES = 1 << 20
const MAX_INCLUDES = 16

export class TaskFileError extends LatheError {
  constructor(
    where: string,
    problem: string,
    hint: string,
    code: 'evaluate.invalid-data' | 'evaluate.unsupported-task' = 'evaluate.unsupported-task',
  ) {
    super(code, `${where}: ${problem}`, hint)
  }
}

/** One parsed file: plain values, and where each top-level key stands. */
export interface Parsed {
  readonly path: string
  readonly values: Json
  readonly lineOf: (key: string) => string
}

async function parseYaml(path: string): Promise<Parsed> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause })
  })
  if (text.length > MAX_YAML_BYTES)
    throw new TaskFileError(path, `${text.length} characters are no task file`, 'Put the items in a data file.', 'evaluate.invalid-data')
  return parseYamlText(path, text)
}

function parseYamlText(path: string, text: string): Parsed {
  const lines = new LineCounter()
  const document: Document.Parsed = parseDocument(text, {
    lineCounter: lines,
    schema: 'core',
    maxAliasCount: 100,
    logLevel: 'silent',
  } as Parameters<typeof parseDocument>[1])
  const at = (range: readonly number[] | null | undefined): string =>
    range === null || range === undefined ? path : `${path}, line ${lines.linePos(range[0] ?? 0).line}`
  const [error] = document.errors
  if (error !== undefined)
    throw new TaskFileError(at(error.pos), `not valid YAML: ${error.message.split('\n')[0]}`, 'Correct the file.', 'evaluate.invalid-data')
  visit(document, {
    Node: (_key, node) => {
      const tag = 'tag' in node ? node.tag : undefined
      if (typeof tag === 'string' && tag.startsWith('!') && !tag.startsWith('!!')) {
        throw new TaskFileError(
          at(node.range),
          `${tag} would run Python code, which Lathe doesn't`,
          'Write it as a Jinja template or a field name, or run this task in lm-eval and open its results file here.',
        )
      }
    },
    Pair: (_key, pair: Pair) => {
      const key = isScalar(pair.key) ? String(pair.key.value) : ''
      const what = Object.hasOwn(CODE_KEYS, key) ? CODE_KEYS[key] : undefined
      if (what !== undefined) {
        throw new TaskFileError(
          at(isScalar(pair.key) ? pair.key.range : null),
          `"${key}" asks for ${what}`,
          'Run this task in lm-eval and open its results file here, or rewrite it with templates.',
        )
      }
    },
  })
  const values = ((): unknown => {
    try {
      return document.toJS({ maxAliasCount: 100 })
    } catch (cause) {
      // An alias without its anchor, or one that grows without bounds.
      throw new TaskFileError(
        path,
        `not valid YAML: ${cause instanceof Error ? cause.message : String(cause)}`,
        'Correct the file.',
        'evaluate.invalid-data',
      )
    }
  })()
  if (typeof values !== 'object' || values === null || Array.isArray(values))
    throw new TaskFileError(path, 'not a mapping of keys', 'A task file starts with "task: name".', 'evaluate.invalid-data')
  const root = document.contents
  const lineOf = (key: string): string => {
    const pair = isMap(root) ? root.items.find((item) => isScalar(item.key) && item.key.value === key) : undefined
    return at(isScalar(pair?.key) ? pair.key.range : null)
  }
  return { path, values: values as Json, lineOf }
}

/** With what it includes, nearest wins. Includes stay inside the folder of the first file. */
export async function parseWithIncludes(path: string, root: string, seen: readonly string[]): Promise<Parsed> {
  const parsed = await parseYaml(path)
  const { include } = parsed.values
  if (include === undefined) return parsed
  if (typeof include !== 'string' || isAbsolute(include))
    throw new TaskFileError(
      parsed.lineOf('include'),
      'include must be a relative path',
      'Name a file in the same folder.',
      'evaluate.invalid-data',
    )
  const target = await realpath(resolve(dirname(path), include)).catch(() => null)
  if (target === null)
    throw new TaskFileError(
      parsed.lineOf('include'),
      `there is no ${include}`,
      'Put the included file beside this one.',
      'evaluate.invalid-data',
    )
  if (!target.startsWith(root + sep))
    throw new TaskFileError(parsed.lineOf('include'), `${include} lies outside the task's folder`, 'Move the included file into it.')
  if (seen.includes(target) || seen.length >= MAX_INCLUDES)
    throw new TaskFileError(parsed.lineOf('include'), `${include} includes itself`, 'Remove the circle.', 'evaluate.invalid-data')
  const base = await parseWithIncludes(target, root, [...seen, target])
  const { include: _include, ...own } = parsed.values
  return { path, values: { ...base.values, ...own }, lineOf: (key) => (key in own ? parsed.lineOf(key) : base.lineOf(key)) }
}

export function textField(parsed: Parsed, key: string): string | null {
  const value = parsed.values[key]
  if (value === undefined || value === null) return null
  if (typeof value === 'string') return value
  throw new TaskFileError(parsed.lineOf(key), `"${key}" must be text`, 'Quote it.', 'evaluate.invalid-data')
}

export function integer(parsed: Parsed, key: string, value: unknown, least: number): number | null {
  if (value === undefined || value === null) return null
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least) return value
  throw new TaskFileError(
    parsed.lineOf(key),
    `"${key}" must be a whole number of at least ${least}`,
    'Correct it.',
    'evaluate.invalid-data',
  )
}

export function source(parsed: Parsed, key: string, value: unknown): FieldSource | null {
  if (value === undefined || value === null) return null
  if (typeof value === 'string' || typeof value === 'number') return value
  if (Array.isArray(value) && value.every((entry) => typeof entry === 'string' || typeof entry === 'number'))
    return value as (string | number)[]
  throw new TaskFileError(parsed.lineOf(key), `"${key}" must be a field name, a template or a list of texts`, 'Rewrite it as one of these.')
}

export function list(parsed: Parsed, key: string, value: unknown): readonly Json[] {
  if (value === undefined || value === null) return []
  if (Array.isArray(value) && value.every((entry) => typeof entry === 'object' && entry !== null && !Array.isArray(entry)))
    return value as Json[]
  throw new TaskFileError(parsed.lineOf(key), `"${key}" must be a list of entries`, 'Start each with a dash.', 'evaluate.invalid-data')
}

export function textList(value: unknown): readonly string[] {
  if (typeof value === 'string') return [value]
  return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : []
}
