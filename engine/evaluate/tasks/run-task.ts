/**
 * Asks a target everything that a task needs: several requests in flight, answers from the cache where they are known, cancellable between any two.
 * What is asked was fixed by prompts.ts; how it is judged is score-task.ts's business.
 */
import { LatheError } from '../../contract/errors.ts'
import type { AnswerTrace } from '../answer-trace.ts'
import type { EvaluationCache } from './cache.ts'
import { needsUnconditional, metricsOf } from './task-metrics.ts'
import { compilePipeline } from './filters.ts'
import { prepareItems, sha256 } from './prompts.ts'
import type { PreparedItem, PromptOptions, TaskDocuments } from './prompts.ts'
import type { EvaluationTarget, Generated, GenerateRequest, Loglikelihood } from './target.ts'
import type { TaskConfig } from './task-config.ts'
import { readItems } from './task-data.ts'
import type { Doc } from './template.ts'

/** Windows of rolling tasks: fixed, so that models of different context are comparable (specs/evaluation.md §1.2). */
export const ROLLING_WINDOW = 2048

export interface RunOptions {
  readonly prompts: PromptOptions
  readonly limit: number | null
  readonly rollingWindow?: number
  readonly cache?: EvaluationCache | null
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (doneRequests: number, totalRequests: number) => void
}

export interface TaskAnswers {
  readonly task: TaskConfig
  readonly items: readonly PreparedItem[]
  /** Documents of the split before any limit. */
  readonly available: number
  readonly prompts: PromptOptions
  readonly limit: number | null
  readonly targetName: string
  readonly protocol: string
  /** By document, then continuation; empty lists for generation. */
  readonly likelihoods: readonly (readonly Loglikelihood[])[]
  /** Without context, where a metric needs it. */
  readonly unconditional: readonly (readonly Loglikelihood[])[] | null
  /** By document, then repeat; empty lists for scoring. */
  readonly texts: readonly (readonly string[])[]
  /** As `texts`; null where the target does not tell, and for answers that were kept before it was asked to. */
  readonly traces: readonly (readonly (AnswerTrace | null)[])[]
  readonly fromCache: number
  /** The target's tokenizer; null where it is not known. */
  readonly encode: ((text: string) => ArrayLike<number>) | null
}

/** Items of the evaluated split and of the examples' source. Throws `evaluate.invalid-data` when there are none. */
export async function loadDocuments(
  task: TaskConfig,
  limit: number | null,
  fewshot: number,
): Promise<TaskDocuments & { readonly available: number }> {
  const split = task.testSplit ?? task.validationSplit ?? 'test'
  const all = task.documents ?? (await readItems(task.format, filesOf(task, split), null))
  if (all.length === 0)
    throw new LatheError('evaluate.invalid-data', `${task.name}: the split "${split}" has no documents.`, 'Check the data file.')
  const docs = limit === null ? all : all.slice(0, limit)
  const config = task.fewshotConfig
  if (fewshot === 0) return { docs, fewshot: [], sharesSplit: false, available: all.length }
  const from = config.split ?? (config.samples !== null ? null : (task.trainingSplit ?? task.validationSplit ?? split))
  const examples: readonly Doc[] =
    from === null ? (config.samples ?? []) : from === split ? all : await readItems(task.format, filesOf(task, from), null)
  const chosen = config.indices === null ? examples : config.indices.map((index) => examples[index]).filter((doc) => doc !== undefined)
  return { docs, fewshot: chosen, sharesSplit: from === split, available: all.length }
}

function filesOf(task: TaskConfig, split: string): readonly string[] {
  const files = task.files[split]
  if (files !== undefined) return files
  const known = Object.keys(task.files)
  throw new LatheError(
    'evaluate.invalid-data',
    `${task.name} names the split "${split}", and its data has ${known.join(', ') || 'none'}.`,
    'Name the file of each split under dataset_kwargs.data_files.',
  )
}

/** Seeds of repeats: different within a document, the same in every run. */
const REPEAT_SEED = 1234

type Request =
  | { readonly kind: 'likelihood'; readonly context: string; readonly continuation: string }
  | { readonly kind: 'rolling'; readonly text: string; readonly window: number }
  | { readonly kind: 'generate'; readonly request: GenerateRequest }

type Answer = Loglikelihood | Generated

/**
 * Runs a task. The first failure stops the rest; what was answered until then is in the cache, so that a second run goes on from there.
 * Throws what the target throws, and `runtime.aborted` when cancelled.
 */
export async function runTask(
  task: TaskConfig,
  target: EvaluationTarget,
  documents: TaskDocuments & { readonly available: number },
  options: RunOptions,
): Promise<TaskAnswers> {
  // Metrics and filters that can't be used are found out before the first request.
  metricsOf(task)
  for (const pipeline of task.filters) compilePipeline(pipeline)
  const items = prepareItems(task, documents, target, options.prompts)
  const withFree = needsUnconditional(task)
  const requests: { readonly request: Request; readonly item: number; readonly slot: number; readonly free: boolean }[] = []
  for (const [item, prepared] of items.entries()) {
    for (const [slot, request] of requestsOf(task, prepared, target, options).entries()) requests.push({ request, item, slot, free: false })
    if (withFree)
      for (const [slot, continuation] of prepared.continuations.entries())
        requests.push({ request: { kind: 'likelihood', context: '', continuation }, item, slot, free: true })
  }
  const likelihoods: Loglikelihood[][] = items.map(() => [])
  const unconditional: Loglikelihood[][] = items.map(() => [])
  const texts: string[][] = items.map(() => [])
  const traces: (AnswerTrace | null)[][] = items.map(() => [])
  let fromCache = 0
  let done = 0
  const failed = new AbortController()
  const signal = options.signal === undefined ? failed.signal : AbortSignal.any([options.signal, failed.signal])
  let next = 0
  const worker = async (): Promise<void> => {
    for (let index = next++; index < requests.length; index = next++) {
      const work = requests[index]
      if (work === undefined) return
      signal.throwIfAborted()
      const key = cacheKey(target, work.request)
      const known = options.cache?.get(key) as Answer | undefined
      if (known !== undefined) fromCache++
      const answer = known ?? (await ask(target, work.request, signal))
      if (known === undefined) options.cache?.put(key, answer)
      if ('text' in answer) {
        ;(texts[work.item] ?? [])[work.slot] = answer.text
        ;(traces[work.item] ?? [])[work.slot] = answer.trace ?? null
      } else ((work.free ? unconditional : likelihoods)[work.item] ?? [])[work.slot] = answer
      done++
      options.onProgress?.(done, requests.length)
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.min(target.parallel, requests.length) }, worker))
  } catch (failure) {
    failed.abort()
    throw failure
  } finally {
    await options.cache?.flush()
  }
  return {
    task,
    items,
    available: documents.available,
    prompts: options.prompts,
    limit: options.limit,
    targetName: target.name,
    protocol: target.protocol,
    likelihoods,
    unconditional: withFree ? unconditional : null,
    texts,
    traces,
    fromCache,
    encode: target.encode ?? null,
  }
}

function requestsOf(task: TaskConfig, item: PreparedItem, target: EvaluationTarget, options: RunOptions): Request[] {
  if (task.outputType === 'loglikelihood_rolling')
    return [{ kind: 'rolling', text: item.continuations[0] ?? '', window: options.rollingWindow ?? ROLLING_WINDOW }]
  if (task.outputType === 'generate_until') {
    const until = [...(task.generation.until ?? [task.fewshotDelimiter]), ...(target.endText === null ? [] : [target.endText])].filter(
      (stop) => stop !== '',
    )
    const { maxTokens, temperature, topP } = task.generation
    const prompt = item.turns !== null && target.kind === 'remote' ? item.turns : (item.contexts[0] ?? '')
    return Array.from({ length: task.repeats }, (_, repeat) => ({
      kind: 'generate',
      request: { prompt, maxTokens, until, temperature, topP, seed: REPEAT_SEED + repeat },
    }))
  }
  if (item.contexts.length > 1)
    return item.contexts.map((context) => ({ kind: 'likelihood', context, continuation: item.continuations[0] ?? '' }))
  return item.continuations.map((continuation) => ({ kind: 'likelihood', context: item.contexts[0] ?? '', continuation }))
}

function ask(target: EvaluationTarget, request: Request, signal: AbortSignal): Promise<Answer> {
  if (request.kind === 'likelihood') return target.loglikelihood(request, signal)
  if (request.kind === 'generate') return target.generate(request.request, signal)
  return target.rolling(request.text, request.window, signal).then(({ logprob, tokens }) => ({ logprob, tokens, isGreedy: false }))
}

function cacheKey(target: EvaluationTarget, request: Request): string {
  return sha256(JSON.stringify([target.fingerprint, target.protocol, request]))
}
