/**
 * The user's own tasks and the probes on one model, local or on a server, beside the family's source. Answers are cached by model and prompt in the
 * data folder, so a job that was cut off goes on, and a baseline is asked once. Records each task the moment it is judged.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { LatheError, TaskRunOptionsSchema } from '../../contract/index.ts'
import type { Job, Provenance, SampleRow, TaskResult, TaskRunOptions } from '../../contract/index.ts'
import { modelFingerprint } from '../../evaluate/model-fingerprint.ts'
import { measureProbe, planProbes } from '../../evaluate/probes/probe-work.ts'
import type { ProbeWork } from '../../evaluate/probes/probe-work.ts'
import { probeResults } from '../../evaluate/probes/probe.ts'
import type { ProbeOutcome } from '../../evaluate/probes/probe.ts'
import { connectRemoteTarget } from '../../evaluate/remote/remote-target.ts'
import { openCacheIn } from '../../evaluate/tasks/cache.ts'
import type { EvaluationCache } from '../../evaluate/tasks/cache.ts'
import { createLocalTarget } from '../../evaluate/tasks/local-target.ts'
import { openTaskFile } from '../../evaluate/tasks/open-tasks.ts'
import { fewshotCount } from '../../evaluate/tasks/prompts.ts'
import type { PromptOptions } from '../../evaluate/tasks/prompts.ts'
import { loadDocuments, runTask } from '../../evaluate/tasks/run-task.ts'
import { groupResults } from '../../evaluate/tasks/group-results.ts'
import { sampleRows, scoreTask, taskProtocolKey, taskResults } from '../../evaluate/tasks/score-task.ts'
import type { ScoredTask } from '../../evaluate/tasks/score-task.ts'
import type { EvaluationTarget } from '../../evaluate/tasks/target.ts'
import type { TaskConfig, TaskFile } from '../../evaluate/tasks/task-config.ts'
import type { ModelRecord } from '../store/model-store.ts'
import { refOf } from './evaluate-job.ts'
import { engineFingerprint, identityOf, measurable, provenanceOn } from './measuring.ts'
import type { MeasuringParts } from './measuring.ts'
import type { JobQueue } from './queue.ts'
import type { JobContext } from './worker.ts'

export const TaskRunRequestSchema = z.object({ taskRun: TaskRunOptionsSchema })

export interface TaskRunParts extends MeasuringParts {
  /** Where answers are kept. */
  readonly cacheFolder: string
  /** Bundled task files by name. */
  readonly tasksFolder: string
}

/** What a task or probe asks and how its answers become results; the same for a model and its baseline. */
type Work = { readonly kind: 'task'; readonly task: TaskConfig } | ProbeWork

type Measured = { readonly kind: 'task'; readonly scored: ScoredTask } | { readonly kind: 'probe'; readonly outcome: ProbeOutcome }

interface Asked {
  readonly target: EvaluationTarget
  readonly cache: EvaluationCache
  readonly provenance: Provenance
}

const BUNDLED = new Set(['world_facts', 'reading', 'arithmetic', 'completion'])

export class TaskRuns {
  readonly #parts: TaskRunParts

  constructor(parts: TaskRunParts) {
    this.#parts = parts
  }

  /** One job a model. Task files are read now, so that what is wrong with them is said before anything starts. */
  async start(queue: JobQueue, modelIds: readonly string[], options: TaskRunOptions): Promise<Job[]> {
    await this.#plan(options)
    const records: ModelRecord[] = []
    for (const modelId of new Set(modelIds)) records.push(await measurable(this.#parts.library, modelId))
    return records.map((record) =>
      queue.enqueue({
        kind: 'evaluate',
        title: `Tasks on ${record.name}`,
        modelId: record.id,
        // Of a server there is nothing to open.
        variantId: record.parentId === null || record.origin === 'remote' ? null : record.id,
        presetId: record.presetId,
        request: { taskRun: options },
        phases: [
          {
            id: 'tasks',
            title: 'Tasks',
            state: 'pending',
            done: 0,
            total: 0,
            unit: 'requests',
            rateKey: null,
            priorRate: 5,
            group: 'tasks',
          },
        ],
      }),
    )
  }

  async run(context: JobContext): Promise<void> {
    const { taskRun: options } = TaskRunRequestSchema.parse(context.job.request)
    if (context.isDone('tasks')) return
    const { work, file } = await this.#plan(options)
    const subject = await measurable(this.#parts.library, context.job.modelId)
    const root = this.#parts.library.familyRoot(subject.id)
    context.start('tasks')
    await using stack = new AsyncDisposableStack()
    const own = await this.#open(context, subject, stack)
    const baseline = root.id === subject.id || root.origin === 'published' ? null : await this.#openBaseline(context, root, stack)
    const scored: ScoredTask[] = []
    const before: ScoredTask[] = []
    let done = 0
    const total = work.length * (baseline === null ? 1 : 2)
    for (const item of work) {
      const title = 'task' in item ? item.task.title : item.name
      const measure = async (asked: Asked, name: string): Promise<Measured> => {
        const measured = await this.#measure(item, asked, options, context, (fraction) =>
          context.advance('tasks', Math.round((done + fraction) * 100), total * 100, `${title}: ${name}`),
        )
        done++
        return measured
      }
      const theirs = baseline === null ? null : await measure(baseline, root.name)
      const mine = await measure(own, subject.name)
      if (theirs !== null && baseline !== null) this.#record(context, root, theirs, null, baseline, null)
      this.#record(context, subject, mine, theirs === null ? null : { id: root.id, measured: theirs }, own, options.margin)
      if (mine.kind === 'task') scored.push(mine.scored)
      if (theirs?.kind === 'task') before.push(theirs.scored)
    }
    const within = membersOf(file)
    for (const group of file.groups) {
      if (baseline !== null) this.#recordGroup(context, root, baseline, groupResults(group, before, within, null, null))
      const other = baseline === null ? null : { id: root.id, scored: before }
      this.#recordGroup(context, subject, own, groupResults(group, scored, within, other, options.margin))
    }
    // Of a server: another job must ask again.
    await rm(join(this.#parts.cacheFolder, `job-${context.job.id}.jsonl`), { force: true })
    context.finish('tasks')
  }

  async #plan(options: TaskRunOptions): Promise<{ readonly work: readonly Work[]; readonly file: TaskFile }> {
    const files = await Promise.all(
      options.tasks.map((path) => openTaskFile(BUNDLED.has(path) ? join(this.#parts.tasksFolder, `${path}.jsonl`) : path)),
    )
    const file = { tasks: files.flatMap(({ tasks }) => tasks), groups: files.flatMap(({ groups }) => groups) }
    const work: Work[] = file.tasks.map((task) => ({ kind: 'task', task }))
    const probed = file.tasks.length > 0 ? file.tasks : (await openTaskFile(join(this.#parts.tasksFolder, 'reading.jsonl'))).tasks
    work.push(...(await planProbes(options.probes, options.probeFiles, probed)))
    if (work.length > 0) return { work, file }
    throw new LatheError('request.invalid', 'Nothing was chosen to measure.', 'Choose task files, or a probe with its file.')
  }

  async #open(context: JobContext, record: ModelRecord, stack: AsyncDisposableStack): Promise<Asked> {
    const { models, tokenizers, gpu, remotes } = this.#parts
    if (record.origin === 'remote') {
      context.working(`Connecting to ${record.name}`)
      const { client, model } = await remotes.connect(record, context.signal)
      const target = await connectRemoteTarget({ client, model, name: record.name, signal: context.signal })
      // A server may change what a name stands for: its answers are kept for this job only.
      const cache = await openCacheIn(this.#parts.cacheFolder, `job-${context.job.id}.jsonl`)
      return { target, cache, provenance: provenanceOn(this.#parts, await identityOf(client, model, context.signal)) }
    }
    context.working(`Loading ${record.name}`)
    const adapter = await gpu.current()
    const lease = stack.use(await models.acquire({ ...refOf(record), ...this.#parts.loadSettings(), signal: context.signal }))
    const codec = await tokenizers.open(record.path)
    const fingerprint = await modelFingerprint(record.path)
    const engine = engineFingerprint(this.#parts, adapter, lease.runtime.info)
    const target = createLocalTarget({ name: record.name, runtime: lease.runtime, codec, modelFingerprint: `${fingerprint}:${engine}` })
    const cache = await openCacheIn(this.#parts.cacheFolder, `${fingerprint}.jsonl`)
    return { target, cache, provenance: provenanceOn(this.#parts, adapter) }
  }

  /** null, with a remark, where the original does not fit beside the variant. */
  async #openBaseline(context: JobContext, root: ModelRecord, stack: AsyncDisposableStack): Promise<Asked | null> {
    try {
      return await this.#open(context, root.origin === 'remote' ? root : await measurable(this.#parts.library, root.id), stack)
    } catch (error) {
      if (
        !(error instanceof LatheError) ||
        (error.code !== 'gpu.out-of-memory' && error.code !== 'checkpoint.not-found' && !error.code.startsWith('remote.'))
      )
        throw error
      context.log('warn', `${error.message} The model is measured by itself.`)
      return null
    }
  }

  async #measure(
    item: Work,
    asked: Asked,
    options: TaskRunOptions,
    context: JobContext,
    onFraction: (fraction: number) => void,
  ): Promise<Measured> {
    const { signal } = context
    const onProgress = (done: number, total: number): void => onFraction(done / Math.max(1, total))
    const prompts: PromptOptions = {
      fewshot: options.fewshot,
      chatTemplate: options.chatTemplate,
      fewshotAsMultiturn: options.fewshotAsMultiturn,
      systemInstruction: options.systemInstruction,
    }
    const run = { prompts, limit: options.limit, cache: asked.cache, signal, onProgress }
    if (item.kind !== 'task') return { kind: 'probe', outcome: await measureProbe(item, asked.target, run) }
    const documents = await loadDocuments(item.task, options.limit, fewshotCount(item.task, prompts))
    const answers = await runTask(item.task, asked.target, documents, run)
    if (answers.fromCache > 0) context.log('info', `${item.task.title}: ${answers.fromCache} answers of ${asked.target.name} were known.`)
    return { kind: 'task', scored: scoreTask(answers) }
  }

  #record(
    context: JobContext,
    model: ModelRecord,
    measured: Measured,
    baseline: { readonly id: string; readonly measured: Measured } | null,
    asked: Asked,
    margin: number | null,
  ): void {
    const results = resultsOf(measured, baseline, margin)
    const rowsOf = (filter: string): readonly SampleRow[] =>
      measured.kind === 'task' ? sampleRows(measured.scored, filter) : measured.outcome.rows
    const key = measured.kind === 'task' ? taskProtocolKey(measured.scored) : `${measured.outcome.dataset}:${asked.target.protocol}`
    // Items are kept once for each filter, with its first figure.
    const kept = new Set<string>()
    for (const payload of results) {
      this.#write(context, model, asked, payload, key, kept.has(payload.filter) ? [] : rowsOf(payload.filter))
      kept.add(payload.filter)
    }
  }

  #recordGroup(context: JobContext, model: ModelRecord, asked: Asked, results: readonly TaskResult[]): void {
    for (const payload of results) this.#write(context, model, asked, payload, `group:${payload.dataset}:${asked.target.protocol}`, [])
  }

  #write(
    context: JobContext,
    model: ModelRecord,
    asked: Asked,
    payload: TaskResult,
    protocolKey: string,
    samples: readonly SampleRow[],
  ): void {
    const details = { chosen: [], right: samples.map((row) => row.correct === true), margins: [] }
    this.#parts.results.record(
      { kind: 'task', payload, details, samples },
      { modelId: model.id, protocolKey, provenance: asked.provenance, jobId: context.job.id },
    )
  }
}

function resultsOf(
  measured: Measured,
  baseline: { readonly id: string; readonly measured: Measured } | null,
  margin: number | null,
): TaskResult[] {
  if (measured.kind === 'task') {
    const other = baseline?.measured.kind === 'task' ? { id: baseline.id, scored: baseline.measured.scored } : null
    return taskResults(measured.scored, other, margin)
  }
  const other = baseline?.measured.kind === 'probe' ? { id: baseline.id, outcome: baseline.measured.outcome } : null
  return probeResults(measured.outcome, other, margin)
}

function membersOf(file: TaskFile): (name: string) => readonly string[] {
  const of = (name: string): readonly string[] => file.groups.find((group) => group.name === name)?.members.flatMap(of) ?? [name]
  return of
}
