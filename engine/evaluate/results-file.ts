/**
 * lm-eval's results files (specs/evaluation.md §5) as they are written: `results_<date>.json` with one entry a task, and
 * `samples_<task>_<date>.jsonl` with one line a document and filter, so that every viewer of those files shows Lathe's results. What lm-eval has no
 * place for goes under one key, "studio".
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../checkpoint/make-folder.ts'
import type { TaskResult } from '../contract/index.ts'
import { pythonText } from './tasks/python-literal.ts'
import { countWords } from './tasks/task-metrics.ts'
import { fewshotCount, sha256 } from './tasks/prompts.ts'
import type { ScoredSample, ScoredTask } from './tasks/score-task.ts'
import type { GroupConfig } from './tasks/task-config.ts'

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

/** The right answer as lm-eval prints it: the index of a choice rather than its text. */
function targetOf({ item }: ScoredSample): string {
  return item.choices.length > 0 && typeof item.gold !== 'string' ? pythonText(item.gold) : item.target
}

/** Of a whole document nothing is continued: its text is the prompt. */
function askedOf({ task }: ScoredTask, sample: ScoredSample): readonly (readonly [string, string | null])[] {
  return task.outputType === 'loglikelihood_rolling' ? sample.arguments.map(([, text]) => [text, null]) : sample.arguments
}

function hashesOf(scored: ScoredTask, sample: ScoredSample): { readonly doc: string; readonly prompt: string; readonly target: string } {
  return { doc: sample.item.docHash, prompt: sha256(askedOf(scored, sample)[0]?.[0] ?? ''), target: sha256(targetOf(sample)) }
}

function taskHash(scored: ScoredTask): string {
  return sha256(
    scored.samples
      .map((sample) => {
        const { doc, prompt, target } = hashesOf(scored, sample)
        return doc + prompt + target
      })
      .join(''),
  )
}

/** One line of a samples file. */
export function lmEvalSample(scored: ScoredTask, sample: ScoredSample): Record<string, unknown> {
  const { task } = scored
  const hashes = hashesOf(scored, sample)
  const generates = task.outputType === 'generate_until'
  const rolls = task.outputType === 'loglikelihood_rolling'
  const options = {
    until: task.generation.until ?? [task.fewshotDelimiter],
    max_gen_toks: task.generation.maxTokens,
    do_sample: task.generation.temperature > 0,
    temperature: task.generation.temperature,
  }
  const names = scored.figures.filter(({ filter }) => filter === sample.filter).map(({ metric }) => metric)
  const scores = sample.responses.map((response) =>
    typeof response === 'string' ? response : rolls ? String(response[0]) : [String(response[0]), response[1] ? 'True' : 'False'],
  )
  return {
    doc_id: sample.item.docId,
    doc: sample.item.doc,
    target: targetOf(sample),
    arguments: Object.fromEntries(
      askedOf(scored, sample).map(([context, continuation], i) => [
        `gen_args_${i}`,
        continuation === null ? { arg_0: context } : { arg_0: context, arg_1: generates ? options : continuation },
      ]),
    ),
    resps: generates ? [sample.responses] : scores.map((score) => [score]),
    filtered_resps: generates ? sample.filtered : scores,
    filter: sample.filter,
    metrics: names,
    doc_hash: hashes.doc,
    prompt_hash: hashes.prompt,
    target_hash: hashes.target,
    ...Object.fromEntries(names.map((name) => [name, rolls ? [sample.metrics[name], weightOf(name, sample)] : sample.metrics[name]])),
  }
}

/** What a document's log-likelihood is spread over: words or bytes of its text. */
function weightOf(metric: string, { item }: ScoredSample): number {
  const text = item.continuations[0] ?? ''
  return metric === 'word_perplexity' ? countWords(text) : Buffer.byteLength(text)
}

/** Writes both kinds of file under `<folder>/<model>/` and returns their paths. */
export async function writeLmEvalFiles(
  folder: string,
  results: Readonly<Record<string, unknown>>,
  scored: readonly ScoredTask[],
  date: Date,
): Promise<string[]> {
  const own = join(folder, String(results['model_name_sanitized'] ?? 'model'))
  await makeFolder(own)
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
