/**
 * Scores of one document, and how they are put together: lm-eval's metrics by their names (specs/evaluation.md §1.1, §2, §3). Per-document values
 * are kept, so that two models can be compared item by item. Ratios (perplexities over words or bytes) keep numerator and denominator.
 */
import { LatheError } from '../../contract/errors.ts'
import { medianOf } from '../paired-figure.ts'
import { createIndexSampler } from '../random.ts'
import { bootstrapRatioError, clusteredStandardError, meanWithError, wilsonInterval, Z95 } from '../statistics.ts'
import { patterns } from './filters.ts'
import { goldIndices } from './prompts.ts'
import type { PreparedItem } from './prompts.ts'
import type { Loglikelihood } from './target.ts'
import type { MetricConfig, OutputType, TaskConfig } from './task-config.ts'

const BOOTSTRAP = { resamples: 2000, seed: 20261123 }

/** `share`: mean of zeros and ones. `mean`: of anything. Others combine sums: value = f(Σnumerator / Σdenominator). */
export type Aggregation = 'share' | 'mean' | 'median' | 'perplexity' | 'ratio-perplexity' | 'bits-per-byte'

export interface DocumentValue {
  readonly value: number
  /** Of ratios: words, bytes; 1 otherwise. */
  readonly weight: number
}

export interface Figure {
  readonly metric: string
  readonly filter: string
  readonly higherIsBetter: boolean
  readonly aggregation: Aggregation
  readonly values: readonly DocumentValue[]
  readonly value: number
  readonly standardError: number | null
  readonly interval: readonly [number, number]
}

const DEFAULTS: Readonly<Record<OutputType, readonly string[]>> = {
  multiple_choice: ['acc', 'acc_norm'],
  loglikelihood: ['perplexity', 'acc'],
  loglikelihood_rolling: ['word_perplexity', 'byte_perplexity', 'bits_per_byte'],
  generate_until: ['exact_match'],
}

const KNOWN: Readonly<Record<OutputType, readonly string[]>> = {
  multiple_choice: ['acc', 'acc_norm', 'acc_bytes', 'acc_mutual_info', 'exact_match', 'brier_score', 'likelihood'],
  loglikelihood: ['perplexity', 'acc'],
  loglikelihood_rolling: ['word_perplexity', 'byte_perplexity', 'bits_per_byte'],
  generate_until: ['exact_match', 'token_f1'],
}

const LOWER_IS_BETTER = new Set(['perplexity', 'word_perplexity', 'byte_perplexity', 'bits_per_byte', 'brier_score'])
/** Metrics whose values are 0 or 1. */
const SHARES = new Set(['acc', 'acc_norm', 'acc_bytes', 'acc_mutual_info', 'exact_match'])
const AGGREGATIONS: Readonly<Record<string, readonly string[]>> = {
  perplexity: ['perplexity'],
  word_perplexity: ['weighted_perplexity'],
  byte_perplexity: ['weighted_perplexity'],
  bits_per_byte: ['bits_per_byte'],
  brier_score: ['brier_score', 'mean'],
}

/** The metrics of a task. Throws `evaluate.unsupported-task` for unknown ones, before anything is asked of the model. */
export function metricsOf(task: TaskConfig): readonly MetricConfig[] {
  const known = KNOWN[task.outputType]
  const chosen =
    task.metrics.length > 0
      ? task.metrics
      : DEFAULTS[task.outputType].map((metric) => ({ metric, aggregation: null, higherIsBetter: null, options: {} }))
  for (const { metric, aggregation } of chosen) {
    if (!known.includes(metric)) {
      throw new LatheError(
        'evaluate.unsupported-task',
        `${task.name}: the metric "${metric}" of ${task.outputType} tasks is not known.`,
        `Use one of ${known.join(', ')}.`,
      )
    }
    const allowed = AGGREGATIONS[metric] ?? ['mean', 'median', 'nanmean']
    if (aggregation !== null && !allowed.includes(aggregation)) {
      throw new LatheError(
        'evaluate.unsupported-task',
        `${task.name}: "${metric}" can't be aggregated by "${aggregation}".`,
        `Use ${allowed.join(' or ')}.`,
      )
    }
  }
  return chosen
}

export function needsUnconditional(task: TaskConfig): boolean {
  return task.outputType === 'multiple_choice' && metricsOf(task).some(({ metric }) => metric === 'acc_mutual_info')
}

function argmax(values: readonly number[]): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if ((values[i] ?? -Infinity) > (values[best] ?? -Infinity)) best = i
  return best
}

/** Values of all metrics for one document of a multiple-choice task. `free` are the likelihoods without context. */
export function scoreChoices(
  item: PreparedItem,
  scores: readonly Loglikelihood[],
  free: readonly Loglikelihood[] | null,
): Readonly<Record<string, number>> {
  const logprobs = scores.map(({ logprob }) => logprob)
  const gold = goldIndices(item.gold, item.choices)
  const right = (values: readonly number[]): number => Number(gold.includes(argmax(values)))
  const per = (lengthOf: (choice: string) => number): number[] =>
    logprobs.map((value, i) => value / Math.max(1, lengthOf(item.choices[i] ?? '')))
  const top = Math.max(...logprobs)
  const weights = logprobs.map((value) => Math.exp(value - top))
  const total = weights.reduce((sum, value) => sum + value, 0)
  const probabilities = weights.map((value) => value / total)
  return {
    acc: right(logprobs),
    // Code points, as Python counts; the delimiter is not part of a choice.
    acc_norm: right(per((choice) => [...choice].length)),
    acc_bytes: right(per((choice) => Buffer.byteLength(choice))),
    acc_mutual_info: free === null ? Number.NaN : right(logprobs.map((value, i) => value - (free[i]?.logprob ?? Number.NaN))),
    exact_match: Number(gold.some((index) => scores[index]?.isGreedy === true)),
    brier_score: probabilities.reduce((sum, p, i) => sum + (p - Number(gold.includes(i))) ** 2, 0),
    likelihood: gold.reduce((sum, index) => sum + (probabilities[index] ?? 0), 0),
  }
}

export function scoreLoglikelihood(score: Loglikelihood): Readonly<Record<string, number>> {
  return { perplexity: score.logprob, acc: Number(score.isGreedy) }
}

/** Words as lm-eval counts them: an empty piece at either end counts. */
export function countWords(text: string): number {
  return text.split(/\s+/).length
}

function wordsOf(text: string): string[] {
  return text
    .toLowerCase()
    .replaceAll(/[!-/:-@[-`{-~]/g, '')
    .replaceAll(/\b(?:a|an|the)\b/g, ' ')
    .split(/\s+/)
    .filter((word) => word !== '')
}

/** Overlap of words in SQuAD's normalisation. */
function tokenF1(prediction: string, reference: string): number {
  const left = wordsOf(prediction)
  const right = wordsOf(reference)
  if (left.length === 0 || right.length === 0) return Number(left.length === right.length)
  const counts = new Map<string, number>()
  for (const word of right) counts.set(word, (counts.get(word) ?? 0) + 1)
  let common = 0
  for (const word of left) {
    const count = counts.get(word) ?? 0
    if (count > 0) {
      common++
      counts.set(word, count - 1)
    }
  }
  return common === 0 ? 0 : (2 * common) / (left.length + right.length)
}

export type Normalize = (text: string) => string

/** What exact_match does to both sides first: deletions by pattern in order, then case, punctuation, digits. */
export function normalizerOf(config: MetricConfig): Normalize {
  const ignored = patterns(config, 'regexes_to_ignore')
  const { ignore_case: ignoreCase, ignore_punctuation: ignorePunctuation, ignore_numbers: ignoreNumbers } = config.options
  return (text) => {
    let out = ignored.reduce((current, pattern) => current.replaceAll(pattern, ''), text)
    if (ignoreCase === true) out = out.toLowerCase()
    if (ignorePunctuation === true) out = out.replaceAll(/[!-/:-@[-`{-~]/g, '')
    return ignoreNumbers === true ? out.replaceAll(/\d/g, '') : out
  }
}

/** The best over all accepted answers. */
export function scoreGenerated(metric: string, normalize: Normalize, answer: string, references: readonly string[]): number {
  const scores = references.map((reference) =>
    metric === 'token_f1' ? tokenF1(answer, reference) : Number(normalize(answer) === normalize(reference)),
  )
  return Math.max(0, ...scores)
}

function aggregationOf(config: MetricConfig): Aggregation {
  if (config.metric === 'perplexity') return 'perplexity'
  if (config.metric === 'word_perplexity' || config.metric === 'byte_perplexity') return 'ratio-perplexity'
  if (config.metric === 'bits_per_byte') return 'bits-per-byte'
  if (config.aggregation === 'median') return 'median'
  return SHARES.has(config.metric) ? 'share' : 'mean'
}

/** One number from the values of all documents, with its error. */
export function aggregate(aggregation: Aggregation, values: readonly DocumentValue[]): number {
  if (aggregation === 'median') return medianOf(values.map(({ value }) => value))
  let top = 0
  let bottom = 0
  for (const { value, weight } of values) {
    top += value
    bottom += weight
  }
  const mean = top / bottom
  if (aggregation === 'perplexity' || aggregation === 'ratio-perplexity') return Math.exp(-mean)
  return aggregation === 'bits-per-byte' ? -mean / Math.LN2 : mean
}

/** Error of the whole figure: of means s/√n (summed within clusters where there are any), of the rest by bootstrap over documents. */
function standardErrorOf(aggregation: Aggregation, values: readonly DocumentValue[], clusters: readonly string[] | null): number | null {
  const plain = values.map(({ value }) => value)
  if (aggregation === 'share' || aggregation === 'mean')
    return clusters === null ? meanWithError(plain).standardError : clusteredStandardError(plain, clusters)
  if (values.length < 2) return null
  if (aggregation === 'bits-per-byte') {
    const error = bootstrapRatioError(
      plain,
      values.map(({ weight }) => weight),
      BOOTSTRAP,
    )
    return error === null ? null : error / Math.LN2
  }
  const pick = createIndexSampler(BOOTSTRAP.seed)
  const replicates = Array.from({ length: BOOTSTRAP.resamples }, () =>
    aggregate(
      aggregation,
      Array.from(values, () => values[pick(values.length)] as DocumentValue),
    ),
  )
  const { standardError } = meanWithError(replicates)
  return standardError === null ? null : standardError * Math.sqrt(replicates.length)
}

export function figureOf(
  config: MetricConfig,
  filter: string,
  values: readonly DocumentValue[],
  clusters: readonly string[] | null,
): Figure {
  const aggregation = aggregationOf(config)
  const value = aggregate(aggregation, values)
  const standardError = standardErrorOf(aggregation, values, clusters)
  const half = Z95 * (standardError ?? 0)
  const correct = values.reduce((sum, entry) => sum + entry.value, 0)
  return {
    metric: config.metric,
    filter,
    higherIsBetter: config.higherIsBetter ?? !LOWER_IS_BETTER.has(config.metric),
    aggregation,
    values,
    value,
    standardError,
    interval: aggregation === 'share' && clusters === null ? wilsonInterval(correct, values.length) : [value - half, value + half],
  }
}
