/**
 * Results that lm-eval (or Lathe) wrote elsewhere: `results_<date>.json`, today's form and older ones, and the `samples_<task>_<date>.jsonl` beside it,
 * with which a published baseline is compared item by item (specs/evaluation.md §5). The files come from strangers: every number is checked, and what
 * they say of an item is compared by the item's own content.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { LatheError } from '../contract/errors.ts'
import type { SampleRow, TaskResult } from '../contract/index.ts'
import { pythonText } from './tasks/python-literal.ts'
import { docHash, sha256 } from './tasks/prompts.ts'
import type { Doc } from './tasks/template.ts'
import { wilsonInterval, Z95 } from './statistics.ts'

export interface PublishedResults {
  readonly modelName: string
  readonly tasks: readonly TaskResult[]
  readonly limit: number | null
  readonly chatTemplateSha: string | null
  readonly version: string
  readonly date: string | null
  /** Items one by one, by task; empty for tasks whose samples file is not there. */
  readonly samples: ReadonlyMap<string, readonly PublishedSample[]>
}

type Json = Readonly<Record<string, unknown>>

function object(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {}
}

function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}

function finite(value: unknown): number | null {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  return typeof number === 'number' && Number.isFinite(number) ? number : null
}

/** Metrics that are shares in every version of lm-eval: a percentage in their place would stand beside shares. */
const ALWAYS_SHARE = /^(?:acc(?:_norm|_bytes|_mutual_info)?|exact_match)$/
const LOWER_IS_BETTER = /perplexity|bits_per_byte|brier|^ter$|^wer$/
/** A results file is a few hundred kilobytes. */
const MAX_RESULTS_BYTES = 64 * 1024 * 1024

/** Parses lm-eval's results, of this year's form and older ones. Throws `evaluate.invalid-data` for what is none. */
export function parseLmEvalResults(name: string, content: string): PublishedResults {
  const invalid = (problem: string): LatheError =>
    new LatheError('evaluate.invalid-data', `${name} ${problem}.`, 'Choose a results_….json that lm-eval or Lathe wrote.')
  if (content.length > MAX_RESULTS_BYTES) throw invalid('is too large for a results file')
  const parsed = parsePythonJson(content)
  if (parsed === undefined) throw invalid('is not JSON')
  const root = object(parsed)
  const results = object(root['results'])
  if (Object.keys(results).length === 0) throw invalid('has no "results"')
  const tasks = Object.entries(results).flatMap(([task, entry]) => publishedTask(task, object(entry), root))
  const percentage = tasks.find(({ metric, value }) => ALWAYS_SHARE.test(metric) && (value < 0 || value > 1))
  if (percentage !== undefined)
    throw invalid(`says ${percentage.metric} = ${percentage.value} for ${percentage.task}, which must lie between 0 and 1`)
  if (tasks.length === 0) throw invalid('has no figure that can be read')
  const config = object(root['config'])
  return {
    modelName: text(root['model_name']) ?? modelNameOf(config) ?? name,
    tasks,
    limit: finite(config['limit']),
    chatTemplateSha: text(root['chat_template_sha']),
    version: text(root['lm_eval_version']) ?? 'unknown version',
    date: isoDate(finite(root['date'])),
    samples: new Map(),
  }
}

/** Python writes NaN and Infinity, which JSON does not have; undefined for what is not even that. */
function parsePythonJson(content: string): unknown {
  for (const candidate of [content, content.replaceAll(/(?<=[:[,]\s*)(?:NaN|-?Infinity)(?=\s*[,}\]])/g, 'null')]) {
    try {
      return JSON.parse(candidate) as unknown
    } catch {
      // The second reading is the last.
    }
  }
  return undefined
}

/** Seconds since 1970; null beyond what a date can be. */
function isoDate(seconds: number | null): string | null {
  const date = new Date((seconds ?? Number.NaN) * 1000)
  return Number.isNaN(date.getTime()) ? null : date.toISOString()
}

/** Older files have "pretrained=x,dtype=y". */
function modelNameOf(config: Json): string | null {
  const args = config['model_args']
  if (typeof args === 'string') return /(?:^|,)(?:pretrained|model|path)=([^,]+)/.exec(args)?.[1] ?? null
  return text(object(args)['pretrained']) ?? text(object(args)['model']) ?? text(object(args)['path'])
}

function publishedTask(task: string, entry: Json, root: Json): TaskResult[] {
  const config = object(object(root['configs'])[task])
  const samples = object(object(root['n-samples'])[task])
  const higher = object(object(root['higher_is_better'])[task])
  const isGroup = Object.hasOwn(object(root['groups']), task)
  const outputType = text(config['output_type'])
  const n = finite(samples['effective']) ?? finite(entry['sample_len']) ?? 0
  const figures = Object.entries(entry).flatMap(([key, raw]) => {
    // "acc,none" of today, "acc" of old.
    const comma = key.lastIndexOf(',')
    const metric = comma < 0 ? key : key.slice(0, comma)
    const filter = comma < 0 ? 'none' : key.slice(comma + 1)
    const value = finite(raw)
    if (value === null || typeof raw === 'string' || metric.endsWith('_stderr') || key === 'sample_len' || key === 'samples') return []
    const stated = finite(entry[comma < 0 ? `${metric}_stderr` : `${metric}_stderr,${filter}`])
    return [{ metric, filter, value, error: stated !== null && stated >= 0 ? stated : null }]
  })
  return figures.map(({ metric, filter, value, error }, index) => {
    const half = Z95 * (error ?? 0)
    const isCounted = ALWAYS_SHARE.test(metric) && n >= 1
    return {
      name: index === 0 ? task : `${task}:${metric}${filter === 'none' ? '' : `,${filter}`}`,
      title:
        index === 0
          ? (text(entry['alias'])?.replace(/^[\s-]+/, '') ?? task)
          : `${task} (${metric}${filter === 'none' ? '' : `, ${filter}`})`,
      metric,
      value,
      standardError: error,
      // Without width where nothing is known of its uncertainty.
      interval: isCounted ? wilsonInterval(value * n, n) : [value - half, value + half],
      n: Math.max(0, Math.round(n)),
      chance: null,
      paired: null,
      dataset: `${task}@published`,
      task,
      filter,
      higherIsBetter: typeof higher[metric] === 'boolean' ? higher[metric] : !LOWER_IS_BETTER.test(metric),
      fewshot: finite(object(root['n-shot'])[task]),
      outputType: isGroup ? 'group' : (OUTPUT_TYPES.find((type) => type === outputType) ?? 'multiple_choice'),
      primary: index === 0,
      origin: 'published',
      hasSamples: false,
      note: 'Published: another engine’s figure, its items unknown here.',
    }
  })
}

const OUTPUT_TYPES = ['loglikelihood', 'loglikelihood_rolling', 'multiple_choice', 'generate_until'] as const

/** One line of a samples file from elsewhere: a document under one filter. */
export interface PublishedSample {
  readonly docId: number
  /** Of the document as Lathe would write it, so that a number printed in another way is the same; lm-eval's own where the document is left out. */
  readonly docHash: string
  readonly promptHash: string | null
  readonly filter: string
  readonly target: string
  /** Of texts: log-likelihood for each word or byte. */
  readonly metrics: Readonly<Record<string, number>>
  readonly prompt: string
  /** Continuations that were scored; empty for generated text. */
  readonly choices: readonly string[]
  /** Of each choice. */
  readonly logprobs: readonly (number | null)[]
  /** Before and after the filter; of choices, the likeliest. */
  readonly output: string
  readonly answer: string
}

/** Reads `samples_<task>_….jsonl`. Lines that are no samples are an error, with their number. */
export function parseLmEvalSamples(name: string, content: string): PublishedSample[] {
  return content.split('\n').flatMap((line, index) => {
    if (line.trim() === '') return []
    const invalid = (problem: string): LatheError =>
      new LatheError(
        'evaluate.invalid-data',
        `${name}, line ${index + 1}: ${problem}.`,
        'Choose a samples_….jsonl that lm-eval or Lathe wrote.',
      )
    const parsed = parsePythonJson(line)
    if (parsed === undefined) throw invalid('not valid JSON')
    const entry = object(parsed)
    const docId = finite(entry['doc_id'])
    const { doc } = entry
    const hash = typeof doc === 'object' && doc !== null && !Array.isArray(doc) ? docHash(doc as Doc) : text(entry['doc_hash'])
    if (docId === null || !Number.isSafeInteger(docId) || hash === null) throw invalid('no doc_id, or neither document nor its hash')
    return [{ docId, docHash: hash, ...answersOf(entry), ...metricsOf(entry) }]
  })
}

function metricsOf(entry: Json): Pick<PublishedSample, 'metrics'> {
  const names = Array.isArray(entry['metrics'])
    ? entry['metrics'].filter((metric) => typeof metric === 'string')
    : Object.keys(entry).filter((key) => typeof entry[key] === 'number' && key !== 'doc_id')
  const values = names.flatMap((metric): [string, number][] => {
    const given = entry[metric]
    const [sum, weight] = Array.isArray(given) ? [finite(given[0]), finite(given[1])] : [finite(given), 1]
    return sum === null || weight === null || weight === 0 ? [] : [[metric, sum / weight]]
  })
  return { metrics: Object.fromEntries(values) }
}

function answersOf(entry: Json): Omit<PublishedSample, 'docId' | 'docHash' | 'metrics'> {
  const asked = Object.values(object(entry['arguments'])).map(object)
  const shared = {
    promptHash: text(entry['prompt_hash']),
    filter: text(entry['filter']) ?? 'none',
    prompt: text(asked[0]?.['arg_0']) ?? '',
  }
  const target = pythonText(entry['target'])
  const responses = Array.isArray(entry['resps']) ? (entry['resps'] as unknown[]).flat() : []
  const scores = responses.map((response) => (Array.isArray(response) ? finite(response[0]) : null))
  if (responses.some((response) => !Array.isArray(response))) {
    const filtered = Array.isArray(entry['filtered_resps']) ? entry['filtered_resps'] : [entry['filtered_resps']]
    return {
      ...shared,
      target,
      choices: [],
      logprobs: [],
      output: pythonText(responses[0] ?? ''),
      answer: pythonText(filtered.flat()[0] ?? ''),
    }
  }
  // The continuation brings the delimiter with it, which is no part of the choice.
  const choices = asked.map((request) => (text(request['arg_1']) ?? '').trim())
  let best = 0
  for (const [i, score] of scores.entries()) if ((score ?? -Infinity) > (scores[best] ?? -Infinity)) best = i
  const chosen = choices.length > 1 ? (choices[best] ?? '') : ''
  // A multiple-choice target is an index.
  const right = choices.length > 1 && /^\d+$/.test(target) ? (choices[Number(target)] ?? target) : target
  return { ...shared, target: right, choices: choices.length > 1 ? choices : [], logprobs: scores, output: chosen, answer: chosen }
}

/** The items of one filter as the board shows them, in the order of the documents. */
export function publishedRows(samples: readonly PublishedSample[], filter: string, metric: string): SampleRow[] {
  return samples
    .filter((sample) => sample.filter === filter)
    .toSorted((a, b) => a.docId - b.docId)
    .map((sample): SampleRow => {
      const value = sample.metrics[metric]
      return {
        docId: sample.docId,
        docHash: sample.docHash,
        prompt: sample.prompt,
        target: sample.target,
        choices: [...sample.choices],
        output: sample.output,
        answer: sample.answer,
        baselineOutput: null,
        baselineAnswer: null,
        correct: value === 0 || value === 1 ? value === 1 : null,
        baselineCorrect: null,
        metrics: { ...sample.metrics },
        baselineMetrics: null,
        logprobs: [...sample.logprobs],
        baselineLogprobs: null,
        samePrompt: true,
      }
    })
}

const RESULTS_FILE = /^results_(.+)\.json$/
/** Date and time at the end of a name, as lm-eval and Lathe write them. */
const SAMPLES_FILE = /^samples_(.+)_(\d{4}-\d{2}-\d{2}T[\d.-]+)\.jsonl$/
/** Samples of a large task with its prompts are some hundred megabytes. */
const MAX_SAMPLES_BYTES = 1 << 30
/** lm-eval puts results into a folder named after the model. */
const FOLDER_DEPTH = 2

/** The newest results file in a folder or the folders in it; null where there is none. */
export async function findPublishedResults(folder: string, depth = FOLDER_DEPTH): Promise<string | null> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const found = entries.filter((entry) => entry.isFile() && RESULTS_FILE.test(entry.name)).map((entry) => join(folder, entry.name))
  if (depth > 1) {
    for (const entry of entries.filter((candidate) => candidate.isDirectory())) {
      const nested = await findPublishedResults(join(folder, entry.name), depth - 1)
      if (nested !== null) found.push(nested)
    }
  }
  // Names end in the date.
  return found.toSorted((a, b) => (basename(a) < basename(b) ? -1 : 1)).at(-1) ?? null
}

/** A results file, or the newest of a folder, with the samples files of the same run beside it. */
export async function readPublishedResults(path: string): Promise<PublishedResults> {
  const isFolder = (await stat(path).catch(() => null))?.isDirectory() === true
  const file = isFolder ? await findPublishedResults(path) : path
  if (file === null)
    throw new LatheError(
      'evaluate.invalid-data',
      `There is no results_….json in ${path}.`,
      'Choose the folder that lm-eval wrote, or the file in it.',
    )
  const content = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${file} can't be read.`, 'Check the path.', { cause })
  })
  const results = parseLmEvalResults(file, content)
  return withSamples(results, await readSamples(file, results))
}

async function readSamples(file: string, { tasks }: PublishedResults): Promise<Map<string, PublishedSample[]>> {
  const run = RESULTS_FILE.exec(basename(file))?.[1]
  const found = new Map<string, PublishedSample[]>()
  const names = new Map(tasks.map(({ task }) => [(task ?? '').replaceAll(/[^\w.-]+/g, '_'), task ?? '']))
  for (const name of await readdir(dirname(file))) {
    const [, part = '', at] = SAMPLES_FILE.exec(name) ?? []
    const task = at !== undefined && at === run ? names.get(part.replaceAll(/[^\w.-]+/g, '_')) : undefined
    if (task === undefined) continue
    const path = join(dirname(file), name)
    if ((await stat(path)).size > MAX_SAMPLES_BYTES)
      throw new LatheError(
        'evaluate.invalid-data',
        `${name} is too large to be compared item by item.`,
        'Leave it out: the totals are then compared.',
      )
    found.set(task, parseLmEvalSamples(name, await readFile(path, 'utf8')))
  }
  return found
}

/** Figures whose items are known say so, and get the name of their items, as Lathe names its own. */
function withSamples(results: PublishedResults, samples: ReadonlyMap<string, readonly PublishedSample[]>): PublishedResults {
  const tasks = results.tasks.map((result): TaskResult => {
    const rows = publishedRows(samples.get(result.task ?? '') ?? [], result.filter, result.metric)
    if (rows.length === 0) return result
    return {
      ...result,
      n: rows.length,
      dataset: `${result.task}@${sha256(rows.map((row) => row.docHash).join('')).slice(0, 12)}`,
      hasSamples: true,
      note: 'Published: another engine’s answers, compared item by item where the items are the same.',
    }
  })
  return { ...results, tasks, samples }
}
