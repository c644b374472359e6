/** The task part of `lathe eval`: task files and probes on one target, beside a baseline that is another target or a published results file. */
import { LatheError } from '../../../engine/contract/index.ts'
import type { FreeTextDrift, TaskResult } from '../../../engine/contract/index.ts'
import { publishedRows } from '../../../engine/evaluate/published-results.ts'
import type { PublishedResults } from '../../../engine/evaluate/published-results.ts'
import { compareWithPublished } from '../../../engine/evaluate/matched-items.ts'
import { compareUnpaired } from '../../../engine/evaluate/paired.ts'
import { measureProbe } from '../../../engine/evaluate/probes/probe-work.ts'
import type { ProbeWork } from '../../../engine/evaluate/probes/probe-work.ts'
import { probeResults } from '../../../engine/evaluate/probes/probe.ts'
import type { EvaluationCache } from '../../../engine/evaluate/tasks/cache.ts'
import { fewshotCount } from '../../../engine/evaluate/tasks/prompts.ts'
import type { PromptOptions } from '../../../engine/evaluate/tasks/prompts.ts'
import { loadDocuments, runTask } from '../../../engine/evaluate/tasks/run-task.ts'
import { groupResults } from '../../../engine/evaluate/tasks/group-results.ts'
import type { GroupBaseline } from '../../../engine/evaluate/tasks/group-results.ts'
import { sampleRows, scoreTask, taskResults } from '../../../engine/evaluate/tasks/score-task.ts'
import type { ScoredTask } from '../../../engine/evaluate/tasks/score-task.ts'
import type { EvaluationTarget } from '../../../engine/evaluate/tasks/target.ts'
import type { GroupConfig, TaskFile } from '../../../engine/evaluate/tasks/task-config.ts'
import type { CommandContext } from '../command.ts'

export interface TaskPlan {
  readonly file: TaskFile
  readonly prompts: PromptOptions
  readonly limit: number | null
  readonly margin: number
  readonly cache: EvaluationCache | null
  readonly probes: readonly ProbeWork[]
}

export type TaskBaseline =
  | { readonly kind: 'target'; readonly id: string; readonly target: EvaluationTarget }
  | { readonly kind: 'published'; readonly id: string; readonly results: PublishedResults }

export interface MeasuredTasks {
  readonly results: readonly TaskResult[]
  /** By result name, the baseline's own figure. */
  readonly baseline: ReadonlyMap<string, TaskResult>
  readonly scored: readonly ScoredTask[]
  readonly groups: readonly { readonly config: GroupConfig; readonly results: readonly TaskResult[] }[]
}

export async function measureTasks(
  context: CommandContext,
  target: EvaluationTarget,
  baseline: TaskBaseline | null,
  plan: TaskPlan,
): Promise<MeasuredTasks> {
  if (baseline?.kind === 'published') mustShareTask(plan.file, baseline.results)
  const run = async (who: EvaluationTarget, label: string): Promise<ScoredTask[]> => {
    const scored: ScoredTask[] = []
    for (const task of plan.file.tasks) {
      const documents = await loadDocuments(task, plan.limit, fewshotCount(task, plan.prompts))
      const answers = await runTask(task, who, documents, {
        prompts: plan.prompts,
        limit: plan.limit,
        cache: plan.cache,
        signal: context.signal,
        onProgress: (done, total) => context.progress(`${task.name}${label}: ${done} of ${total} requests`),
      })
      scored.push(scoreTask(answers))
    }
    return scored
  }
  const theirs = baseline?.kind === 'target' ? await run(baseline.target, ' (baseline)') : []
  const scored = await run(target, '')
  const membersOf = (name: string): readonly string[] => {
    const group = plan.file.groups.find((candidate) => candidate.name === name)
    return group === undefined ? [name] : group.members.flatMap(membersOf)
  }
  const groupsOf = (tasks: readonly ScoredTask[], beside: GroupBaseline | null) =>
    plan.file.groups.map((config) => ({ config, results: groupResults(config, tasks, membersOf, beside, plan.margin) }))
  const groups = groupsOf(scored, baseline?.kind === 'target' ? { id: baseline.id, scored: theirs } : null)
  const probed = await measureProbes(context, target, baseline, plan)
  const own = scored.flatMap((task, i) => {
    const other = theirs[i]
    return taskResults(task, baseline === null || other === undefined ? null : { id: baseline.id, scored: other }, plan.margin)
  })
  const results = [...own, ...groups.flatMap((group) => group.results)]
  if (baseline?.kind === 'published') {
    const beside = besidePublished(results, scored, baseline.results, plan.margin)
    return { results: [...beside.results, ...probed.results], baseline: beside.baseline, scored, groups }
  }
  const baselineResults = [
    ...theirs.flatMap((task) => taskResults(task, null, null)),
    ...groupsOf(theirs, null).flatMap((group) => group.results),
    ...probed.baseline,
  ]
  return {
    results: [...results, ...probed.results],
    baseline: new Map(baselineResults.map((result) => [result.name, result])),
    scored,
    groups,
  }
}

/** Each probe on both models; the figures are about the change. */
async function measureProbes(
  context: CommandContext,
  target: EvaluationTarget,
  baseline: TaskBaseline | null,
  plan: TaskPlan,
): Promise<{ readonly results: readonly TaskResult[]; readonly baseline: readonly TaskResult[] }> {
  const results: TaskResult[] = []
  const theirs: TaskResult[] = []
  for (const work of plan.probes) {
    const name = work.kind === 'list' ? work.name : `${work.task.name}, perturbed`
    const run = (who: EvaluationTarget, label: string) =>
      measureProbe(work, who, {
        ...plan,
        signal: context.signal,
        onProgress: (done, total) => context.progress(`${name}${label}: ${done} of ${total} requests`),
      })
    const other = baseline?.kind === 'target' ? { id: baseline.id, outcome: await run(baseline.target, ' (baseline)') } : null
    results.push(...probeResults(await run(target, ''), other, plan.margin))
    if (other !== null) theirs.push(...probeResults(other.outcome, null, null))
  }
  return { results, baseline: theirs }
}

/** Item by item where the published run's samples are there and some items are the same; else by both totals. */
function besidePublished(
  results: readonly TaskResult[],
  scored: readonly ScoredTask[],
  published: PublishedResults,
  margin: number,
): Pick<MeasuredTasks, 'results' | 'baseline'> {
  const found = new Map<string, TaskResult>()
  const compared = results.map((result) => {
    const other = published.tasks.find(
      (task) => task.task === result.task && task.metric === result.metric && task.filter === result.filter,
    )
    if (other === undefined) return result
    found.set(result.name, other)
    const isShare = result.chance !== null || result.metric === 'exact_match'
    const own = scored.find(({ task }) => task.name === result.task)
    const theirs = publishedRows(published.samples.get(result.task ?? '') ?? [], result.filter, result.metric)
    const side = { id: published.modelName, rows: theirs, n: other.n }
    const rows = own === undefined ? [] : sampleRows(own, result.filter)
    const paired = isShare ? compareWithPublished(result, rows, side, { margin, isShare }) : null
    if (paired !== null) return { ...result, paired }
    const warnings = [
      'The baseline is published: another engine, and its items are not known here.',
      ...(other.n === result.n ? [] : [`The baseline has ${other.n} items, this run ${result.n}.`]),
    ]
    const options = { higherIsBetter: result.higherIsBetter, margin: isShare ? margin : null, warnings, isShare }
    return {
      ...result,
      paired: compareUnpaired({ ...other, id: published.modelName }, result, options),
    }
  })
  if (found.size === 0) throw noSharedTask(published)
  return { results: compared, baseline: found }
}

/** Asked before anything is measured. */
function mustShareTask(file: TaskFile, published: PublishedResults): void {
  const names = new Set([...file.tasks.map(({ name }) => name), ...file.groups.map(({ name }) => name)])
  if (names.size > 0 && !published.tasks.some(({ task }) => names.has(task ?? ''))) throw noSharedTask(published)
}

function noSharedTask({ tasks }: PublishedResults): LatheError {
  return new LatheError(
    'evaluate.incomparable',
    `The published results have none of these tasks; they have ${[...new Set(tasks.map(({ task }) => task))].slice(0, 8).join(', ')}.`,
    'Evaluate a task of the same name, metric and filter.',
  )
}

export function taskJson(result: TaskResult, baseline: TaskResult | null) {
  const { paired } = result
  return {
    name: result.task ?? result.name,
    metric: result.metric,
    value: result.value,
    stderr: result.standardError,
    n: result.n,
    filter: result.filter,
    higher_is_better: result.higherIsBetter,
    num_fewshot: result.fewshot,
    output_type: result.outputType,
    interval: result.interval,
    chance: result.chance,
    dataset: result.dataset,
    note: result.note,
    title: result.title,
    baseline: baseline === null ? null : { value: baseline.value, stderr: baseline.standardError },
    paired:
      paired === null
        ? null
        : {
            pairing: paired.pairing,
            difference: paired.difference,
            stderr: paired.standardError,
            // Two scores of which one has no error: an interval without width would say that they are known.
            interval: paired.pairing === 'unpaired' && paired.standardError === null ? null : paired.interval,
            margin: paired.margin,
            verdict: paired.verdict,
            items_needed: paired.itemsNeeded,
            minimum_detectable_difference: paired.minimumDetectableDifference,
            recovery: paired.recovery,
            recovery_interval: paired.recoveryInterval,
            adjusted_recovery: paired.adjustedRecovery,
            adjusted_recovery_interval: paired.adjustedRecoveryInterval,
            mcnemar_p: paired.mcnemarP,
            lost: paired.lost,
            gained: paired.gained,
            changed: paired.changed,
            log_likelihood_difference: paired.logLikelihoodDifference,
            warnings: paired.warnings,
          },
    free_text: result.freeText === null || result.freeText === undefined ? null : freeTextJson(result.freeText),
  }
}

function freeTextJson(drift: FreeTextDrift) {
  return {
    n: drift.n,
    identical: drift.identical,
    identical_share: drift.identicalShare,
    identical_interval: drift.identicalInterval,
    unit: drift.unit,
    first_difference_median: drift.firstDifferenceMedian,
    edit_distance_mean: drift.editDistanceMean,
    edit_distance_median: drift.editDistanceMedian,
    cut_items: drift.cutItems,
    divergence_margin_median: drift.divergenceMarginMedian,
    divergence_margin_items: drift.divergenceMarginItems,
  }
}
