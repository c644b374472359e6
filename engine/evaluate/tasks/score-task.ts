/**
 * From answers to figures and samples: filters, metrics (specs/evaluation.md §2–§3), and their comparison with a baseline's on the same items. Pure; what it returns is what results files and the board are made from.
 */
import { LatheError } from '../../contract/errors.ts'
import type { FreeTextDrift, PairedComparison, SampleRow, TaskResult } from '../../contract/index.ts'
import { isGreedyTemperature } from '../../runtime/sampling.ts'
import { freeTextDrift } from '../free-text-drift.ts'
import { figureDifference } from '../paired-figure.ts'
import { comparePaired, minimumDetectableBy } from '../paired.ts'
import type { GroupPart, PairedScores } from '../paired.ts'
import { compilePipeline } from './filters.ts'
import { fewshotCount, goldIndices, sha256 } from './prompts.ts'
import type { PreparedItem } from './prompts.ts'
import type { TaskAnswers } from './run-task.ts'
import type { TaskConfig } from './task-config.ts'
import {
  aggregate,
  countWords,
  figureOf,
  metricsOf,
  normalizerOf,
  scoreChoices,
  scoreGenerated,
  scoreLoglikelihood,
} from './task-metrics.ts'
import type { DocumentValue, Figure } from './task-metrics.ts'

/** One document as one filter sees it. */
export interface ScoredSample {
  readonly item: PreparedItem
  readonly filter: string
  /** What was asked, as lm-eval's `arguments`: context and continuation, or prompt. */
  readonly arguments: readonly (readonly [string, string])[]
  /** Raw answers: [log p, greedy] of each continuation, or texts. */
  readonly responses: readonly (readonly [number, boolean] | string)[]
  readonly filtered: readonly string[]
  readonly metrics: Readonly<Record<string, number>>
  /** The chosen choice, or the first filtered text. */
  readonly answer: string
}

export interface ScoredTask {
  readonly task: TaskConfig
  readonly answers: TaskAnswers
  readonly figures: readonly Figure[]
  readonly samples: readonly ScoredSample[]
  readonly chance: number | null
  /** Name and digest of what was asked: equal means the same items, prompts and examples. */
  readonly dataset: string
}

export function scoreTask(answers: TaskAnswers): ScoredTask {
  const { task, items } = answers
  const configs = metricsOf(task)
  const clusters = task.clusterField === null ? null : items.map((item) => item.cluster ?? String(item.docId))
  const samples = task.outputType === 'generate_until' ? generatedSamples(answers) : scoredSamples(answers)
  const filters = [...new Set(samples.map(({ filter }) => filter))]
  const figures = filters.flatMap((filter) => {
    const own = samples.filter((sample) => sample.filter === filter)
    return configs.map((config) =>
      figureOf(
        config,
        filter,
        own.map((sample) => documentValue(task, config.metric, sample)),
        clusters,
      ),
    )
  })
  return { task, answers, figures, samples, chance: chanceOf(task, items), dataset: datasetOf(answers) }
}

function documentValue(task: TaskConfig, metric: string, sample: ScoredSample): DocumentValue {
  const value = sample.metrics[metric] ?? Number.NaN
  if (task.outputType !== 'loglikelihood_rolling') return { value, weight: 1 }
  const text = sample.item.continuations[0] ?? ''
  return { value, weight: metric === 'word_perplexity' ? countWords(text) : Buffer.byteLength(text) }
}

function scoredSamples(answers: TaskAnswers): ScoredSample[] {
  const { task, items } = answers
  return items.map((item, i) => {
    const scores = answers.likelihoods[i] ?? []
    const [first] = scores
    if (first === undefined)
      throw new LatheError('internal', `Document ${item.docId} of ${task.name} has no score.`, 'Copy the details and report it.')
    const asked: [string, string][] =
      item.contexts.length > 1
        ? item.contexts.map((context) => [context, item.continuations[0] ?? ''])
        : item.continuations.map((continuation) => [item.contexts[0] ?? '', continuation])
    const metrics =
      task.outputType === 'multiple_choice'
        ? scoreChoices(item, scores, answers.unconditional?.[i] ?? null)
        : task.outputType === 'loglikelihood'
          ? scoreLoglikelihood(first)
          : { word_perplexity: first.logprob, byte_perplexity: first.logprob, bits_per_byte: first.logprob }
    let chosen = 0
    for (const [index, score] of scores.entries()) if (score.logprob > (scores[chosen]?.logprob ?? -Infinity)) chosen = index
    return {
      item,
      filter: 'none',
      arguments: asked,
      responses: scores.map(({ logprob, isGreedy }) => [logprob, isGreedy] as const),
      filtered: scores.map(({ logprob, isGreedy }) => `(${logprob}, ${isGreedy ? 'True' : 'False'})`),
      metrics,
      answer:
        task.outputType === 'multiple_choice'
          ? (item.choices[chosen] ?? '')
          : task.outputType === 'loglikelihood' && first.isGreedy
            ? item.target
            : '',
    }
  })
}

const TAKE_FIRST = { name: 'none', steps: [{ function: 'take_first', options: {} }] }

function generatedSamples(answers: TaskAnswers): ScoredSample[] {
  const { task, items } = answers
  const pipelines = task.filters.length > 0 ? task.filters : [TAKE_FIRST]
  const configs = metricsOf(task).map((config) => ({ config, normalize: normalizerOf(config) }))
  const choices = items.map((item) => item.choices)
  return pipelines.flatMap((pipeline) => {
    const filtered = compilePipeline(pipeline)(answers.texts, choices)
    return items.map((item, i): ScoredSample => {
      const kept = filtered[i] ?? []
      const answer = kept[0] ?? ''
      const gold: readonly unknown[] = Array.isArray(item.gold) ? item.gold : [item.gold]
      const references = gold.map((entry) =>
        typeof entry === 'number' && item.choices.length > 0 ? (item.choices[entry] ?? '') : String(entry),
      )
      return {
        item,
        filter: pipeline.name,
        arguments: [[item.contexts[0] ?? '', '']],
        responses: answers.texts[i] ?? [],
        filtered: kept,
        metrics: Object.fromEntries(
          configs.map(({ config, normalize }) => [config.metric, scoreGenerated(config.metric, normalize, answer, references)]),
        ),
        answer,
      }
    })
  })
}

/** 1/k, averaged where k varies; a task's own word where it is free text. */
function chanceOf(task: TaskConfig, items: readonly PreparedItem[]): number | null {
  if (task.chance !== null) return task.chance
  if (task.outputType !== 'multiple_choice') return null
  return (
    items.reduce((sum, item) => sum + Math.max(1, goldIndices(item.gold, item.choices).length) / Math.max(1, item.choices.length), 0) /
    items.length
  )
}

function datasetOf({ task, items }: TaskAnswers): string {
  return `${task.name}@${sha256(items.map((item) => item.docHash).join('')).slice(0, 12)}`
}

/** Prompts, items and settings: results of equal keys may share an axis. */
export function taskProtocolKey({ answers, dataset, task }: ScoredTask): string {
  const prompts = sha256(answers.items.map((item) => item.promptHash).join('')).slice(0, 12)
  return `task:${task.outputType}:${dataset}:prompts-${prompts}:${answers.protocol}`
}

/** The key under which a figure stands on the board: the task's name for the first, its metric and filter too for the others. */
export function resultName(task: string, metric: string, filter: string, primary: boolean): string {
  return primary ? task : `${task}:${metric}${filter === 'none' ? '' : `,${filter}`}`
}

export interface ScoredBaseline {
  readonly id: string
  readonly scored: ScoredTask
}

/** All figures of a task as the contract has them. Throws `evaluate.incomparable` when the baseline answered other items. */
export function taskResults(scored: ScoredTask, baseline: ScoredBaseline | null, margin: number | null): TaskResult[] {
  if (baseline !== null && baseline.scored.dataset !== scored.dataset) {
    throw new LatheError(
      'evaluate.incomparable',
      `The baseline answered ${baseline.scored.dataset}, this model ${scored.dataset}.`,
      'Evaluate both models on the same items.',
    )
  }
  const { task, answers } = scored
  const freeText = baseline === null ? null : driftOf(scored, baseline)
  return scored.figures.map((figure, index) => ({
    name: resultName(task.name, figure.metric, figure.filter, index === 0),
    title: index === 0 ? task.title : `${task.title} (${figure.metric}${figure.filter === 'none' ? '' : `, ${figure.filter}`})`,
    metric: figure.metric,
    value: figure.value,
    standardError: figure.standardError,
    interval: [figure.interval[0], figure.interval[1]],
    n: figure.values.length,
    chance: figure.aggregation === 'share' ? scored.chance : null,
    paired: baseline === null ? null : pairedFigure(figure, scored, baseline, margin),
    dataset: scored.dataset,
    task: task.name,
    filter: figure.filter,
    higherIsBetter: figure.higherIsBetter,
    fewshot: fewshotCount(task, answers.prompts),
    outputType: task.outputType,
    primary: index === 0,
    origin: 'measured',
    hasSamples: true,
    note: null,
    ...(freeText === null ? {} : { freeText }),
  }))
}

/** First answers as they were generated and stopped; null for scored choices, and where sampling makes answers differ by chance. */
function driftOf({ task, answers }: ScoredTask, { id, scored }: ScoredBaseline): FreeTextDrift | null {
  if (task.outputType !== 'generate_until' || !isGreedyTemperature(task.generation.temperature)) return null
  const before = scored.answers
  const pairs = answers.texts.map(([text = ''], i) => ({
    baseline: before.texts[i]?.[0] ?? '',
    candidate: text,
    baselineTrace: before.traces[i]?.[0] ?? null,
    candidateTrace: answers.traces[i]?.[0] ?? null,
  }))
  return freeTextDrift(id, pairs, { baseline: before.encode, candidate: answers.encode })
}

function pairedFigure(figure: Figure, scored: ScoredTask, baseline: ScoredBaseline, margin: number | null): PairedComparison | null {
  const other = counterpartOf(figure, baseline)
  if (other === undefined) return null
  const scores = pairedScores(figure, other, scored, baseline, margin)
  const paired = comparePaired(scores)
  return isMean(figure) ? paired : ofFigure(figure, other, { paired, clusters: scores.clusters ?? null })
}

/** One task of a group beside the baseline's; null where the baseline has no such figure. Its own verdict and recovery are not asked for. */
export function pairedPart(figure: Figure, scored: ScoredTask, baseline: ScoredBaseline, weight: number): GroupPart | null {
  const other = counterpartOf(figure, baseline)
  if (other === undefined) return null
  const scores = pairedScores(figure, other, scored, baseline, null)
  const paired = comparePaired({ ...scores, hasRecovery: false })
  const n = figure.values.length
  if (isMean(figure)) return { weight, n, paired, scores }
  return { weight, n, paired: ofFigure(figure, other, { paired, clusters: scores.clusters ?? null }), scores: null }
}

function counterpartOf(figure: Figure, { scored }: ScoredBaseline): Figure | undefined {
  return scored.figures.find(({ metric, filter }) => metric === figure.metric && filter === figure.filter)
}

function isMean({ aggregation }: Figure): boolean {
  return aggregation === 'share' || aggregation === 'mean'
}

function pairedScores(figure: Figure, other: Figure, scored: ScoredTask, baseline: ScoredBaseline, margin: number | null): PairedScores {
  const isShare = isMean(figure)
  const own = scored.samples.filter((sample) => sample.filter === figure.filter)
  const theirs = baseline.scored.samples.filter((sample) => sample.filter === figure.filter)
  const samePrompts = own.every((sample, i) => sample.item.promptHash === theirs[i]?.item.promptHash)
  return {
    baselineId: baseline.id,
    // Of a perplexity, what differs by item is the mean log-likelihood.
    baseline: other.values.map(({ value, weight }) => value / weight),
    candidate: figure.values.map(({ value, weight }) => value / weight),
    higherIsBetter: isShare ? figure.higherIsBetter : true,
    margin: isShare ? margin : null,
    chance: figure.aggregation === 'share' ? scored.chance : null,
    changed: own.filter((sample, i) => sample.answer !== theirs[i]?.answer).length,
    logLikelihoods: goldLikelihoods(scored, baseline.scored),
    clusters: scored.task.clusterField === null ? null : own.map((sample) => sample.item.cluster ?? String(sample.item.docId)),
    warnings: samePrompts ? [] : ['The two models were asked in different words (another chat template).'],
    hasRecovery: isShare,
  }
}

/** In the score's own unit, which is not that of the items' values. */
function ofFigure(
  figure: Figure,
  other: Figure,
  { paired, clusters }: { readonly paired: PairedComparison; readonly clusters: readonly string[] | null },
): PairedComparison {
  const found = figureDifference(other.values, figure.values, (values) => aggregate(figure.aggregation, values), clusters)
  return {
    ...paired,
    ...found,
    minimumDetectableDifference: minimumDetectableBy(found.standardError),
    lost: null,
    gained: null,
    mcnemarP: null,
  }
}

function goldLikelihoods(own: ScoredTask, other: ScoredTask): { readonly baseline: number[]; readonly candidate: number[] } | null {
  if (own.task.outputType !== 'multiple_choice') return null
  const of = (scored: ScoredTask): number[] =>
    scored.answers.items.map(
      (item, i) => scored.answers.likelihoods[i]?.[goldIndices(item.gold, item.choices)[0] ?? 0]?.logprob ?? Number.NaN,
    )
  return { baseline: of(other), candidate: of(own) }
}

/** A task's items as the board shows them under one filter, its first where none is named; they hold the values of all metrics under it. */
export function sampleRows(scored: ScoredTask, filter = scored.figures[0]?.filter): SampleRow[] {
  const first = scored.figures.find((figure) => figure.filter === filter)
  if (first === undefined) return []
  return scored.samples
    .filter((sample) => sample.filter === first.filter)
    .map((sample): SampleRow => {
      const { item } = sample
      const value = sample.metrics[first.metric] ?? null
      const text = sample.responses.find((response) => typeof response === 'string')
      return {
        docId: item.docId,
        docHash: item.docHash,
        prompt: item.contexts[0] ?? '',
        target: item.target,
        choices: scored.task.outputType === 'multiple_choice' ? [...item.choices] : [],
        output: text ?? sample.answer,
        answer: sample.answer,
        baselineOutput: null,
        baselineAnswer: null,
        correct: first.aggregation === 'share' && value !== null ? value > 0.5 : null,
        baselineCorrect: null,
        metrics: Object.fromEntries(
          Object.entries(sample.metrics).map(([name, figure]) => [name, Number.isFinite(figure) ? figure : null]),
        ),
        baselineMetrics: null,
        logprobs: sample.responses.flatMap((response) =>
          typeof response === 'string' ? [] : [Number.isFinite(response[0]) ? response[0] : null],
        ),
        baselineLogprobs: null,
        samePrompt: true,
      }
    })
}
