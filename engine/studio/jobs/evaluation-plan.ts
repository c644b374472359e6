/**
 * How much is measured, by kind of adapter. A software adapter gets a smaller sample so that the first chart is there within a minute and a
 * half on two cores (issue 2); every result carries its own n and protocol key, and the job's log says what was chosen, so nothing is cut silently.
 * Models whose protocol keys differ are never put on one axis, which is why the sizes are steps and not continuous.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LatheError } from '../../contract/index.ts'
import type { Adapter } from '../../contract/index.ts'
import { parseChoiceTask } from '../../evaluate/choice-task.ts'
import type { ChoiceTask } from '../../evaluate/choice-task.ts'
import type { PerplexityOptions, TextSample } from '../../evaluate/perplexity.ts'
import type { GridOptions } from '../../benchmark/engine-grid.ts'
import type { ThroughputOptions } from '../../benchmark/throughput.ts'

export interface EvaluationPlan {
  /** For the job's log: what is measured and why this much. */
  readonly description: string
  readonly perplexity: Pick<PerplexityOptions, 'protocol' | 'window' | 'maxWindows'>
  /** Items per task; null = all. */
  readonly taskItems: number | null
  readonly throughput: Pick<ThroughputOptions, 'promptTokens' | 'generatedTokens' | 'warmups' | 'repeats'>
  /** Speeds by batch and context; null where they would take minutes and say nothing about a GPU. */
  readonly grid: Pick<GridOptions, 'prefillTokens' | 'batches' | 'contexts' | 'decodeTokens' | 'warmups' | 'repeats'> | null
}

/** Windows of the first look: a figure within seconds, replaced as soon as the planned one exists. */
export const FIRST_LOOK_WINDOWS = 2

/** 512 predictions per window with context reset: the protocol of the demo model's published figures. */
const WINDOW = 512

const FULL: EvaluationPlan = {
  description: 'Full evaluation: the whole text, every task item, 5 timed runs after 2 to warm up.',
  perplexity: { protocol: 'rolling', window: WINDOW, maxWindows: null },
  taskItems: null,
  // specs/benchmark.md §4; cells that the context or the cache can't hold are left out
  throughput: { promptTokens: 512, generatedTokens: 128, warmups: 2, repeats: 5 },
  grid: {
    prefillTokens: [128, 512, 2048, 8192],
    batches: [1, 2, 4, 8],
    contexts: [128, 2048, 8192],
    decodeTokens: 33,
    warmups: 2,
    repeats: 5,
  },
}

/** About 4,000 scored tokens and 40 items a task: seconds each at the few hundred tokens a second of a CPU adapter. */
const SHORT: EvaluationPlan = {
  description: 'Short evaluation because the adapter is software: the first 8 windows of 512 tokens, 40 items per task, 3 timed runs.',
  perplexity: { protocol: 'rolling', window: WINDOW, maxWindows: 8 },
  taskItems: 40,
  throughput: { promptTokens: 128, generatedTokens: 32, warmups: 1, repeats: 3 },
  grid: null,
}

/** For what does a few tokens a second: enough to show that it works. */
const MINIMAL: EvaluationPlan = {
  description: 'Minimal evaluation because this model is slow on this adapter: 2 windows of 64 tokens, 4 items per task, 1 timed run.',
  perplexity: { protocol: 'rolling', window: 64, maxWindows: 2 },
  taskItems: 4,
  throughput: { promptTokens: 16, generatedTokens: 8, warmups: 0, repeats: 1 },
  grid: null,
}

/** Two CPU cores touch about 2·10⁹ weights a second; above this size the short plan would take most of an hour. */
const LARGE_FOR_SOFTWARE = 50e6

/** The same for all members of a family, which have the same number of parameters. */
export function evaluationPlan(adapterType: Adapter['type'], parameters: number): EvaluationPlan {
  if (adapterType === 'reference') return MINIMAL
  if (adapterType !== 'software') return FULL
  return parameters > LARGE_FOR_SOFTWARE ? MINIMAL : SHORT
}

/** The same plan cut to what a short context can hold. */
export function fitPlan(plan: EvaluationPlan, contextLimit: number): EvaluationPlan {
  const window = Math.min(plan.perplexity.window, contextLimit)
  const { promptTokens, generatedTokens } = plan.throughput
  const fits = promptTokens + generatedTokens <= contextLimit
  return {
    ...plan,
    perplexity: { ...plan.perplexity, window },
    throughput: {
      ...plan.throughput,
      promptTokens: fits ? promptTokens : Math.max(1, Math.floor(contextLimit / 2)),
      generatedTokens: fits ? generatedTokens : Math.max(2, Math.floor(contextLimit / 4)),
    },
  }
}

interface BundledTask {
  readonly name: string
  readonly title: string
  /** Facts of the made-up town: only the demo model has ever seen them. */
  readonly demoOnly: boolean
}

const BUNDLED_TASKS: readonly BundledTask[] = [
  { name: 'world_facts', title: 'Tidewater facts', demoOnly: true },
  { name: 'reading', title: 'Reading', demoOnly: false },
  { name: 'arithmetic', title: 'Arithmetic', demoOnly: false },
  { name: 'completion', title: 'Completion', demoOnly: false },
]

export class EvaluationData {
  readonly #folder: string

  /** `folder` has perplexity.txt and one jsonl per task. */
  constructor(folder: string) {
    this.#folder = folder
  }

  async text(): Promise<TextSample> {
    return { name: 'demo-perplexity', text: await this.#read('perplexity.txt') }
  }

  /** Names of the tasks that make sense for a model. */
  taskNames(isDemoFamily: boolean): readonly string[] {
    return BUNDLED_TASKS.filter((task) => isDemoFamily || !task.demoOnly).map((task) => task.name)
  }

  async task(name: string, items: number | null): Promise<ChoiceTask> {
    const known = BUNDLED_TASKS.find((task) => task.name === name)
    if (known === undefined) throw new LatheError('evaluate.invalid-data', `There is no bundled task "${name}".`, 'Evaluate again.')
    return parseChoiceTask(name, known.title, await this.#read(`${name}.jsonl`), items)
  }

  async #read(name: string): Promise<string> {
    const path = join(this.#folder, name)
    return readFile(path, 'utf8').catch((error: unknown) => {
      throw new LatheError('evaluate.invalid-data', `The bundled evaluation data ${path} can't be read.`, 'Reinstall Lathe.', {
        cause: error,
      })
    })
  }
}
