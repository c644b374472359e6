/**
 * The board: what has been measured of a source model and its variants, newest of each kind, with protocol and provenance. Recording a
 * measurement is the only way in; nothing is computed here.
 */
import type { ModelSummary, PairedComparison, Provenance, ResultSet, SampleRow, TaskResult } from '../contract/index.ts'
import { holm, withMargin } from '../evaluate/paired.ts'
import type { DriftTokens } from '../evaluate/perplexity.ts'
import type { EventHub } from './events.ts'
import type { Library } from './library.ts'
import type { Measured, ResultContext, ResultStore, StoredResult } from './store/result-store.ts'

export class Results {
  readonly #store: ResultStore
  readonly #library: Library
  readonly #events: EventHub
  readonly #now: () => Date

  constructor(store: ResultStore, library: Library, events: EventHub, now: () => Date = () => new Date()) {
    this.#store = store
    this.#library = library
    this.#events = events
    this.#now = now
  }

  record(measured: Measured, context: ResultContext): void {
    this.#store.insert(measured, context, this.#now().toISOString())
    this.#events.publish({ kind: 'results.changed', modelId: context.modelId })
  }

  samples(resultId: number): SampleRow[] {
    return this.#store.samples(resultId)
  }

  tokens(resultId: number): DriftTokens | null {
    return this.#store.tokens(resultId)
  }

  current(modelId: string): StoredResult[] {
    return this.#store.current(modelId)
  }

  /** Drift checks of a variant from its source under the protocol of the newest, oldest first. */
  driftHistory(modelId: string): Extract<StoredResult, { readonly kind: 'drift' }>[] {
    const rootId = this.#library.familyRoot(modelId).id
    const isIt = (result: StoredResult): result is Extract<StoredResult, { readonly kind: 'drift' }> =>
      result.kind === 'drift' && result.payload.baselineId === rootId
    const newest = this.#store.current(modelId).findLast(isIt)
    return newest === undefined ? [] : this.#store.history(modelId, 'drift', newest.protocolKey).filter(isIt)
  }

  /** Answers of a model to a task under the protocol of its newest, oldest first; each by the task's first metric. */
  taskHistory(modelId: string, task: string): Extract<StoredResult, { readonly kind: 'task' }>[] {
    const isIt = (result: StoredResult) =>
      result.kind === 'task' && result.payload.primary && (result.payload.task ?? result.payload.name) === task
    const newest = this.#store.current(modelId).findLast(isIt)
    if (newest === undefined) return []
    return this.#store.history(modelId, 'task', newest.protocolKey).filter((result) => result.kind === 'task' && isIt(result)) as Extract<
      StoredResult,
      { readonly kind: 'task' }
    >[]
  }

  /**
   * Source first, then its variants by age; asked for a variant, the board is its source's. Verdicts are against `margin`, and p values carry
   * Holm's correction over the tasks of each model.
   */
  board(modelId: string, margin: number | null = null): { models: ModelSummary[]; results: ResultSet[] } {
    const family = this.#library.family(modelId)
    return {
      models: family.map((record) => this.#library.summary(record.id)),
      results: family.map((record) => this.#resultSet(record.id, family[0]?.id ?? record.id, margin)),
    }
  }

  #resultSet(modelId: string, rootId: string, margin: number | null): ResultSet {
    const stored = this.#store.current(modelId)
    const perplexity = stored.findLast((result) => result.kind === 'perplexity')
    const drifts = stored.filter((result) => result.kind === 'drift')
    const drift = drifts.findLast((result) => result.payload.baselineId === rootId)
    const throughput = stored.findLast((result) => result.kind === 'throughput')
    const served = stored.findLast((result) => result.kind === 'served')
    const compression = stored.findLast((result) => result.kind === 'compression')
    const tasks = stored.filter((result) => result.kind === 'task')
    const provenance: Record<string, Provenance> = {}
    const protocolKeys: Record<string, string> = {}
    const cite = (key: string, result: StoredResult | undefined): void => {
      if (result === undefined) return
      provenance[key] = result.provenance
      protocolKeys[key] = result.protocolKey
    }
    cite('perplexity', perplexity)
    cite('drift', drift)
    for (const other of drifts) cite(`drift:${other.payload.baselineId}`, other)
    cite('throughput', throughput)
    cite('served', served)
    cite('compression', compression)
    for (const task of tasks) cite(`task:${task.payload.name}`, task)
    const newestTask = tasks.at(-1)
    if (newestTask !== undefined) {
      provenance['tasks'] = newestTask.provenance
      protocolKeys['tasks'] = tasks
        .map((task) => task.protocolKey)
        .toSorted()
        .join(' ')
    }
    return {
      modelId,
      perplexity: perplexity?.payload ?? null,
      drift: drift?.payload ?? null,
      drifts: drifts.map(({ payload }) => payload),
      tasks: judge(
        tasks.map((task) => task.payload),
        margin,
      ),
      throughput: throughput?.payload ?? null,
      served: served?.payload ?? null,
      tensorErrors: compression === undefined ? [] : [...compression.payload],
      provenance,
      protocolKeys,
    }
  }
}

/** Verdicts against the margin asked for; Holm over the first metric of each task, since other metrics and groups test the same answers again. */
function judge(tasks: readonly TaskResult[], margin: number | null): TaskResult[] {
  const judged = tasks.map((task) =>
    task.paired === null || task.paired.margin === null || margin === null
      ? task
      : { ...task, paired: withMargin(task.paired, margin, task.n, task.higherIsBetter) },
  )
  const corrected = holm(judged.map((task) => (task.primary && task.outputType !== 'group' ? (task.paired?.mcnemarP ?? null) : null)))
  return judged.map((task, i) =>
    task.paired === null ? task : { ...task, paired: { ...task.paired, holmP: corrected[i] ?? null } satisfies PairedComparison },
  )
}
