/**
 * Perplexity and drift of a bundled text where a side is a server: a server beside its original here, a variant here beside a server, two servers. The
 * figures are those of `lathe eval` (engine/evaluate/remote), their protocol is the family's, so that they stand in one row with local ones. Every
 * window is on disk once it is answered: a job that was stopped goes on. What can't be compared is measured by itself, and says why.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { LatheError } from '../../contract/index.ts'
import type { DriftResult, PerplexityResult, Provenance } from '../../contract/index.ts'
import { modelFingerprint } from '../../evaluate/model-fingerprint.ts'
import { perplexityProtocolKey } from '../../evaluate/perplexity.ts'
import type { PerplexityOptions, TextSample } from '../../evaluate/perplexity.ts'
import { cachedTextSource } from '../../evaluate/remote/cached-source.ts'
import { measureTextOn } from '../../evaluate/remote/measure-text.ts'
import type { TextMeasurement } from '../../evaluate/remote/measure-text.ts'
import { remoteFingerprint } from '../../evaluate/remote/remote-target.ts'
import { localTextSource, remoteTextSource, withFolderTokenizer } from '../../evaluate/remote/text-source.ts'
import type { TextSource } from '../../evaluate/remote/text-source.ts'
import { openCacheIn } from '../../evaluate/tasks/cache.ts'
import type { EvaluationCache } from '../../evaluate/tasks/cache.ts'
import type { FolderTokenizer } from '../ports.ts'
import type { JobRecord } from '../store/job-store.ts'
import type { ModelRecord } from '../store/model-store.ts'
import { refOf } from './evaluate-job.ts'
import { evaluationPlan, fitPlan } from './evaluation-plan.ts'
import type { EvaluationData } from './evaluation-plan.ts'
import { keyWithCache } from './evaluator.ts'
import { engineFingerprint, identityOf, measurable, provenanceOn } from './measuring.ts'
import type { MeasuringParts } from './measuring.ts'
import type { JobContext } from './worker.ts'

export interface RemoteTextParts extends MeasuringParts {
  readonly data: EvaluationData
  /** Where answers are kept until their job is done. */
  readonly cacheFolder: string
}

/** A model that can be asked, wherever it runs. */
interface Side {
  readonly record: ModelRecord
  readonly source: TextSource
  /** Tokens of a window and its prefix that it takes; null = not known. */
  readonly contextLimit: number | null
  readonly keyOf: (protocolKey: string) => string
  readonly provenance: () => Provenance
  /** Whether a tokenizer of a folder makes its tokens: only then can they be shown as text. */
  readonly hasTokenizer: boolean
}

/** The prefix before the first window, and the one token that vLLM wants to generate. */
const BESIDE_WINDOW = 2

export class RemoteTexts {
  readonly #parts: RemoteTextParts

  constructor(parts: RemoteTextParts) {
    this.#parts = parts
  }

  /** Throws what stopped it; windows that were answered stay for the job when it is resumed. */
  async run(context: JobContext, subject: ModelRecord, baseline: ModelRecord | null): Promise<void> {
    if (context.isDone('perplexity')) return
    context.start('perplexity')
    const sample = await this.#parts.data.text()
    const cache = await openCacheIn(this.#parts.cacheFolder, cacheName(context.job))
    using stack = new DisposableStack()
    const own = await this.#open(context, subject, sample, cache, stack)
    const { other, reason } = await this.#openBaseline(context, baseline, sample, cache, stack)
    const protocol = await this.#protocol(subject, [own, other])
    context.log('info', `${protocol.maxWindows ?? 'All'} windows of ${protocol.window} tokens, ${protocol.protocol} protocol.`)
    const options: PerplexityOptions = {
      ...protocol,
      signal: context.signal,
      onProgress: (done, total) => context.advance('perplexity', done, total, sample.name),
    }
    const measured = await this.#measure(context, own, other, sample, options)
    const { perplexity } = measured
    const withoutDrift = perplexity.withoutDrift ?? reason
    if (withoutDrift !== null) context.log('warn', withoutDrift)
    const protocolKey = perplexityProtocolKey(sample, protocol)
    if (other !== null && measured.baseline !== null) this.#recordBeside(context, other, protocolKey, measured.baseline)
    const measuredApart = withoutDrift === null ? perplexity : { ...perplexity, withoutDrift }
    if (own.record.origin === 'remote') this.#record(context, own, protocolKey, measuredApart)
    else this.#recordBeside(context, own, protocolKey, measuredApart)
    if (measured.drift !== null && other !== null) this.#recordDrift(context, own, other, protocolKey, measured.drift, measured)
    // A server may change what a name stands for: another job must ask again.
    await this.discard(context.job)
    context.finish('perplexity')
  }

  /** Answers that belong to no result. */
  async discard(job: Pick<JobRecord, 'id'>): Promise<void> {
    await rm(join(this.#parts.cacheFolder, cacheName(job)), { force: true })
  }

  async #open(context: JobContext, record: ModelRecord, sample: TextSample, cache: EvaluationCache, stack: DisposableStack): Promise<Side> {
    const { signal } = context
    if (record.origin !== 'remote') return this.#openFolder(context, record, cache, stack)
    context.working(`Connecting to ${record.name}`)
    const { client, model } = await this.#parts.remotes.connect(record, signal)
    const named = { ...(await remoteTextSource(client, model, signal)), name: record.name }
    const codec = await this.#familyTokenizer(record)
    const { source, isSame } =
      codec === null ? { source: named, isSame: false } : await withFolderTokenizer(named, codec, sample.text, signal)
    const identity = await identityOf(client, model, signal)
    return {
      record,
      source: cachedTextSource(source, remoteFingerprint(client, model), cache),
      contextLimit: model.contextLimit,
      // What it keeps its keys and values in is its own affair.
      keyOf: (protocolKey) => `${protocolKey}:served`,
      provenance: () => provenanceOn(this.#parts, identity),
      hasTokenizer: isSame,
    }
  }

  async #openFolder(context: JobContext, record: ModelRecord, cache: EvaluationCache, stack: DisposableStack): Promise<Side> {
    const { models, tokenizers, gpu, loadSettings } = this.#parts
    context.working(`Loading ${record.name}`)
    const adapter = await gpu.current()
    const lease = stack.use(await models.acquire({ ...refOf(record), ...loadSettings(), signal: context.signal }))
    const codec = await tokenizers.open(record.path)
    const { contextLimit, kvDtype } = lease.runtime.info
    const engine = engineFingerprint(this.#parts, adapter, lease.runtime.info)
    const fingerprint = `${await modelFingerprint(record.path)}:${engine}:${adapter.id}:kv-${kvDtype}`
    return {
      record,
      source: cachedTextSource(localTextSource(record.name, lease.runtime, codec), fingerprint, cache),
      // Scored last, never fed: here a window may be as long as the context.
      contextLimit: contextLimit + BESIDE_WINDOW,
      keyOf: (protocolKey) => keyWithCache(protocolKey, kvDtype),
      provenance: () => provenanceOn(this.#parts, adapter),
      hasTokenizer: true,
    }
  }

  /** null, with the reason, where the baseline can't be asked: then the model is measured by itself. */
  async #openBaseline(
    context: JobContext,
    baseline: ModelRecord | null,
    sample: TextSample,
    cache: EvaluationCache,
    stack: DisposableStack,
  ): Promise<{ readonly other: Side | null; readonly reason: string | null }> {
    if (baseline === null) return { other: null, reason: null }
    try {
      const record = await measurable(this.#parts.library, baseline.id)
      return { other: await this.#open(context, record, sample, cache, stack), reason: null }
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof LatheError)) throw error
      return { other: null, reason: `The baseline ${baseline.name} could not be asked: ${error.message}` }
    }
  }

  /** Of the source of the family, if it is a folder: variants and servers of one model have its tokenizer. */
  async #familyTokenizer(record: ModelRecord): Promise<FolderTokenizer | null> {
    const root = this.#parts.library.familyRoot(record.id)
    if (root.origin !== 'folder' || !root.facts.hasTokenizer) return null
    try {
      return await this.#parts.tokenizers.open(root.path)
    } catch (error) {
      // Only nearer figures are lost: a folder that went away must not keep a server from being measured.
      if (error instanceof LatheError) return null
      throw error
    }
  }

  /** What the family's models are measured by on this adapter, cut to what both sides can hold. */
  async #protocol(subject: ModelRecord, sides: readonly (Side | null)[]) {
    const root = this.#parts.library.familyRoot(subject.id)
    const adapter = await this.#parts.gpu.current().catch((error: unknown) => {
      if (error instanceof LatheError) return null
      throw error
    })
    const plan = evaluationPlan(root.origin === 'folder' && adapter !== null ? adapter.type : 'unknown', root.facts.parameters)
    const limits = sides.map((side) => (side?.contextLimit ?? Infinity) - BESIDE_WINDOW)
    return fitPlan(plan, Math.min(...limits)).perplexity
  }

  async #measure(
    context: JobContext,
    own: Side,
    other: Side | null,
    sample: TextSample,
    options: PerplexityOptions,
  ): Promise<TextMeasurement> {
    const baseline = other === null ? null : { id: other.record.id, source: other.source }
    try {
      return await measureTextOn(own.source, baseline, sample, options)
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof LatheError) || error.code !== 'evaluate.incomparable') throw error
      const alone = await measureTextOn(own.source, null, sample, options)
      return { ...alone, perplexity: { ...alone.perplexity, withoutDrift: error.message } }
    }
  }

  #record(context: JobContext, side: Side, protocolKey: string, payload: PerplexityResult): void {
    this.#parts.results.record({ kind: 'perplexity', payload }, this.#where(context, side, side.keyOf(protocolKey)))
  }

  /** Of a model that was measured because of another: a figure of another protocol, which its own row has, stays. */
  #recordBeside(context: JobContext, side: Side, protocolKey: string, payload: PerplexityResult): void {
    const known = this.#parts.results.current(side.record.id).findLast((result) => result.kind === 'perplexity')
    if (known === undefined || known.protocolKey === side.keyOf(protocolKey)) this.#record(context, side, protocolKey, payload)
  }

  #recordDrift(
    context: JobContext,
    own: Side,
    other: Side,
    protocolKey: string,
    drift: DriftResult,
    { tokens }: Pick<TextMeasurement, 'tokens'>,
  ): void {
    const hasTokens = tokens !== null && (own.hasTokenizer || other.hasTokenizer)
    const key = `drift:${protocolKey}:top${drift.boundedByTop ?? 'all'}`
    this.#parts.results.record(
      { kind: 'drift', payload: { ...drift, hasTokens }, ...(hasTokens ? { tokens } : {}) },
      this.#where(context, own, key),
    )
  }

  #where(context: JobContext, side: Side, protocolKey: string) {
    return { modelId: side.record.id, protocolKey, provenance: side.provenance(), jobId: context.job.id }
  }
}

function cacheName({ id }: Pick<JobRecord, 'id'>): string {
  return `job-${id}-text.jsonl`
}
