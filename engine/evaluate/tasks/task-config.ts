/** What a task is: lm-eval's fields in the types of this program (specs/evaluation.md §4). Knows nothing of files; task-file.ts reads them. */

export type OutputType = 'loglikelihood' | 'loglikelihood_rolling' | 'multiple_choice' | 'generate_until'
export const OUTPUT_TYPES: readonly OutputType[] = ['loglikelihood', 'loglikelihood_rolling', 'multiple_choice', 'generate_until']

export type DataFormat = 'json' | 'csv' | 'parquet' | 'text'

/** A template or field name, or the value itself. */
export type FieldSource = string | number | readonly (string | number)[]

export interface FilterStep {
  readonly function: string
  readonly options: Readonly<Record<string, unknown>>
}

export interface FilterPipeline {
  readonly name: string
  readonly steps: readonly FilterStep[]
}

export interface MetricConfig {
  readonly metric: string
  readonly aggregation: string | null
  readonly higherIsBetter: boolean | null
  /** Everything else in the entry: options of the metric. */
  readonly options: Readonly<Record<string, unknown>>
}

export interface GenerationConfig {
  /** null = the few-shot delimiter. */
  readonly until: readonly string[] | null
  readonly maxTokens: number
  readonly temperature: number
  readonly topP: number
}

export interface FewshotConfig {
  readonly sampler: 'default' | 'first_n' | 'per_document'
  readonly split: string | null
  readonly samples: readonly Readonly<Record<string, unknown>>[] | null
  readonly indices: readonly number[] | null
  readonly docToText: FieldSource | null
  readonly docToTarget: FieldSource | null
  readonly docToChoice: FieldSource | null
}

export interface TaskConfig {
  readonly name: string
  readonly title: string
  readonly tags: readonly string[]
  readonly version: string | number | null
  readonly outputType: OutputType
  readonly format: DataFormat
  /** Absolute paths by split. */
  readonly files: Readonly<Record<string, readonly string[]>>
  /** Items given in place of files. */
  readonly documents: readonly Readonly<Record<string, unknown>>[] | null
  readonly trainingSplit: string | null
  readonly validationSplit: string | null
  readonly testSplit: string | null
  readonly docToText: FieldSource
  readonly docToTarget: FieldSource | null
  readonly docToChoice: FieldSource | null
  readonly description: string
  readonly targetDelimiter: string
  readonly fewshotDelimiter: string
  readonly genPrefix: string | null
  readonly fewshot: number | null
  readonly fewshotConfig: FewshotConfig
  readonly generation: GenerationConfig
  readonly repeats: number
  readonly filters: readonly FilterPipeline[]
  /** Empty = the output type's own. */
  readonly metrics: readonly MetricConfig[]
  /** Field whose value groups items that are not independent; an extension. */
  readonly clusterField: string | null
  /** Score of guessing where it can't be counted from the choices; an extension. */
  readonly chance: number | null
}

export interface GroupConfig {
  readonly name: string
  readonly title: string
  readonly members: readonly string[]
  readonly aggregates: readonly {
    readonly metric: string
    readonly weightBySize: boolean
    /** Filters over which it is formed; null = all. */
    readonly filters: readonly string[] | null
  }[]
}

export interface TaskFile {
  readonly tasks: readonly TaskConfig[]
  readonly groups: readonly GroupConfig[]
}

export const NO_FEWSHOT: FewshotConfig = {
  sampler: 'default',
  split: null,
  samples: null,
  indices: null,
  docToText: null,
  docToTarget: null,
  docToChoice: null,
}

/** lm-eval's own. */
export const DEFAULT_MAX_TOKENS = 256

/** A task made in the program rather than read from a file. */
export function taskOf(fields: Pick<TaskConfig, 'name' | 'title' | 'outputType' | 'docToText'> & Partial<TaskConfig>): TaskConfig {
  return {
    tags: [],
    version: null,
    format: 'json',
    files: {},
    documents: null,
    trainingSplit: null,
    validationSplit: null,
    testSplit: 'test',
    docToTarget: null,
    docToChoice: null,
    description: '',
    targetDelimiter: ' ',
    fewshotDelimiter: '\n\n',
    genPrefix: null,
    fewshot: null,
    fewshotConfig: NO_FEWSHOT,
    generation: { until: null, maxTokens: DEFAULT_MAX_TOKENS, temperature: 0, topP: 1 },
    repeats: 1,
    filters: [],
    metrics: [],
    clusterField: null,
    chance: null,
    ...fields,
  }
}
