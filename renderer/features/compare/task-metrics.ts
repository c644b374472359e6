/** Scores of tasks as metrics of the board, with what the comparison on the same items says. */
import type { TaskResult } from '../../../engine/contract/index.ts'
import { formatInteger, formatPercent, formatSignificant, formatPoints } from '../../lib/format.ts'
import { leadOf } from './free-text-lead.ts'
import type { Entry, Metric, Reading } from './metrics.ts'
import { measured } from './reading.ts'

export function taskMetric(name: string, title: string, sample: TaskResult): Metric {
  const isShare = isShareOf(sample)
  return {
    id: `task:${name}`,
    title,
    group: 'Tasks',
    term: isShare ? 'wilson' : null,
    better: sample.higherIsBetter ? 'up' : 'down',
    format: isShare ? (value) => formatPercent(value) : (value) => formatSignificant(value),
    delta: isShare ? 'points' : 'absolute',
    protocol: `task:${name}`,
    perAdapter: false,
    read: (entry) => {
      const task = findTask(entry, name)
      if (task === null) return null
      return measured(entry, `task:${name}`, task.value, {
        range: isKnown(task.interval) ? task.interval : null,
        rangeMeaning: isShare && task.outputType !== 'group' ? 'Wilson 95 %' : '95 %',
        provenance: entry.result?.provenance[`task:${name}`] ?? entry.result?.provenance['tasks'] ?? null,
        details: {
          Items: task.n === 0 ? `an unknown number of ${task.dataset}` : `${task.n} of ${task.dataset}`,
          Scored: task.filter === 'none' ? task.metric : `${task.metric}, ${task.filter}`,
          ...(task.origin === 'published' ? { Origin: 'a published results file' } : {}),
          ...(task.fewshot === null ? {} : { 'Few-shot': String(task.fewshot) }),
          ...(task.chance === null ? {} : { Chance: formatPercent(task.chance, 0) }),
          ...pairedDetails(task),
          ...freeTextDetails(task),
        },
      })
    },
    paired: (entry, baseline) => {
      const paired = findTask(entry, name)?.paired ?? null
      return paired?.baselineId === baseline.model.id ? paired.difference : null
    },
  }
}

function freeTextDetails({ freeText }: TaskResult): Record<string, string> {
  if (freeText === null || freeText === undefined) return {}
  const [lead, of] = leadOf(freeText)
  return {
    'Same text': `${formatPercent(freeText.identicalShare)} of ${formatInteger(freeText.n)} greedy answers`,
    ...(freeText.divergenceMarginMedian === null ? {} : { 'Lead where the others part': `${lead}, ${of}` }),
  }
}

function pairedDetails(task: TaskResult): Record<string, string> {
  if (task.paired === null) return {}
  const {
    interval,
    standardError,
    mcnemarP,
    pairing,
    lost,
    gained,
    recovery,
    recoveryInterval,
    adjustedRecovery,
    logLikelihoodDifference,
  } = task.paired
  const points = (value: number) => (isShareOf(task) ? formatPoints(value) : formatSignificant(value))
  return {
    [pairing === 'paired' ? 'Same items, paired' : 'Other items, unpaired']:
      pairing === 'unpaired' && standardError === null
        ? 'no telling whether they differ: a standard error is not known'
        : `difference between ${points(interval[0])} and ${points(interval[1])}`,
    ...(lost === null || gained === null ? {} : { Flips: `${lost} lost, ${gained} gained` }),
    ...(mcnemarP === null ? {} : { 'McNemar p': formatSignificant(mcnemarP, 2) }),
    ...(recovery === null
      ? {}
      : {
          Recovery: `${formatPercent(recovery)}${recoveryInterval === null ? '' : ` (${formatPercent(recoveryInterval[0])}–${formatPercent(recoveryInterval[1])})`}`,
        }),
    ...(adjustedRecovery === null ? {} : { 'Recovery above chance': formatPercent(adjustedRecovery) }),
    ...(logLikelihoodDifference === null ? {} : { 'Δ log p of the right answer': formatSignificant(logLikelihoodDifference.mean) }),
  }
}

/** One without width stands where nobody knows. */
function isKnown([low, high]: readonly [number, number]): boolean {
  return low < high
}

export function findTask(entry: Entry, name: string): TaskResult | null {
  return entry.result?.tasks.find((task) => task.name === name) ?? null
}

/** Shares of items answered right are 0…1 and rise; perplexities and the like are not. */
export function isShareOf(task: TaskResult): boolean {
  return task.higherIsBetter && task.value >= 0 && task.value <= 1 && !task.metric.includes('perplexity')
}

/** Tasks whose mean means something: the shares that stand for their task. */
export function meanTasks(entries: readonly Entry[]): readonly string[] {
  const tasks = entries.flatMap((entry) => entry.result?.tasks ?? []).filter((task) => task.primary && isShareOf(task))
  return [...new Set(tasks.map((task) => task.name))]
}

/** Mean over the tasks that every listed entry has: the y-axis of the scatter. null until all have been asked the same. */
export function taskMean(entry: Entry, names: readonly string[]): number | null {
  const values = names.map((name) => findTask(entry, name)?.value ?? null)
  if (values.length === 0 || values.some((value) => value === null)) return null
  return values.reduce<number>((sum, value) => sum + (value ?? 0), 0) / values.length
}

/** Its 95 % interval, the tasks being independent of each other; empty where a task has none. */
export function taskMeanRange(entry: Entry, names: readonly string[]): Pick<Reading, 'range' | 'rangeMeaning'> | undefined {
  const mean = taskMean(entry, names)
  const intervals = names.map((name) => findTask(entry, name)?.interval ?? ([0, 0] as const))
  if (mean === null || !intervals.every((interval) => isKnown(interval))) return undefined
  const half = meanHalfWidth(intervals)
  return { range: [Math.max(0, mean - half), Math.min(1, mean + half)], rangeMeaning: '95 %, from the intervals of the tasks' }
}

/** Half of the width of the interval of a mean, from those of its parts. */
function meanHalfWidth(intervals: readonly (readonly [number, number])[]): number {
  return Math.hypot(...intervals.map(([low, high]) => (high - low) / 2)) / intervals.length
}

/**
 * The mean as a share of the baseline's, and half of its 95 % interval: from the paired differences of the tasks, which are far surer than two means;
 * from those where a task was not compared with this baseline. null half where neither is known.
 */
export function taskMeanRatio(
  entry: Entry,
  baseline: Entry,
  names: readonly string[],
): { readonly ratio: number; readonly half: number | null } | null {
  const [own, theirs] = [taskMean(entry, names), taskMean(baseline, names)]
  if (own === null || theirs === null || theirs <= 0) return null
  const intervals = names.flatMap((name) => {
    const paired = findTask(entry, name)?.paired ?? null
    return paired?.baselineId === baseline.model.id && isKnown(paired.interval) ? [paired.interval] : []
  })
  const means = [entry, baseline].flatMap((of) => taskMeanRange(of, names)?.range ?? [])
  const half =
    intervals.length === names.length
      ? meanHalfWidth(intervals)
      : means.length === 4
        ? Math.hypot(((means[1] ?? 0) - (means[0] ?? 0)) / 2, ((means[3] ?? 0) - (means[2] ?? 0)) / 2)
        : null
  return { ratio: own / theirs, half: half === null ? null : half / theirs }
}
