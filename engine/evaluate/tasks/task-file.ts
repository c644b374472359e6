/**
 * Task files in lm-eval's YAML, the part of it that runs no code (specs/evaluation.md §4). Field names are lm-eval's, so that one file runs in
 * both places; a field that is not known is refused by name and line.
 */
import { realpath } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { LatheError } from '../../contract/errors.ts'
import { DEFAULT_MAX_TOKENS, NO_FEWSHOT, OUTPUT_TYPES } from './task-config.ts'
import type {
  DataFormat,
  FewshotConfig,
  FilterPipeline,
  GenerationConfig,
  GroupConfig,
  MetricConfig,
  OutputType,
  TaskConfig,
  TaskFile,
} from './task-config.ts'
import { integer, list, parseWithIncludes, source, TaskFileError, textField, textList } from './task-yaml.ts'
import type { Json, Parsed } from './task-yaml.ts'

const TASK_KEYS = new Set(
  'task task_alias tag group metadata include dataset_path dataset_name dataset_kwargs output_type training_split validation_split test_split fewshot_split doc_to_text doc_to_target doc_to_choice description target_delimiter fewshot_delimiter gen_prefix num_fewshot fewshot_config generation_kwargs repeats filter_list metric_list should_decontaminate doc_to_decontamination_query cluster_field chance'.split(
    ' ',
  ),
)
const GROUP_KEYS = new Set(['group', 'group_alias', 'task', 'aggregate_metric_list', 'metadata', 'include', 'tag'])
const FORMATS: Readonly<Record<string, DataFormat>> = { json: 'json', jsonl: 'json', csv: 'csv', parquet: 'parquet', text: 'text' }

/** Paths beside the task file; data may lie anywhere that the user's file says, but is never fetched. */
function dataFiles(parsed: Parsed): { readonly format: DataFormat; readonly files: Record<string, string[]> } {
  const path = textField(parsed, 'dataset_path')
  if (path === null)
    throw new TaskFileError(
      parsed.path,
      'dataset_path is missing',
      'Use dataset_path: json with dataset_kwargs.data_files.',
      'evaluate.invalid-data',
    )
  const kwargs = (parsed.values['dataset_kwargs'] ?? {}) as Json
  const format = Object.hasOwn(FORMATS, path) ? FORMATS[path] : undefined
  if (path === 'arrow')
    throw new TaskFileError(parsed.lineOf('dataset_path'), 'Arrow files are not read', 'Save the data as parquet or jsonl.')
  if (format === undefined) {
    throw new TaskFileError(
      parsed.lineOf('dataset_path'),
      `"${path}" is a data set on the Hub, and Lathe downloads nothing`,
      'Save it as jsonl or parquet, set dataset_path to json or parquet, and name the files under dataset_kwargs.data_files.',
    )
  }
  for (const key of Object.keys(kwargs)) {
    if (!['data_files', 'data_dir', 'trust_remote_code'].includes(key))
      throw new TaskFileError(parsed.lineOf('dataset_kwargs'), `dataset_kwargs.${key} is not known`, 'Use data_files and data_dir.')
  }
  const folder = resolve(dirname(parsed.path), typeof kwargs['data_dir'] === 'string' ? kwargs['data_dir'] : '.')
  const at = (file: string): string => resolve(folder, file)
  const given = kwargs['data_files']
  // As in datasets: files without a split are "train".
  if (typeof given === 'string' || Array.isArray(given)) return { format, files: { train: textList(given).map(at) } }
  if (typeof given === 'object' && given !== null)
    return { format, files: Object.fromEntries(Object.entries(given).map(([split, files]) => [split, textList(files).map(at)])) }
  throw new TaskFileError(
    parsed.lineOf('dataset_kwargs'),
    'dataset_kwargs.data_files is missing',
    'Name the files, for each split or all together.',
    'evaluate.invalid-data',
  )
}

function fewshotConfig(parsed: Parsed): FewshotConfig {
  const value = parsed.values['fewshot_config']
  const split = textField(parsed, 'fewshot_split')
  if (value === undefined || value === null) return { ...NO_FEWSHOT, split }
  const config = value as Json
  const sampler = config['sampler'] ?? 'default'
  if (sampler !== 'default' && sampler !== 'first_n' && sampler !== 'per_document')
    throw new TaskFileError(parsed.lineOf('fewshot_config'), `the sampler "${String(sampler)}" is not known`, 'Use default or first_n.')
  const samples = config['samples']
  if (samples !== undefined && !Array.isArray(samples))
    throw new TaskFileError(parsed.lineOf('fewshot_config'), 'fewshot_config.samples must be a list of documents', 'Write them out.')
  const indices = config['fewshot_indices']
  return {
    sampler,
    split: typeof config['split'] === 'string' ? config['split'] : split,
    samples: samples === undefined ? null : list(parsed, 'fewshot_config', samples),
    indices: Array.isArray(indices) ? indices.filter((index) => typeof index === 'number') : null,
    docToText: source(parsed, 'fewshot_config', config['doc_to_text']),
    docToTarget: source(parsed, 'fewshot_config', config['doc_to_target']),
    docToChoice: source(parsed, 'fewshot_config', config['doc_to_choice']),
  }
}

function finiteOr(value: unknown, fallback: number): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : fallback
}

function generation(parsed: Parsed): GenerationConfig {
  const kwargs = (parsed.values['generation_kwargs'] ?? {}) as Json
  for (const key of Object.keys(kwargs)) {
    if (!['until', 'max_gen_toks', 'do_sample', 'temperature', 'top_p', 'max_tokens', 'max_new_tokens'].includes(key))
      throw new TaskFileError(
        parsed.lineOf('generation_kwargs'),
        `generation_kwargs.${key} is not known`,
        'Use until, max_gen_toks, do_sample, temperature and top_p.',
      )
  }
  const sample = kwargs['do_sample'] === true
  return {
    until: kwargs['until'] === undefined ? null : textList(kwargs['until']),
    maxTokens:
      integer(parsed, 'generation_kwargs', kwargs['max_gen_toks'] ?? kwargs['max_new_tokens'] ?? kwargs['max_tokens'], 1) ??
      DEFAULT_MAX_TOKENS,
    temperature: sample ? finiteOr(kwargs['temperature'], 1) : 0,
    topP: sample ? finiteOr(kwargs['top_p'], 1) : 1,
  }
}

function filters(parsed: Parsed): FilterPipeline[] {
  return list(parsed, 'filter_list', parsed.values['filter_list']).map((entry, index) => ({
    name: typeof entry['name'] === 'string' ? entry['name'] : `filter${index + 1}`,
    steps: list(parsed, 'filter_list', entry['filter']).map(({ function: name, ...options }) => {
      if (typeof name !== 'string')
        throw new TaskFileError(
          parsed.lineOf('filter_list'),
          'a filter has no function',
          'Name one, e.g. "regex".',
          'evaluate.invalid-data',
        )
      return { function: name, options }
    }),
  }))
}

function metrics(parsed: Parsed): MetricConfig[] {
  return list(parsed, 'metric_list', parsed.values['metric_list']).map(({ metric, aggregation, higher_is_better: higher, ...options }) => {
    if (typeof metric !== 'string')
      throw new TaskFileError(parsed.lineOf('metric_list'), 'an entry has no metric', 'Name one, e.g. "acc".', 'evaluate.invalid-data')
    return {
      metric,
      aggregation: typeof aggregation === 'string' ? aggregation : null,
      higherIsBetter: typeof higher === 'boolean' ? higher : null,
      options,
    }
  })
}

function toTask(parsed: Parsed): TaskConfig {
  const { values } = parsed
  for (const key of Object.keys(values))
    if (!TASK_KEYS.has(key))
      throw new TaskFileError(parsed.lineOf(key), `"${key}" is not a field that Lathe knows`, 'Remove it if the task does not need it.')
  const name = textField(parsed, 'task')
  if (name === null || name === '')
    throw new TaskFileError(parsed.path, '"task" is missing', 'Give the task a name.', 'evaluate.invalid-data')
  const outputType = (textField(parsed, 'output_type') ?? 'generate_until') as OutputType
  if (!OUTPUT_TYPES.includes(outputType))
    throw new TaskFileError(parsed.lineOf('output_type'), `"${outputType}" is not an output type`, `Use one of ${OUTPUT_TYPES.join(', ')}.`)
  const docToText = source(parsed, 'doc_to_text', values['doc_to_text'])
  const docToTarget = source(parsed, 'doc_to_target', values['doc_to_target'])
  const docToChoice = source(parsed, 'doc_to_choice', values['doc_to_choice'])
  if (docToTarget === null && docToText === null)
    throw new TaskFileError(
      parsed.path,
      'neither doc_to_text nor doc_to_target is there',
      'Say what the model reads.',
      'evaluate.invalid-data',
    )
  if (outputType === 'multiple_choice' && docToChoice === null)
    throw new TaskFileError(
      parsed.path,
      'a multiple_choice task needs doc_to_choice',
      'Name the field with the choices.',
      'evaluate.invalid-data',
    )
  const metadata = (values['metadata'] ?? {}) as Json
  const version = metadata['version']
  const split = (key: string): string | null => textField(parsed, key)
  if (split('test_split') === null && split('validation_split') === null)
    throw new TaskFileError(
      parsed.path,
      'neither test_split nor validation_split is there',
      'Name the split to evaluate on.',
      'evaluate.invalid-data',
    )
  return {
    name,
    title: textField(parsed, 'task_alias') ?? name,
    tags: textList(values['tag'] ?? values['group']),
    version: typeof version === 'number' || typeof version === 'string' ? version : null,
    outputType,
    ...dataFiles(parsed),
    documents: null,
    trainingSplit: split('training_split'),
    validationSplit: split('validation_split'),
    testSplit: split('test_split'),
    docToText: docToText ?? '',
    docToTarget,
    docToChoice,
    description: textField(parsed, 'description') ?? '',
    targetDelimiter: textField(parsed, 'target_delimiter') ?? ' ',
    fewshotDelimiter: textField(parsed, 'fewshot_delimiter') ?? '\n\n',
    genPrefix: textField(parsed, 'gen_prefix'),
    fewshot: integer(parsed, 'num_fewshot', values['num_fewshot'], 0),
    fewshotConfig: fewshotConfig(parsed),
    generation: generation(parsed),
    repeats: integer(parsed, 'repeats', values['repeats'], 1) ?? 1,
    filters: filters(parsed),
    metrics: metrics(parsed),
    clusterField: textField(parsed, 'cluster_field'),
    chance: typeof values['chance'] === 'number' ? values['chance'] : null,
  }
}

/** A group's members are tasks in it, or files beside it named after them. */
async function toGroup(parsed: Parsed, root: string): Promise<TaskFile> {
  const { values } = parsed
  for (const key of Object.keys(values))
    if (!GROUP_KEYS.has(key))
      throw new TaskFileError(parsed.lineOf(key), `"${key}" is not a field of a group that Lathe knows`, 'Remove it.')
  const name = textField(parsed, 'group')
  const members = values['task']
  if (name === null || !Array.isArray(members))
    throw new TaskFileError(
      parsed.path,
      'a group needs a name and a list of tasks',
      'See lm-eval’s documentation of groups.',
      'evaluate.invalid-data',
    )
  const tasks: TaskConfig[] = []
  const groups: GroupConfig[] = []
  const memberNames: string[] = []
  for (const member of members as unknown[]) {
    if (typeof member === 'string') {
      const file = await memberFile(parsed, member)
      const nested = await readYaml(file, root)
      tasks.push(...nested.tasks)
      groups.push(...nested.groups)
      memberNames.push(nested.groups.at(-1)?.name ?? nested.tasks[0]?.name ?? member)
      continue
    }
    if (typeof member !== 'object' || member === null)
      throw new TaskFileError(parsed.lineOf('task'), 'a member is neither a name nor a task', 'Name a task file.', 'evaluate.invalid-data')
    const task = toTask({ path: parsed.path, values: member as Json, lineOf: () => parsed.lineOf('task') })
    tasks.push(task)
    memberNames.push(task.name)
  }
  const aggregates = list(parsed, 'aggregate_metric_list', values['aggregate_metric_list']).map((entry) => {
    const { metric, aggregation, weight_by_size: weight, filter_list: filterList } = entry
    if (typeof metric !== 'string')
      throw new TaskFileError(parsed.lineOf('aggregate_metric_list'), 'an entry has no metric', 'Name one.', 'evaluate.invalid-data')
    if (aggregation !== undefined && aggregation !== 'mean')
      throw new TaskFileError(parsed.lineOf('aggregate_metric_list'), `the aggregation "${String(aggregation)}" is not known`, 'Use mean.')
    return { metric, weightBySize: weight !== false, filters: filterList === undefined ? null : textList(filterList) }
  })
  groups.push({ name, title: textField(parsed, 'group_alias') ?? name, members: memberNames, aggregates })
  return { tasks, groups }
}

async function memberFile(parsed: Parsed, member: string): Promise<string> {
  const folder = dirname(parsed.path)
  const candidates = extname(member) === '' ? [`${member}.yaml`, `${member}.yml`, join(member, `${basename(member)}.yaml`)] : [member]
  for (const candidate of candidates) {
    const found = await realpath(resolve(folder, candidate)).catch(() => null)
    if (found !== null) return found
  }
  throw new TaskFileError(
    parsed.lineOf('task'),
    `there is no file for the task "${member}"`,
    `Put ${member}.yaml beside the group's file.`,
    'evaluate.invalid-data',
  )
}

async function readYaml(path: string, root: string): Promise<TaskFile> {
  const parsed = await parseWithIncludes(path, root, [path])
  // A task may carry an old-style `group` label; only a list of members makes a group of it.
  return Array.isArray(parsed.values['task']) ? toGroup(parsed, root) : { tasks: [toTask(parsed)], groups: [] }
}

/** Throws `evaluate.invalid-data` for what is wrong and `evaluate.unsupported-task` for what Lathe does not do, with file and line. */
export async function readTaskYaml(path: string): Promise<TaskFile> {
  const real = await realpath(path).catch((cause: unknown) => {
    throw new LatheError('evaluate.invalid-data', `${path} can't be read.`, 'Check the path.', { cause })
  })
  return readYaml(real, dirname(real))
}
