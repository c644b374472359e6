/**
 * lm-eval's results files (specs/evaluation.md §5), written and read: `results_<date>.json` with one entry a task, and `samples_<task>_<date>.jsonl`
 * with one line a document and filter. So every viewer of those files shows Lathe's results, and a published file can stand on Lathe's board.
 * What lm-eval has no place for goes under one key, "studio". Files from elsewhere are read with caution: every number is checked.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LatheError } from '../contract/errors.ts'
import type { TaskResult } from '../contract/index.ts'
import { pythonText } from './tasks/python-literal.ts'
import { fewshotCount, sha256 } from './tasks/prompts.ts'
import type { ScoredSample, ScoredTask } from './tasks/score-task.ts'
import type { GroupConfig } from './tasks/task-config.ts'
import { Z95 } from './statistics.ts'

export interface ResultsFileFacts {
  readonly modelName: string
  readonly modelPath: string
  readonly parameters: number | null
  readonly dtype: string
  readonly device: string
  readonly latheVersion: string
  readonly platform: string
  readonly contextLimit: number | null
  readonly tokens: {
    readonly pad: readonly [string, number] | null
    readonly eos: readonly [string, number] | null
    readonly bos: readonly [string, number] | null
  }
  readonly limit: number | null
  readonly chatTemplate: string | null
  readonly systemInstruction: string | null
  readonly fewshotAsMultiturn: boolean
  readonly startedAt: Date
  readonly seconds: number
  /** Perplexity, drift and protocol: anything that lm-eval has no field for. */
  readonly studio: Readonly<Record<string, unknown>>
}

/** lm-eval bootstraps these; the others of this kind have no error there. */
const ERROR_NOT_AVAILABLE = new Set(['word_perplexity', 'byte_perplexity', 'bits_per_byte'])

/** "2026-11-23T15-30-00.123456" */
export function fileDate(date: Date): string {
  return `${date.toISOString().slice(0, 23).replaceAll(':', '-')}000`
}

/** The name as lm-eval writes it into paths. */
export function sanitizedModelName(name: string): string {
  return name.replaceAll(/["<>:/|\\?*[\]]+/g, '__')
}

export function lmEvalResults(
  facts: ResultsFileFacts,
  scored: readonly ScoredTask[],
  groups: readonly { readonly config: GroupConfig; readonly results: readonly TaskResult[] }[],
): Record<string, unknown> {
  const byTask = <T>(of: (task: ScoredTask) => T): Record<string, T> => Object.fromEntries(scored.map((task) => [task.task.name, of(task)]))
  const groupEntries = Object.fromEntries(
    groups.map(({ config, results }) => [
      config.name,
      {
        name: config.name,
        alias: config.title,
        ...Object.fromEntries(
          results.flatMap(({ metric, filter, value, standardError }) => [
            [`${metric},${filter}`, value],
            [`${metric}_stderr,${filter}`, standardError ?? 'N/A'],
          ]),
        ),
      },
    ]),
  )
  const [eos, bos, pad] = [facts.tokens.eos, facts.tokens.bos, facts.tokens.pad].map((token) =>
    token === null ? ['None', 'None'] : [token[0], String(token[1])],
  )
  return {
    results: { ...byTask(taskEntry), ...groupEntries },
    groups: groupEntries,
    group_subtasks: { ...byTask(() => []), ...Object.fromEntries(groups.map(({ config }) => [config.name, config.members])) },
    configs: byTask(({ task }) => ({
      task: task.name,
      output_type: task.outputType,
      num_fewshot: task.fewshot ?? 0,
      description: task.description,
      target_delimiter: task.targetDelimiter,
      fewshot_delimiter: task.fewshotDelimiter,
      repeats: task.repeats,
    })),
    versions: byTask(({ task }) => task.version ?? 'Yaml'),
    'n-shot': byTask(({ task, answers }) => fewshotCount(task, answers.prompts)),
    higher_is_better: byTask(({ figures }) => Object.fromEntries(figures.map(({ metric, higherIsBetter }) => [metric, higherIsBetter]))),
    'n-samples': byTask(({ answers }) => ({ original: answers.available, effective: answers.items.length })),
    config: {
      model: 'lathe',
      model_args: { path: facts.modelPath },
      model_num_parameters: facts.parameters,
      model_dtype: facts.dtype,
      model_revision: '',
      model_sha: '',
      batch_size: 'auto',
      batch_sizes: [],
      device: facts.device,
      use_cache: null,
      limit: facts.limit,
      bootstrap_iters: 2000,
      gen_kwargs: {},
      random_seed: 0,
      numpy_seed: 1234,
      torch_seed: 1234,
      fewshot_seed: 1234,
    },
    git_hash: null,
    upper_git_hash: null,
    date: facts.startedAt.getTime() / 1000,
    pretty_env_info: `${facts.platform}; ${facts.device}`,
    transformers_version: 'n/a',
    lm_eval_version: `n/a (Lathe ${facts.latheVersion})`,
    tokenizer_pad_token: pad,
    tokenizer_eos_token: eos,
    tokenizer_bos_token: bos,
    eot_token_id: facts.tokens.eos?.[1] ?? null,
    max_length: facts.contextLimit,
    task_hashes: byTask(taskHash),
    model_source: 'lathe',
    model_name: facts.modelName,
    model_name_sanitized: sanitizedModelName(facts.modelName),
    system_instruction: facts.systemInstruction,
    system_instruction_sha: facts.systemInstruction === null ? null : sha256(facts.systemInstruction),
    fewshot_as_multiturn: facts.fewshotAsMultiturn,
    chat_template: facts.chatTemplate,
    chat_template_sha: facts.chatTemplate === null ? null : sha256(facts.chatTemplate),
    total_evaluation_time_seconds: String(facts.seconds),
    studio: facts.studio,
  }
}

function taskEntry({ task, figures, answers }: ScoredTask): Record<string, unknown> {
  const values = figures.flatMap(({ metric, filter, value, standardError }): [string, unknown][] => [
    [`${metric},${filter}`, value],
    [`${metric}_stderr,${filter}`, ERROR_NOT_AVAILABLE.has(metric) ? 'N/A' : (standardError ?? 'N/A')],
  ])
  return { name: task.name, alias: task.title, sample_len: answers.items.length, ...Object.fromEntries(values) }
}

function hashesOf(sample: ScoredSample): { readonly doc: string; readonly prompt: string; readonly target: string } {
  return { doc: sample.item.docHash, prompt: sha256(sample.arguments[0]?.[0] ?? ''), target: sha256(sample.item.target) }
}

function taskHash({ samples }: ScoredTask): string {
  return sha256(
    samples
      .map((sample) => {
        const { doc, prompt, target } = hashesOf(sample)
        return doc + prompt + target
      })
      .join(''),
  )
}

/** One line of a samples file. */
export function lmEvalSample(scored: ScoredTask, sample: ScoredSample): Record<string, unknown> {
  const { task } = scored
  const hashes = hashesOf(sample)
  const generates = task.outputType === 'generate_until'
  const options = {
    until: task.generation.until ?? [task.fewshotDelimiter],
    max_gen_toks: task.generation.maxTokens,
    do_sample: task.generation.temperature > 0,
    temperature: task.generation.temperature,
  }
  const names = scored.figures.filter(({ filter }) => filter === sample.filter).map(({ metric }) => metric)
  const responses = generates
    ? [sample.responses]
    : sample.responses.map((response) => [typeof response === 'string' ? response : [String(response[0]), response[1] ? 'True' : 'False']])
  return {
    doc_id: sample.item.docId,
    doc: sample.item.doc,
    target: sample.item.target,
    arguments: Object.fromEntries(
      sample.arguments.map(([context, continuation], i) => [
        `gen_args_${i}`,
        { arg_0: context, arg_1: generates ? options : continuation },
      ]),
    ),
    resps: responses,
    filtered_resps: generates
      ? sample.filtered
      : sample.responses.map((response) =>
          typeof response === 'string' ? response : [String(response[0]), response[1] ? 'True' : 'False'],
        ),
    filter: sample.filter,
    metrics: names,
    doc_hash: hashes.doc,
    prompt_hash: hashes.prompt,
    target_hash: hashes.target,
    ...Object.fromEntries(names.map((name) => [name, sample.metrics[name]])),
  }
}

/** Writes both kinds of file under `<folder>/<model>/` and returns their paths. */
export async function writeLmEvalFiles(
  folder: string,
  results: Readonly<Record<string, unknown>>,
  scored: readonly ScoredTask[],
  date: Date,
): Promise<string[]> {
  const own = join(folder, String(results['model_name_sanitized'] ?? 'model'))
  await mkdir(own, { recursive: true })
  const at = fileDate(date)
  const path = join(own, `results_${at}.json`)
  await writeFile(path, `${JSON.stringify(results, null, 2)}\n`)
  const files = [path]
  for (const task of scored) {
    const samplesPath = join(own, `samples_${task.task.name.replaceAll(/[^\w.-]+/g, '_')}_${at}.jsonl`)
    await writeFile(samplesPath, task.samples.map((sample) => `${JSON.stringify(lmEvalSample(task, sample))}\n`).join(''))
    files.push(samplesPath)
  }
  return files
}

export interface PublishedResults {
  readonly modelName: string
  readonly tasks: readonly TaskResult[]
  readonly limit: number | null
  readonly chatTemplateSha: string | null
  readonly version: string
  readonly date: string | null
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

const LOWER_IS_BETTER = /perplexity|bits_per_byte|brier|^ter$|^wer$/
/** A results file is a few hundred kilobytes. */
const MAX_RESULTS_BYTES = 64 * 1024 * 1024

/** Parses lm-eval's results, of this year's form and older ones. Throws `evaluate.invalid-data` for what is none. */
export function parseLmEvalResults(name: string, content: string): PublishedResults {
  const invalid = (problem: string): LatheError =>
    new LatheError('evaluate.invalid-data', `${name} ${problem}.`, 'Choose a results_….json that lm-eval or Lathe wrote.')
  if (content.length > MAX_RESULTS_BYTES) throw invalid('is too large for a results file')
  let parsed: unknown
  try {
    // Python writes NaN, which JSON does not have.
    parsed = JSON.parse(content.replaceAll(/(?<=[:[,]\s*)(?:NaN|-?Infinity)(?=\s*[,}\]])/g, 'null'))
  } catch {
    throw invalid('is not JSON')
  }
  const root = object(parsed)
  const results = object(root['results'])
  if (Object.keys(results).length === 0) throw invalid('has no "results"')
  const tasks = Object.entries(results).flatMap(([task, entry]) => publishedTask(task, object(entry), root))
  if (tasks.length === 0) throw invalid('has no figure that can be read')
  const config = object(root['config'])
  return {
    modelName: text(root['model_name']) ?? modelNameOf(config) ?? name,
    tasks,
    limit: finite(config['limit']),
    chatTemplateSha: text(root['chat_template_sha']),
    version: text(root['lm_eval_version']) ?? 'unknown version',
    date: isoDate(finite(root['date'])),
  }
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
    const error = finite(entry[comma < 0 ? `${metric}_stderr` : `${metric}_stderr,${filter}`])
    return [{ metric, filter, value, error }]
  })
  return figures.map(({ metric, filter, value, error }, index) => {
    const half = Z95 * (error ?? 0)
    return {
      name: index === 0 ? task : `${task}:${metric}${filter === 'none' ? '' : `,${filter}`}`,
      title:
        index === 0
          ? (text(entry['alias'])?.replace(/^[\s-]+/, '') ?? task)
          : `${task} (${metric}${filter === 'none' ? '' : `, ${filter}`})`,
      metric,
      value,
      standardError: error,
      interval: [value - half, value + half],
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

/** One line of a samples file from elsewhere, as far as pairing needs it. */
export interface PublishedSample {
  readonly docId: number
  readonly docHash: string | null
  readonly promptHash: string | null
  readonly filter: string
  readonly target: string
  readonly metrics: Readonly<Record<string, number>>
  readonly responses: readonly string[]
}

/** Reads `samples_<task>_….jsonl`. Lines that are no samples are an error, with their number. */
export function parseLmEvalSamples(name: string, content: string): PublishedSample[] {
  return content.split('\n').flatMap((line, index) => {
    if (line.trim() === '') return []
    let parsed: unknown
    try {
      parsed = JSON.parse(line)
    } catch {
      throw new LatheError(
        'evaluate.invalid-data',
        `${name}, line ${index + 1}: not valid JSON.`,
        'Choose a samples_….jsonl that lm-eval or Lathe wrote.',
      )
    }
    const entry = object(parsed)
    const docId = finite(entry['doc_id'])
    if (docId === null)
      throw new LatheError(
        'evaluate.invalid-data',
        `${name}, line ${index + 1}: no doc_id.`,
        'Choose a samples_….jsonl that lm-eval or Lathe wrote.',
      )
    const names = Array.isArray(entry['metrics'])
      ? entry['metrics'].filter((metric) => typeof metric === 'string')
      : Object.keys(entry).filter((key) => typeof entry[key] === 'number' && key !== 'doc_id')
    const metrics = Object.fromEntries(
      names.flatMap((metric) => {
        const value = finite(entry[metric])
        return value === null ? [] : [[metric, value]]
      }),
    )
    const responses = (Array.isArray(entry['resps']) ? (entry['resps'] as unknown[]).flat() : []).map((response) => pythonText(response))
    return [
      {
        docId,
        docHash: text(entry['doc_hash']),
        promptHash: text(entry['prompt_hash']),
        filter: text(entry['filter']) ?? 'none',
        target: pythonText(entry['target']),
        metrics,
        responses,
      },
    ]
  })
}

export async function readPublishedResults(path: string): Promise<PublishedResults> {
  const content = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause })
  })
  return parseLmEvalResults(path, content)
}
