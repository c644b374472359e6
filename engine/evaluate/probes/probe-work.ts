/**
 * Which probes are asked for, and running one of them on a target (specs/evaluation.md §10): tasks in other clothes, and the user's own lists for
 * fairness and refusal, told apart by their fields. The same for the command line and for jobs.
 */
import { basename, extname } from 'node:path'
import { LatheError } from '../../contract/errors.ts'
import type { Probe } from '../../contract/index.ts'
import type { EvaluationCache } from '../tasks/cache.ts'
import { fewshotCount } from '../tasks/prompts.ts'
import type { PromptOptions } from '../tasks/prompts.ts'
import { loadDocuments } from '../tasks/run-task.ts'
import type { EvaluationTarget } from '../tasks/target.ts'
import type { TaskConfig } from '../tasks/task-config.ts'
import { readItems } from '../tasks/task-data.ts'
import type { Doc } from '../tasks/template.ts'
import { fairnessLayout, measureFairness } from './fairness.ts'
import type { ProbeOutcome } from './probe.ts'
import { measureRefusal } from './refusal.ts'
import { measureRobustness } from './robustness.ts'

export type ProbeWork =
  | { readonly kind: 'robustness'; readonly task: TaskConfig }
  | { readonly kind: 'list'; readonly probe: 'fairness' | 'refusal'; readonly name: string; readonly path: string }

export interface ProbeOptions {
  readonly prompts: PromptOptions
  /** Items of each; null = all. */
  readonly limit: number | null
  readonly cache: EvaluationCache | null
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (done: number, total: number) => void
}

/**
 * Robustness asks `tasks` again (those with answers that can agree); every file is a list for the probe that its fields tell. Throws
 * `request.invalid` for a probe without its data, and `evaluate.invalid-data` for a file of no known layout: nothing chosen is left out in silence.
 */
export async function planProbes(
  probes: readonly Probe[],
  files: readonly string[],
  tasks: readonly TaskConfig[],
): Promise<readonly ProbeWork[]> {
  const work: ProbeWork[] = []
  if (probes.includes('robustness')) {
    const asked = tasks.filter(({ outputType }) => outputType === 'multiple_choice' || outputType === 'generate_until')
    if (asked.length === 0)
      throw new LatheError(
        'request.invalid',
        'Robustness needs a task to ask in other words.',
        'Choose a multiple-choice or generation task.',
      )
    work.push(...asked.map((task): ProbeWork => ({ kind: 'robustness', task })))
  }
  for (const path of files) work.push(await listWork(path))
  for (const probe of ['fairness', 'refusal'] as const) {
    if (probes.includes(probe) && !work.some((entry) => entry.kind === 'list' && entry.probe === probe)) {
      throw new LatheError(
        'request.invalid',
        `The ${probe} probe has no file: Lathe ships no such texts.`,
        probe === 'fairness'
          ? 'Give it one in BBQ’s or CrowS-Pairs’ layout, or lines of {"a", "b", "group"}.'
          : 'Give it lines of {"prompt", "label": "safe" or "unsafe"}.',
      )
    }
  }
  return work
}

async function listWork(path: string): Promise<ProbeWork> {
  const name = basename(path, extname(path))
  const docs = await readList(path, 1)
  const isRefusal = docs[0]?.['prompt'] !== undefined
  // Says what is wrong with the fields before anything is loaded.
  if (!isRefusal) fairnessLayout(name, docs)
  return { kind: 'list', probe: isRefusal ? 'refusal' : 'fairness', name, path }
}

/** Items of a list, from JSON lines, CSV or parquet. */
export async function readList(path: string, limit: number | null): Promise<Doc[]> {
  const extension = extname(path).toLowerCase()
  const format = extension === '.csv' ? 'csv' : extension === '.parquet' ? 'parquet' : 'json'
  const docs = await readItems(format, [path], limit)
  if (docs.length === 0) throw new LatheError('evaluate.invalid-data', `${basename(path)} holds no items.`, 'Choose another file.')
  return limit === null ? docs : docs.slice(0, limit)
}

export async function measureProbe(work: ProbeWork, target: EvaluationTarget, options: ProbeOptions): Promise<ProbeOutcome> {
  const { signal, cache, limit, prompts } = options
  const onProgress = options.onProgress ?? ((): void => {})
  if (work.kind === 'robustness') {
    const documents = await loadDocuments(work.task, limit, fewshotCount(work.task, prompts))
    return measureRobustness(work.task, target, documents, { prompts, limit, cache, signal, onProgress })
  }
  const measure = work.probe === 'refusal' ? measureRefusal : measureFairness
  const asked = cache === null ? target : cachedTarget(target, cache)
  try {
    return await measure(work.name, await readList(work.path, limit), asked, { signal, onProgress })
  } finally {
    await cache?.flush()
  }
}

/** Lists ask the target directly; their answers are kept as those of tasks are. */
function cachedTarget(target: EvaluationTarget, cache: EvaluationCache): EvaluationTarget {
  const known = async <T>(key: readonly unknown[], ask: () => Promise<T>): Promise<T> => {
    const text = JSON.stringify([target.fingerprint, target.protocol, ...key])
    const found = cache.get(text) as T | undefined
    if (found !== undefined) return found
    const answer = await ask()
    cache.put(text, answer)
    return answer
  }
  return {
    name: target.name,
    kind: target.kind,
    fingerprint: target.fingerprint,
    protocol: target.protocol,
    parallel: target.parallel,
    renderChat: target.renderChat,
    endText: target.endText,
    loglikelihood: (request, signal) => known(['likelihood', request], () => target.loglikelihood(request, signal)),
    rolling: (text, window, signal) => known(['rolling', text, window], () => target.rolling(text, window, signal)),
    generate: (request, signal) => known(['generate', request], () => target.generate(request, signal)),
  }
}
