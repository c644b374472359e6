/**
 * From a figure on the board down to what it was made of: the items of a task side by side with a baseline's, the tokens of a drift measurement,
 * and comparisons of any two models that answered the same items. Reads what was recorded; measures nothing.
 */
import { LatheError } from '../contract/index.ts'
import type { SamplePage, SampleQuery, SampleRow, TaskComparison, TaskResult, TokenPage, TokenQuery, TokenRow } from '../contract/index.ts'
import { compareWithPublished } from '../evaluate/matched-items.ts'
import { comparePaired, comparePairedGroup, compareUnpaired } from '../evaluate/paired.ts'
import type { GroupPart } from '../evaluate/paired.ts'
import type { DriftTokens } from '../evaluate/perplexity.ts'
import type { Library } from './library.ts'
import type { FolderTokenizer } from './ports.ts'
import type { Results } from './results.ts'
import type { StoredResult } from './store/result-store.ts'

export interface EvidenceParts {
  readonly library: Library
  readonly results: Results
  readonly tokenizer: (modelId: string) => Promise<Pick<FolderTokenizer, 'decode'>>
}

type StoredTask = Extract<StoredResult, { kind: 'task' }>

/** Items by what makes them the same: place and content. */
function keyOf(row: SampleRow): string {
  return `${row.docId}:${row.docHash}`
}

export class Evidence {
  readonly #parts: EvidenceParts

  constructor(parts: EvidenceParts) {
    this.#parts = parts
  }

  samples(query: SampleQuery): SamplePage {
    const own = this.#samplesOf(query.modelId, query.task)
    const theirs = query.baselineId === null ? null : this.#samplesOf(query.baselineId, query.task)
    const byPlace = new Map(theirs?.map((row) => [keyOf(row), row]))
    // A published run may count its documents in another way.
    const byContent = new Map(theirs?.map((row) => [row.docHash, row]))
    const rows = own.map((row) => (theirs === null ? row : beside(row, byPlace.get(keyOf(row)) ?? byContent.get(row.docHash))))
    const wanted = rows.filter((row) => isShown(row, query.show))
    return { total: wanted.length, items: rows.length, rows: wanted.slice(query.offset, query.offset + query.limit) }
  }

  async tokens(query: TokenQuery): Promise<TokenPage> {
    const { library } = this.#parts
    const root = library.familyRoot(query.modelId)
    const baselineId = query.baselineId ?? root.id
    const found = this.#parts.results
      .current(query.modelId)
      .findLast((result) => result.kind === 'drift' && result.payload.baselineId === baselineId)
    const tokens = found === undefined ? null : this.#parts.results.tokens(found.id)
    if (found?.kind !== 'drift' || tokens === null) {
      throw new LatheError(
        'evaluate.invalid-data',
        'The positions of this measurement were not kept.',
        'Evaluate the model again to look at its tokens.',
      )
    }
    // Drift is measured of the same tokens only, so any side's tokenizer tells their text; a server has none here.
    const telling = [query.modelId, baselineId, root.id].find((id) => library.record(id).origin === 'folder') ?? query.modelId
    const codec = await this.#parts.tokenizer(telling)
    const order = positions(tokens, query)
    const text = (id: number): string => codec.decode([id])
    return {
      baselineId: found.payload.baselineId,
      dataset: found.payload.dataset,
      total: tokens.ids.length,
      rows: Array.from(order, (position) => tokenRow(tokens, position, text)),
    }
  }

  /** Every task that the model has an answer to, against the same task of the baseline. */
  compare(query: { readonly baselineId: string; readonly modelId: string; readonly margin: number }): TaskComparison[] {
    this.#parts.library.record(query.modelId)
    this.#parts.library.record(query.baselineId)
    const theirs = this.#tasksOf(query.baselineId)
    return this.#tasksOf(query.modelId).map((own) => {
      const other = counterpart(theirs, own)
      const { payload } = own
      const shared = {
        task: payload.task ?? payload.name,
        title: payload.title,
        metric: payload.metric,
        filter: payload.filter,
        higherIsBetter: payload.higherIsBetter,
        baselineValue: other?.payload.value ?? null,
        value: payload.value,
        n: payload.n,
      }
      if (other === undefined) return { ...shared, paired: null, reason: 'The baseline has not answered this task.' }
      return { ...shared, ...this.#pair(query.baselineId, other, own, query.margin) }
    })
  }

  #pair(
    baselineId: string,
    other: StoredTask,
    own: StoredTask,
    margin: number,
  ): Pick<TaskComparison, 'paired' | 'reason'> & { readonly n?: number } {
    const { payload } = own
    const isShare = payload.chance !== null || payload.metric.startsWith('acc') || payload.metric === 'exact_match'
    if (payload.origin === 'published' || other.payload.origin === 'published') {
      const published = { id: baselineId, rows: this.#itemsOf(other), n: other.payload.n }
      const paired = isShare ? compareWithPublished(payload, this.#itemsOf(own), published, { margin, isShare }) : null
      if (paired !== null) return { paired, n: paired.items, reason: null }
      const warnings = ['One side is published: another engine, and its items are not known here.']
      const options = { higherIsBetter: payload.higherIsBetter, margin: isShare ? margin : null, warnings, isShare }
      return {
        paired: compareUnpaired({ ...other.payload, id: baselineId }, payload, options),
        reason: null,
      }
    }
    const { members } = payload
    if (members !== undefined) return this.#pairGroup(baselineId, other, { ...own, members }, isShare ? margin : null)
    // Items hold log-likelihoods, not the words or bytes that a perplexity is made by.
    if (payload.outputType === 'loglikelihood_rolling' || payload.metric === 'perplexity')
      return { paired: null, reason: 'A perplexity has no margin to be judged by; its difference from the original stands on the board.' }
    const items = this.#itemsOfBoth(other, own)
    if (items === null) return { paired: null, reason: 'The two models were asked different items.' }
    return {
      paired: comparePaired({
        ...items,
        baselineId,
        higherIsBetter: payload.higherIsBetter,
        margin: isShare ? margin : null,
        chance: payload.chance,
        hasRecovery: isShare,
      }),
      reason: null,
    }
  }

  /** A group has no items of its own: those of its tasks, each as it weighs in the score. */
  #pairGroup(
    baselineId: string,
    other: StoredTask,
    { payload, modelId, members }: StoredTask & { readonly members: NonNullable<TaskResult['members']> },
    margin: number | null,
  ): Pick<TaskComparison, 'paired' | 'reason'> {
    const { metric, filter, higherIsBetter, chance } = payload
    const find = (id: string, task: string): StoredTask | undefined =>
      this.#tasksOf(id).find(
        (stored) => stored.payload.task === task && stored.payload.metric === metric && stored.payload.filter === filter,
      )
    const parts = members.flatMap(({ task, weight }): GroupPart[] => {
      const [before, after] = [find(other.modelId, task), find(modelId, task)]
      const items = before === undefined || after === undefined ? null : this.#itemsOfBoth(before, after)
      if (items === null) return []
      const paired = comparePaired({ ...items, baselineId, higherIsBetter, margin: null, chance: null, hasRecovery: false })
      return [{ weight, n: items.baseline.length, paired, scores: items }]
    })
    if (parts.length < members.length) return { paired: null, reason: 'The two models were asked different items.' }
    // Of perplexities the items' values are log-likelihoods, which don't add up to the score.
    if (margin === null) return { paired: null, reason: 'A group of such scores can’t be compared item by item.' }
    return { paired: comparePairedGroup(parts, { baselineId, higherIsBetter, margin, chance }), reason: null }
  }

  /** Values of the metric on the items that both have, which must be all of them. */
  #itemsOfBoth(
    other: StoredTask,
    own: StoredTask,
  ): { readonly baseline: number[]; readonly candidate: number[]; readonly changed: number | null; readonly warnings: string[] } | null {
    if (other.payload.dataset !== own.payload.dataset) return null
    const left = this.#itemsOf(other)
    const right = this.#itemsOf(own)
    const { metric } = own.payload
    if (
      left.length === right.length &&
      left.length > 0 &&
      right.every((row, i) => keyOf(row) === keyOf(left[i] ?? row) && row.metrics[metric] !== undefined)
    ) {
      const value = (row: SampleRow): number => row.metrics[metric] ?? Number.NaN
      return {
        baseline: left.map(value),
        candidate: right.map(value),
        changed: right.filter((row, i) => row.answer !== left[i]?.answer).length,
        warnings: [],
      }
    }
    // Results of version 1 kept only right and wrong, in the order of the items.
    const [before, after] = [other.details.right, own.details.right]
    if (before.length === 0 || before.length !== after.length) return null
    return {
      baseline: before.map(Number),
      candidate: after.map(Number),
      changed: own.details.chosen.filter((choice, i) => choice !== other.details.chosen[i]).length,
      warnings: [],
    }
  }

  #tasksOf(modelId: string): StoredTask[] {
    return this.#parts.results.current(modelId).filter((result) => result.kind === 'task')
  }

  /** Items are kept once for each filter of a task, with the first of its figures; they hold the values of all metrics under it. */
  #itemsOf(task: StoredTask): SampleRow[] {
    const own = this.#parts.results.samples(task.id)
    if (own.length > 0) return own
    for (const { id, payload } of this.#tasksOf(task.modelId)) {
      const isSame =
        payload.task === task.payload.task && payload.filter === task.payload.filter && payload.dataset === task.payload.dataset
      const samples = isSame ? this.#parts.results.samples(id) : []
      if (samples.length > 0) return samples
    }
    return []
  }

  #samplesOf(modelId: string, task: string): SampleRow[] {
    const { name } = this.#parts.library.record(modelId)
    const stored = this.#tasksOf(modelId).filter(({ payload }) => payload.name === task || payload.task === task)
    const rows = stored.map((result) => this.#parts.results.samples(result.id)).find((samples) => samples.length > 0)
    if (rows !== undefined) return rows
    throw new LatheError(
      'evaluate.invalid-data',
      stored.length === 0 ? `"${name}" has not answered "${task}".` : `The items of "${task}" were not kept for "${name}".`,
      'Evaluate the model again.',
    )
  }
}

/** The same metric of the same task under the same filter; which of them comes first differs from tool to tool. */
function counterpart(tasks: readonly StoredTask[], { payload }: StoredTask): StoredTask | undefined {
  const named = tasks.find((task) => task.payload.name === payload.name && task.payload.metric === payload.metric)
  return (
    named ??
    tasks.find(
      (task) =>
        payload.task !== null &&
        task.payload.task === payload.task &&
        task.payload.metric === payload.metric &&
        task.payload.filter === payload.filter,
    )
  )
}

function beside(row: SampleRow, other: SampleRow | undefined): SampleRow {
  if (other === undefined) return row
  return {
    ...row,
    baselineOutput: other.output,
    baselineAnswer: other.answer,
    baselineCorrect: other.correct,
    baselineMetrics: other.metrics,
    baselineLogprobs: other.logprobs,
    samePrompt: row.prompt === other.prompt,
  }
}

function isShown(row: SampleRow, show: SampleQuery['show']): boolean {
  if (show === 'changed') return row.baselineAnswer !== null && row.baselineAnswer !== row.answer
  if (show === 'lost') return row.baselineCorrect === true && row.correct === false
  return show === 'gained' ? row.baselineCorrect === false && row.correct === true : true
}

function positions(tokens: DriftTokens, { sort, offset, limit }: TokenQuery): Iterable<number> {
  const all = Uint32Array.from({ length: tokens.ids.length }, (_, i) => i)
  if (sort === 'kld') all.sort((a, b) => (tokens.kld[b] ?? 0) - (tokens.kld[a] ?? 0) || a - b)
  return all.subarray(offset, offset + limit)
}

function tokenRow(tokens: DriftTokens, position: number, text: (id: number) => string): TokenRow {
  const id = tokens.ids[position] ?? 0
  const top = tokens.candidateTop[position] ?? 0
  const baselineTop = tokens.baselineTop[position] ?? 0
  return {
    position,
    id,
    text: text(id),
    logprob: orNull(tokens.candidateLogprobs[position]),
    baselineLogprob: orNull(tokens.baselineLogprobs[position]),
    kld: orNull(tokens.kld[position]),
    agrees: top === baselineTop,
    top: text(top),
    baselineTop: text(baselineTop),
  }
}

function orNull(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) ? value : null
}
