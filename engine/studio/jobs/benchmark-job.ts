/**
 * A served benchmark as a job: a model in this process driven directly, or a server over HTTP. Each run's figures and raw times are on disk the moment
 * it is done, so a job that was cut off goes on with the next run; the result is recorded when all are.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import type { EnergyChoice } from '../../benchmark/energy/energy-source.ts'
import { exportBenchmark } from '../../benchmark/load/export-benchmark.ts'
import { createHttpLoadTarget } from '../../benchmark/load/http-load-target.ts'
import { loadRoom } from '../../benchmark/load/load-room.ts'
import { sharesMachine } from '../../benchmark/load/load-target.ts'
import type { LoadTarget, RequestRecord } from '../../benchmark/load/load-target.ts'
import { createRuntimeLoadTarget } from '../../benchmark/load/runtime-load-target.ts'
import { readTrace } from '../../benchmark/load/schedule.ts'
import { runServedBenchmark } from '../../benchmark/load/served-benchmark.ts'
import { latencyTable } from '../../benchmark/load/summarize-load.ts'
import type { Tokenize } from '../../benchmark/load/synthetic-prompts.ts'
import { LatheError, ServedRunSchema, StartServedBenchmarkSchema } from '../../contract/index.ts'
import type {
  BenchmarkExportFormat,
  ConventionalLatencies,
  Job,
  LatencyConvention,
  Provenance,
  ServedBenchmark,
  ServedRun,
  StartServedBenchmark,
} from '../../contract/index.ts'
import { DEFAULT_KV_DTYPE } from '../../gpu/kv-format.ts'
import type { KvSetting } from '../../gpu/kv-format.ts'
import type { JobRecord } from '../store/job-store.ts'
import type { ModelRecord } from '../store/model-store.ts'
import { refOf } from './evaluate-job.ts'
import { identityOf, measurable, provenanceOn } from './measuring.ts'
import type { MeasuringParts } from './measuring.ts'
import type { JobQueue } from './queue.ts'
import type { JobContext, JobWorker } from './worker.ts'

export interface BenchmarkJobParts extends MeasuringParts {
  /** Raw times of every benchmark. */
  readonly folder: string
}

const RecordSchema = z.object({
  index: z.number(),
  isWarmup: z.boolean(),
  scheduledMs: z.number(),
  sentMs: z.number(),
  chunksMs: z.array(z.number()),
  /** Younger than the first stored records. */
  chunkTokens: z.array(z.number()).optional(),
  endMs: z.number(),
  inputTokens: z.number(),
  outputTokens: z.number(),
  cachedTokens: z.number(),
  finish: z.string().nullable(),
  status: z.enum(['completed', 'failed', 'incomplete']),
  error: z.string().nullable(),
})
const RawFileSchema = z.object({ startedAt: z.string(), runs: z.array(ServedRunSchema), records: z.array(z.array(RecordSchema)) })
type RawFile = z.infer<typeof RawFileSchema>

/** Its counters are its own, also where it is on this machine: nothing tells which device it computes on. */
export const SERVER_ENERGY: EnergyChoice = { reason: 'A server does not tell what energy it used.' }

export class BenchmarkWorker implements JobWorker {
  readonly #parts: BenchmarkJobParts

  constructor(parts: BenchmarkJobParts) {
    this.#parts = parts
  }

  async start(queue: JobQueue, request: StartServedBenchmark): Promise<Job> {
    const record = await measurable(this.#parts.library, request.modelId)
    if (request.profile === 'trace') await this.#trace(request)
    return queue.enqueue({
      kind: 'benchmark',
      title: `${request.profile} load on ${record.name}`,
      modelId: record.id,
      variantId: null,
      presetId: record.presetId,
      request,
      phases: [
        { id: 'load', title: 'Load', state: 'pending', done: 0, total: 0, unit: 'requests', rateKey: null, priorRate: 1, group: 'load' },
      ],
    })
  }

  async run(context: JobContext): Promise<void> {
    if (context.isDone('load')) return
    const request = StartServedBenchmarkSchema.parse(context.job.request)
    const record = await measurable(this.#parts.library, context.job.modelId)
    context.start('load')
    const path = this.#rawPath(context.job)
    const raw: RawFile = (await readRaw(path)) ?? { startedAt: new Date().toISOString(), runs: [], records: [] }
    if (raw.runs.length > 0) context.log('info', `${raw.runs.length} runs were done before.`)
    using stack = new DisposableStack()
    const load = { ...request, trace: await this.#trace(request) }
    const { target, tokenize, provenance, cache } = await this.#open(context, record, load, stack)
    const finished: readonly ServedRun[] = [...raw.runs]
    // Raw files are written one after the other.
    let pending: Promise<void> = Promise.resolve()
    const { benchmark } = await runServedBenchmark(
      target,
      { ...load, sharesGpu: sharesMachine(target) },
      {
        tokenize,
        energy: target.kind === 'server' ? SERVER_ENERGY : await this.#parts.gpu.energy(),
        signal: context.signal,
        finished,
        onProgress: (done, total, what) => context.advance('load', done, total, what),
        onRun: (run, records) => {
          raw.runs.push(run)
          raw.records.push(records.map(copyOf))
          for (const warning of run.warnings) context.log('warn', warning)
          if (run.energy?.kind === 'not-measured') context.log('info', `Energy is not measured: ${run.energy.reason}`)
          pending = pending.then(() => writeRaw(path, raw))
        },
      },
    )
    await pending
    this.#parts.results.record(
      { kind: 'served', payload: { ...benchmark, runs: raw.runs, rawFile: path } },
      {
        modelId: record.id,
        protocolKey: `served:${request.profile}:${benchmark.target}:${benchmark.load}${cacheLabel(cache)}`,
        provenance,
        jobId: context.job.id,
      },
    )
    context.finish('load')
  }

  /** Raw times that belong to no result. */
  async discard(job: JobRecord): Promise<void> {
    const raw = await readRaw(this.#rawPath(job))
    if (raw !== null) await writeRaw(this.#rawPath(job), { ...raw, runs: [], records: [] })
  }

  /** The newest benchmark of a model in another tool's shape. */
  async export(modelId: string, format: BenchmarkExportFormat): Promise<{ readonly fileName: string; readonly text: string }> {
    const { benchmark, raw } = await this.#newest(modelId)
    return exportBenchmark({ benchmark, records: raw.records, startedAt: raw.startedAt, latheVersion: this.#parts.latheVersion }, format)
  }

  /** Each load's latencies under the names and definitions of one tool. */
  async latencies(modelId: string, convention: LatencyConvention): Promise<ConventionalLatencies[]> {
    const { raw } = await this.#newest(modelId)
    return raw.runs.map(({ profile, concurrency, rate }, index) => ({
      profile,
      concurrency,
      rate,
      latencies: latencyTable(raw.records[index] ?? [], convention),
    }))
  }

  async #newest(modelId: string): Promise<{ readonly benchmark: ServedBenchmark; readonly raw: RawFile }> {
    const found = this.#parts.results.current(modelId).findLast((result) => result.kind === 'served')
    const raw = found?.kind === 'served' && found.payload.rawFile !== null ? await readRaw(found.payload.rawFile) : null
    if (found?.kind !== 'served' || raw === null)
      throw new LatheError(
        'evaluate.invalid-data',
        'There is no benchmark whose times were kept.',
        'Put a load on the model, then ask again.',
      )
    return { benchmark: found.payload, raw }
  }

  #rawPath(job: Pick<JobRecord, 'id'>): string {
    return join(this.#parts.folder, `${job.id}.json`)
  }

  async #trace(request: StartServedBenchmark) {
    if (request.profile !== 'trace') return null
    if (request.traceFile === null)
      throw new LatheError('request.invalid', 'The trace profile needs a file of recorded arrivals.', 'Choose one.')
    return readTrace(request.traceFile)
  }

  async #open(
    context: JobContext,
    record: ModelRecord,
    load: Parameters<typeof loadRoom>[0],
    stack: DisposableStack,
  ): Promise<{
    readonly target: LoadTarget
    readonly tokenize: Tokenize | null
    readonly provenance: Provenance
    /** Type of the cache; null for a server's. */
    readonly cache: KvSetting | null
  }> {
    if (record.origin === 'remote') {
      context.working(`Connecting to ${record.name}`)
      const { client, model } = await this.#parts.remotes.connect(record, context.signal)
      const tokenizes = await client.canTokenize(model.id, context.signal)
      if (!tokenizes) context.log('warn', 'The server has no /tokenize: prompt lengths are estimates, and its own counts are shown.')
      return {
        target: createHttpLoadTarget({ client, model: model.id, api: 'completions' }),
        tokenize: tokenizes ? (text) => client.tokenize(model.id, text, { signal: context.signal }) : null,
        provenance: provenanceOn(this.#parts, await identityOf(client, model, context.signal)),
        cache: null,
      }
    }
    context.working(`Loading ${record.name}`)
    const adapter = await this.#parts.gpu.current()
    const settings = this.#parts.loadSettings()
    const { requestTokens, maxSequences, kvTokens } = loadRoom(load)
    const contextTokens = Math.max(settings.contextTokens, requestTokens)
    // A load that a chat left behind has the room of a chat: what would wait there is not what is asked here.
    const room = { sequences: maxSequences, kvTokens }
    const lease = stack.use(
      await this.#parts.models.acquire({ ...refOf(record), ...settings, contextTokens, room, signal: context.signal }),
    )
    const codec = await this.#parts.tokenizers.open(record.path)
    const tokenize: Tokenize = async (text) => [...codec.encode(text, { addSpecialTokens: false })]
    return {
      target: createRuntimeLoadTarget(lease.runtime, record.name),
      tokenize,
      provenance: provenanceOn(this.#parts, adapter),
      cache: lease.runtime.info.kvDtype,
    }
  }
}

/** Speeds with another cache than the usual are of another protocol. A server's cache is its own. */
function cacheLabel(cache: KvSetting | null): string {
  return cache === null || cache === DEFAULT_KV_DTYPE ? '' : `:kv-${cache}`
}

function copyOf(record: RequestRecord): RawFile['records'][number][number] {
  const { chunkTokens, ...rest } = record
  return { ...rest, chunksMs: [...record.chunksMs], ...(chunkTokens === undefined ? {} : { chunkTokens: [...chunkTokens] }) }
}

async function readRaw(path: string): Promise<RawFile | null> {
  const text = await readFile(path, 'utf8').catch(() => null)
  if (text === null) return null
  try {
    return RawFileSchema.parse(JSON.parse(text))
  } catch {
    // Cut short by a kill: those runs are measured again.
    return null
  }
}

async function writeRaw(path: string, raw: RawFile): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, JSON.stringify(raw))
}
