/**
 * What all probes have in common (specs/evaluation.md §10): a value per item, figures made of them, and a comparison with a baseline on the same
 * items. A probe shows a change; it certifies nothing, and its notes say so.
 */
import type { SampleRow, TaskResult } from '../../contract/index.ts'
import { comparePaired } from '../paired.ts'
import { meanWithError, wilsonInterval, Z95 } from '../statistics.ts'

export interface ProbeFigure {
  readonly metric: string
  readonly title: string
  /** One number per item that this figure is about, by key; the same keys pair with a baseline's. */
  readonly values: ReadonlyMap<string, number>
  readonly higherIsBetter: boolean
  /** Where the figure is not the mean of its values. */
  readonly value?: number
  readonly chance?: number
  readonly note?: string
}

export interface ProbeOutcome {
  readonly name: string
  readonly title: string
  /** Name and digest of the items and of everything that decides what is asked. */
  readonly dataset: string
  readonly figures: readonly ProbeFigure[]
  readonly rows: readonly SampleRow[]
}

/** Figures without items are left out: nothing was measured, and 0 would be a statement. */
export function probeResults(
  outcome: ProbeOutcome,
  baseline: { readonly id: string; readonly outcome: ProbeOutcome } | null,
  margin: number | null,
): TaskResult[] {
  return outcome.figures
    .filter((figure) => figure.values.size > 0)
    .map((figure, index): TaskResult => {
      const values = [...figure.values.values()]
      const { mean, standardError } = meanWithError(values)
      const isShare = figure.value === undefined && values.every((value) => value === 0 || value === 1)
      const value = figure.value ?? mean
      const half = Z95 * (standardError ?? 0)
      const other =
        baseline?.outcome.dataset === outcome.dataset ? baseline.outcome.figures.find(({ metric }) => metric === figure.metric) : undefined
      const keys = other === undefined ? [] : [...figure.values.keys()].filter((key) => other.values.has(key))
      const paired =
        baseline === null || other === undefined || keys.length === 0
          ? null
          : comparePaired({
              baselineId: baseline.id,
              baseline: keys.map((key) => other.values.get(key) ?? 0),
              candidate: keys.map((key) => figure.values.get(key) ?? 0),
              higherIsBetter: figure.higherIsBetter,
              margin: figure.value === undefined ? margin : null,
              chance: figure.chance ?? null,
              changed: keys.filter((key) => other.values.get(key) !== figure.values.get(key)).length,
              hasRecovery: false,
            })
      return {
        name: index === 0 ? outcome.name : `${outcome.name}:${figure.metric}`,
        title: `${outcome.title}: ${figure.title}`,
        metric: figure.metric,
        value,
        standardError: figure.value === undefined ? standardError : null,
        interval: isShare
          ? wilsonInterval(values.filter((entry) => entry === 1).length, values.length)
          : figure.value === undefined
            ? [value - half, value + half]
            : [value, value],
        n: values.length,
        chance: figure.chance ?? null,
        paired,
        dataset: outcome.dataset,
        task: outcome.name,
        filter: 'none',
        higherIsBetter: figure.higherIsBetter,
        fewshot: 0,
        outputType: 'probe',
        primary: index === 0,
        origin: 'measured',
        hasSamples: true,
        note: figure.note ?? 'A change against the baseline, not a certificate.',
      }
    })
}

/** A row of the samples view; what is not known of a probe is empty. */
export function probeRow(
  fields: Pick<SampleRow, 'docId' | 'docHash' | 'prompt' | 'target' | 'output' | 'correct'> & Partial<SampleRow>,
): SampleRow {
  return {
    choices: [],
    answer: fields.output,
    baselineOutput: null,
    baselineAnswer: null,
    baselineCorrect: null,
    metrics: {},
    baselineMetrics: null,
    logprobs: [],
    baselineLogprobs: null,
    samePrompt: true,
    ...fields,
  }
}
