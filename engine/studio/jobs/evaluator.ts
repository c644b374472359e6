/**
 * Measures a model, beside its baseline where it has one, and records each figure the moment it exists, cheapest first: perplexity and drift,
 * then tasks, then speed. A phase that is done is not repeated by a resumed job. How figures are computed is engine/evaluate's business.
 */
import type { KvSetting } from '../../gpu/kv-format.ts'
import { measureEnergy } from '../../benchmark/energy/measure-energy.ts'
import { bandwidthShare, measureGrid } from '../../benchmark/engine-grid.ts'
import { measureThroughput, throughputProtocolKey } from '../../benchmark/throughput.ts'
import type { Energy, EvaluationOptions, HardwareBenchmark, Provenance } from '../../contract/index.ts'
import { LatheError } from '../../contract/index.ts'
import { answerChoiceTask, choiceSampleRows, scoreChoiceTask } from '../../evaluate/choice-task.ts'
import type { ChoiceAnswers, ChoiceTask } from '../../evaluate/choice-task.ts'
import { measureDrift, measurePerplexity, perplexityProtocolKey } from '../../evaluate/perplexity.ts'
import type { ModelLease } from '../../runtime/types.ts'
import type { GpuPort, ModelRef, ModelsPort, TokenizerPort } from '../ports.ts'
import type { Results } from '../results.ts'
import type { ResultContext } from '../store/result-store.ts'
import { evaluationPlan, FIRST_LOOK_WINDOWS, fitPlan } from './evaluation-plan.ts'
import type { EvaluationData, EvaluationPlan } from './evaluation-plan.ts'
import type { JobContext } from './worker.ts'

/** The loss that a verdict accepts until the user says another; a point of accuracy is what people argue about. */
export const DEFAULT_MARGIN = 0.01

export interface EvaluatorParts {
  readonly models: ModelsPort
  readonly tokenizers: TokenizerPort
  readonly gpu: GpuPort
  readonly results: Results
  readonly data: EvaluationData
  readonly latheVersion: string
  /** Context and KV dtype as chat uses them, so that evaluation measures the load that is already there. */
  readonly loadSettings: () => { readonly contextTokens: number; readonly kvDtype: KvSetting }
  readonly now?: () => Date
}

export interface EvaluationTarget {
  readonly subject: ModelRef
  /** null when the subject is itself the baseline. */
  readonly baseline: ModelRef | null
  readonly isDemoFamily: boolean
  /** Of the family's source; decides with the adapter how much is measured. */
  readonly parameters: number
  readonly options: EvaluationOptions
}

/** Both models in memory, and what every measurement needs. */
interface Bench {
  readonly target: EvaluationTarget
  readonly plan: EvaluationPlan
  readonly subject: ModelLease
  readonly baseline: ModelLease | null
  readonly provenance: () => Provenance
}

export class Evaluator {
  readonly #parts: EvaluatorParts
  readonly #now: () => Date
  /** Of the adapter that it names, measured once: it takes seconds. */
  #limits: HardwareBenchmark | null = null

  constructor(parts: EvaluatorParts) {
    this.#parts = parts
    this.#now = parts.now ?? (() => new Date())
  }

  /** Runs the chosen phases that are not done yet. Throws what stopped it; what was measured before stays recorded. */
  async run(context: JobContext, target: EvaluationTarget): Promise<void> {
    const wanted = (['perplexity', 'tasks', 'throughput'] as const).filter((phase) => target.options[phase] && !context.isDone(phase))
    if (wanted.length === 0) return
    const adapter = await this.#parts.gpu.current()
    using subject = await this.#acquire(context, target.subject)
    using baseline = target.baseline === null ? null : await this.#acquireBaseline(context, target.baseline)
    const plan = fitPlan(evaluationPlan(adapter.type, target.parameters), subject.runtime.info.contextLimit)
    context.log('info', `${plan.description} Adapter: ${adapter.name}.`)
    const { kvDtype, checkpointKvDtype = kvDtype } = subject.runtime.info
    if (checkpointKvDtype !== kvDtype) {
      context.log(
        'info',
        `${target.subject.name} names an ${checkpointKvDtype} cache; it is measured with ${kvDtype}, as what it is compared with. Choose ${checkpointKvDtype} in the settings to measure both with that.`,
      )
    }
    const bench: Bench = {
      target,
      plan,
      subject,
      baseline,
      provenance: () => ({
        adapter: adapter.name,
        adapterType: adapter.type,
        driver: adapter.driver,
        latheVersion: this.#parts.latheVersion,
        platform: `${process.platform} ${process.arch}`,
        measuredAt: this.#now().toISOString(),
      }),
    }
    for (const phase of wanted) {
      context.signal.throwIfAborted()
      if (phase === 'perplexity') await this.#perplexity(context, bench)
      else if (phase === 'tasks') await this.#tasks(context, bench)
      else await this.#throughput(context, bench)
    }
  }

  async #acquire(context: JobContext, model: ModelRef): Promise<ModelLease> {
    context.log('info', `Loading ${model.name}.`)
    context.working(`Loading ${model.name}`)
    return this.#parts.models.acquire({
      ...model,
      ...this.#parts.loadSettings(),
      signal: context.signal,
      onProgress: ({ phase }) => context.working(`Loading ${model.name}: ${phase}`),
    })
  }

  /** null, with a remark, where the original does not fit beside the variant: then the variant is measured by itself. */
  async #acquireBaseline(context: JobContext, model: ModelRef): Promise<ModelLease | null> {
    try {
      return await this.#acquire(context, model)
    } catch (error) {
      if (!(error instanceof LatheError) || error.code !== 'gpu.out-of-memory') throw error
      context.log(
        'warn',
        `${error.message} Drift is not measured, and tasks are compared only with answers that ${model.name} gave before.`,
      )
      return null
    }
  }

  /**
   * A family that has no perplexity yet gets a first look on two windows, so that there is a chart within seconds; the planned measurement
   * supersedes it. Later variants skip it: a short figure beside long ones could not be compared.
   */
  async #perplexity(context: JobContext, bench: Bench): Promise<void> {
    const { target, plan } = bench
    const planned = plan.perplexity.maxWindows
    const isFirst = this.#parts.results.current((target.baseline ?? target.subject).modelId).every((result) => result.kind !== 'perplexity')
    context.start('perplexity')
    if (isFirst && (planned === null || planned > 2 * FIRST_LOOK_WINDOWS)) {
      await this.#measureText(context, bench, { ...plan.perplexity, maxWindows: FIRST_LOOK_WINDOWS }, null)
      context.log('info', `First look: ${FIRST_LOOK_WINDOWS} windows. The planned measurement follows and replaces it.`)
    }
    await this.#measureText(context, bench, plan.perplexity, 'perplexity')
    context.finish('perplexity')
  }

  async #measureText(context: JobContext, bench: Bench, protocol: EvaluationPlan['perplexity'], phase: string | null): Promise<void> {
    const { target, subject, baseline } = bench
    const codec = await this.#parts.tokenizers.open(target.subject.folder)
    const sample = await this.#parts.data.text()
    const protocolKey = perplexityProtocolKey(sample, protocol)
    const options = {
      ...protocol,
      signal: context.signal,
      onProgress: (done: number, total: number) => {
        if (phase !== null) context.advance(phase, done, total, sample.name)
      },
    }
    if (baseline === null || target.baseline === null) {
      const payload = await measurePerplexity(subject.runtime, codec, sample, options)
      this.#record(context, bench, target.subject, protocolKey, { kind: 'perplexity', payload })
      return
    }
    const pair = {
      baseline: baseline.runtime,
      candidate: subject.runtime,
      scorePair: this.#parts.models.scorePair,
      baselineId: target.baseline.modelId,
    }
    const measured = await measureDrift(pair, codec, sample, options)
    this.#record(context, bench, target.baseline, protocolKey, { kind: 'perplexity', payload: measured.baseline })
    this.#record(context, bench, target.subject, protocolKey, { kind: 'perplexity', payload: measured.candidate })
    this.#record(context, bench, target.subject, `drift:${protocolKey}`, {
      kind: 'drift',
      payload: measured.drift,
      tokens: measured.tokens,
    })
  }

  async #tasks(context: JobContext, bench: Bench): Promise<void> {
    const { target, plan } = bench
    const tasks: ChoiceTask[] = []
    for (const name of this.#parts.data.taskNames(target.isDemoFamily)) tasks.push(await this.#parts.data.task(name, plan.taskItems))
    const items = tasks.reduce((sum, task) => sum + task.items.length, 0)
    const total = items * (bench.baseline === null ? 1 : 2)
    let done = 0
    context.start('tasks', total)
    const codec = await this.#parts.tokenizers.open(bench.target.subject.folder)
    /** null where the model is not loaded and has not answered before. */
    const answer = async (
      model: ModelRef,
      lease: ModelLease | null,
      task: ChoiceTask,
      baseline: Baseline | null,
    ): Promise<ChoiceAnswers | null> => {
      const known = this.#answered(context, bench, model, task)
      if (lease === null) return known
      const answers =
        known ??
        (await answerChoiceTask(lease.runtime, codec, task, {
          signal: context.signal,
          onProgress: (answered) => context.advance('tasks', done + answered, total, `${task.title}: ${model.name}`),
        }))
      done += task.items.length
      context.advance('tasks', done, total, `${task.title}: ${model.name}`)
      if (known === null) {
        const payload = { ...scoreChoiceTask(answers, baseline, DEFAULT_MARGIN), hasSamples: true }
        const details = { chosen: [...answers.chosen], right: [...answers.right], margins: answers.margins.map(orNull) }
        this.#record(context, bench, model, taskProtocolKey(task), { kind: 'task', payload, details, samples: choiceSampleRows(answers) })
      }
      return answers
    }
    for (const task of tasks) {
      const answers = target.baseline === null ? null : await answer(target.baseline, bench.baseline, task, null)
      const baseline = target.baseline === null || answers === null ? null : { id: target.baseline.modelId, answers }
      await answer(target.subject, bench.subject, task, baseline)
    }
    context.finish('tasks')
  }

  /**
   * Answers that need no second run: the baseline's from an earlier evaluation on this adapter, and what an interrupted run of this job had
   * already finished. A job that the user starts anew measures its subject anew.
   */
  #answered(context: JobContext, bench: Bench, model: ModelRef, task: ChoiceTask): ChoiceAnswers | null {
    const protocolKey = withCacheType(taskProtocolKey(task), bench)
    const found = this.#parts.results
      .current(model.modelId)
      .find((result) => result.kind === 'task' && result.payload.name === task.name && result.protocolKey === protocolKey)
    if (found?.kind !== 'task' || found.details.right.length !== task.items.length) return null
    const isBaseline = model.modelId === bench.target.baseline?.modelId
    const reusable = found.jobId === context.job.id || (isBaseline && found.provenance.adapter === bench.provenance().adapter)
    if (!reusable) return null
    const { chosen, right, margins } = found.details
    return { task, chosen, right, margins: margins.map((margin) => margin ?? Number.NaN), scores: [] }
  }

  async #throughput(context: JobContext, bench: Bench): Promise<void> {
    const { target, plan, subject, baseline } = bench
    const models = this.#parts.models
    const pairs: { readonly model: ModelRef; readonly lease: ModelLease }[] = [{ model: target.subject, lease: subject }]
    if (baseline !== null && target.baseline !== null) pairs.unshift({ model: target.baseline, lease: baseline })
    context.start('throughput', (plan.throughput.warmups + plan.throughput.repeats) * pairs.length)
    const results = await measureThroughput(
      pairs.map(({ model, lease }) => ({
        modelId: model.modelId,
        runtime: lease.runtime,
        peakGpuBytes: () => models.peakGpuBytes(model.modelId),
      })),
      { ...plan.throughput, signal: context.signal, onProgress: (done, total) => context.advance('throughput', done, total, null) },
    )
    const energies = await this.#energies(context, pairs, plan.throughput)
    const points = plan.grid === null ? [] : await this.#grid(context, pairs, plan.grid)
    for (const [index, measured] of results.entries()) {
      const pair = pairs[index]
      if (pair === undefined) continue
      const share = plan.grid === null ? null : await this.#bandwidthShare(context, pair.model, measured.decodeTokensPerSecond.median)
      const payload = { ...measured, points: points[index] ?? [], bandwidthShare: share, energy: energies[index] }
      this.#record(context, bench, pair.model, throughputProtocolKey(plan.throughput), { kind: 'throughput', payload })
    }
    context.finish('throughput')
  }

  /** In the order of the pairs, after the timed runs. */
  async #energies(
    context: JobContext,
    pairs: readonly { readonly lease: ModelLease }[],
    sizes: EvaluationPlan['throughput'],
  ): Promise<Energy[]> {
    context.working('Reading the energy of a request')
    const energies = await measureEnergy(
      pairs.map(({ lease }) => ({ runtime: lease.runtime })),
      await this.#parts.gpu.energy(),
      { ...sizes, signal: context.signal },
    )
    const reasons = new Set(energies.flatMap((energy) => (energy.kind === 'measured' ? [] : [energy.reason])))
    for (const reason of reasons) context.log('info', `Energy is not measured: ${reason}`)
    return energies
  }

  #grid(
    context: JobContext,
    pairs: readonly { readonly model: ModelRef; readonly lease: ModelLease }[],
    grid: NonNullable<EvaluationPlan['grid']>,
  ) {
    return measureGrid(
      pairs.map(({ model, lease }) => ({ modelId: model.modelId, runtime: lease.runtime })),
      {
        ...grid,
        signal: context.signal,
        onProgress: (done, total) => context.working(`Prefill and decode by batch and context: ${done} of ${total}`),
      },
    )
  }

  /** null where the adapter has no timestamps; then there is no telling what a step moved. */
  async #bandwidthShare(context: JobContext, model: ModelRef, decodeTokensPerSecond: number): Promise<number | null> {
    try {
      context.working('Comparing with the adapter’s read speed')
      const adapter = await this.#parts.gpu.current()
      if (this.#limits?.adapter !== adapter.name) this.#limits = await this.#parts.gpu.benchmark(context.signal)
      const { decode } = await this.#parts.models.profile({ ...model, ...this.#parts.loadSettings(), signal: context.signal })
      return bandwidthShare(decode, decodeTokensPerSecond, this.#limits.readGigabytesPerSecond)
    } catch (error) {
      if (!(error instanceof LatheError) || error.code !== 'gpu.unsupported') throw error
      context.log('info', `${error.message} The share of the memory's speed is not measured.`)
      return null
    }
  }

  #record(context: JobContext, bench: Bench, model: ModelRef, protocolKey: string, measured: Parameters<Results['record']>[0]): void {
    const key = withCacheType(protocolKey, bench)
    const where: ResultContext = { modelId: model.modelId, protocolKey: key, provenance: bench.provenance(), jobId: context.job.id }
    this.#parts.results.record(measured, where)
  }
}

type Baseline = { readonly id: string; readonly answers: ChoiceAnswers }

/** The digest in the dataset name covers the items, so a limited run has a key of its own. */
function taskProtocolKey(task: ChoiceTask): string {
  return `choice:loglikelihood:${task.dataset}`
}

function withCacheType(protocolKey: string, bench: Bench): string {
  return keyWithCache(protocolKey, bench.subject.runtime.info.kvDtype)
}

/** A 16-bit cache rounds, so figures with and without it are not of one protocol. */
export function keyWithCache(protocolKey: string, kvDtype: string): string {
  return `${protocolKey}:kv-${kvDtype}`
}

function orNull(value: number): number | null {
  return Number.isFinite(value) ? value : null
}

/** Evaluation needs a tokenizer; said before the job starts rather than in the middle of it. */
export function requireTokenizer(model: { readonly name: string; readonly hasTokenizer: boolean }): void {
  if (model.hasTokenizer) return
  throw new LatheError(
    'tokenizer.missing',
    `"${model.name}" has no tokenizer, so text can't be measured on it.`,
    'Add tokenizer.json to its folder, or start without evaluation.',
  )
}
