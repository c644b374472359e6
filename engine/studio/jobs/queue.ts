/**
 * The job queue: one job at a time (they share one GPU and one disk), the others wait in order. Every change of state is written before it is
 * shown, so after a kill the store tells exactly what was running; such a job becomes `interrupted` and waits for the user to resume it, while
 * queued ones go on by themselves. What a job does is its worker's business.
 *
 *   queued → running → succeeded | failed | interrupted (app closed or was killed)
 *   queued → cancelled;  running → cancelling → cancelled (or succeeded, when the work was quicker)
 *   cancelled | failed | interrupted → queued (resume);  anything not running → removed
 */
import { randomUUID } from 'node:crypto'
import { LatheError, toErrorShape } from '../../contract/index.ts'
import type { Job, JobKind, JobLayers, JobLogLine, JobState } from '../../contract/index.ts'
import type { EventHub } from '../events.ts'
import type { Log } from '../ports.ts'
import { publicPhase } from '../store/job-store.ts'
import type { JobRecord, JobStore, StoredPhase } from '../store/job-store.ts'
import { JobProgress } from './progress.ts'
import type { ProgressSnapshot } from './progress.ts'
import type { JobContext, JobWorker } from './worker.ts'

export interface Clock {
  /** Monotonic milliseconds. */
  now(): number
  date(): Date
  /** Calls back about every `ms` until the returned function is called; must not keep the process alive. */
  every(ms: number, callback: () => void): () => void
}

export interface JobQueueOptions {
  readonly store: JobStore
  readonly events: EventHub
  readonly workers: Readonly<Partial<Record<JobKind, JobWorker>>>
  readonly log: Log
  readonly clock?: Clock
  readonly rssBytes?: () => number
}

export interface NewJob {
  readonly kind: JobKind
  readonly title: string
  readonly modelId: string
  readonly variantId: string | null
  readonly presetId: string | null
  readonly request: unknown
  readonly phases: readonly StoredPhase[]
}

/** Once a second the running job is shown again even without news: stalled seconds and peak memory move on their own. */
const TICK_MS = 1000
/** Progress inside a phase is only for show after a crash, so it is written rarely. */
const PERSIST_MS = 5000

const ENDED: ReadonlySet<JobState> = new Set(['cancelled', 'failed', 'interrupted', 'succeeded'])
const RESUMABLE: ReadonlySet<JobState> = new Set(['cancelled', 'failed', 'interrupted'])

const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  date: () => new Date(),
  every: (ms, callback) => {
    const timer = setInterval(callback, ms)
    timer.unref()
    return () => clearInterval(timer)
  },
}

interface Run {
  readonly jobId: string
  readonly controller: AbortController
  readonly progress: JobProgress
  /** Newer than the stored ones: the layer being worked on changes often. */
  layers: JobLayers | null
  /** Settles when the job has reached its final state. */
  readonly ended: Promise<void>
}

export class JobQueue {
  readonly #store: JobStore
  readonly #events: EventHub
  readonly #workers: Readonly<Partial<Record<JobKind, JobWorker>>>
  readonly #log: Log
  readonly #clock: Clock
  readonly #rssBytes: () => number
  #run: Run | null = null
  #closing = false
  #idle: (() => void)[] = []

  constructor(options: JobQueueOptions) {
    this.#store = options.store
    this.#events = options.events
    this.#workers = options.workers
    this.#log = options.log
    this.#clock = options.clock ?? SYSTEM_CLOCK
    this.#rssBytes = options.rssBytes ?? (() => process.memoryUsage.rss())
    this.#recover()
  }

  /** Begins to work on what is queued. */
  start(): void {
    this.#next()
  }

  get runningJobs(): number {
    return this.#run === null ? 0 : 1
  }

  enqueue(job: NewJob): Job {
    const record: JobRecord = {
      ...job,
      id: randomUUID(),
      state: 'queued',
      error: null,
      peakRssBytes: null,
      layers: null,
      createdAt: this.#clock.date().toISOString(),
      startedAt: null,
      endedAt: null,
      rank: this.#store.nextRank(),
    }
    this.#store.insert(record)
    this.#publish(record.id)
    this.#next()
    return this.get(record.id)
  }

  list(): Job[] {
    return this.#store.list().map((record) => this.#toJob(record))
  }

  get(id: string): Job {
    return this.#toJob(this.#find(id))
  }

  log(id: string): JobLogLine[] {
    this.#find(id)
    return this.#store.log(id)
  }

  /** What the jobs of a kind that may still write were asked for. */
  requests(kind: JobKind): unknown[] {
    return this.#store
      .list()
      .filter((record) => record.kind === kind && record.state !== 'succeeded')
      .map((record) => record.request)
  }

  /** What the compression that made a variant was asked for; null when its job is gone. */
  requestFor(variantId: string): unknown {
    return this.#store.list().find((record) => record.kind === 'compress' && record.variantId === variantId)?.request ?? null
  }

  /** The models that unfinished jobs read or write. */
  modelsInUse(): ReadonlySet<string> {
    const active = this.#store.list().filter((record) => !ENDED.has(record.state))
    return new Set(active.flatMap((record) => (record.variantId === null ? [record.modelId] : [record.modelId, record.variantId])))
  }

  /** Asks for a stop; the job is `cancelling` at once and `cancelled` when its worker has let go. */
  async cancel(id: string): Promise<Job> {
    const record = this.#find(id)
    if (record.state === 'queued') {
      await this.#discard(record)
      this.#finishAs(id, 'cancelled', null)
      this.#publishQueue()
    } else if (record.state === 'running') {
      this.#change(id, { state: 'cancelling' })
      this.#run?.controller.abort()
    } else if (record.state !== 'cancelling' && record.state !== 'cancelled') {
      throw this.#wrongState(record, 'cancelled')
    }
    return this.get(id)
  }

  /** Puts an unfinished job at the end of the queue; finished phases are kept. */
  resume(id: string): Job {
    const record = this.#find(id)
    if (!RESUMABLE.has(record.state)) throw this.#wrongState(record, 'resumed')
    this.#change(id, {
      state: 'queued',
      error: null,
      endedAt: null,
      rank: this.#store.nextRank(),
      phases: record.phases.map((phase) => (phase.state === 'running' ? { ...phase, state: 'pending' } : phase)),
    })
    this.appendLog(id, 'info', 'Resumed.')
    this.#next()
    return this.get(id)
  }

  /** Forgets a job that is not running, and deletes what it left unfinished. Results and finished variants stay. */
  async remove(id: string): Promise<void> {
    const record = this.#find(id)
    if (record.state === 'running' || record.state === 'cancelling') throw this.#wrongState(record, 'removed')
    if (record.state === 'queued') this.#change(id, { state: 'cancelled' })
    if (record.state !== 'succeeded') await this.#discard(record)
    this.#store.remove(id)
    this.#events.forget(coalescingKey(id))
    this.#events.publish({ kind: 'job.removed', jobId: id })
    this.#publishQueue()
  }

  appendLog(jobId: string, level: JobLogLine['level'], text: string): void {
    const line: JobLogLine = { at: this.#clock.date().toISOString(), level, text }
    this.#store.appendLog(jobId, line)
    this.#events.publish({ kind: 'job.log', jobId, line })
  }

  /** Resolves when nothing runs and nothing is queued. */
  async settled(): Promise<void> {
    if (this.#run === null && !this.#hasQueued()) return
    await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  /** Stops the running job so that it can be resumed, and starts no other. */
  async close(): Promise<void> {
    this.#closing = true
    this.#run?.controller.abort()
    await this.#run?.ended
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** After a kill: what the store calls running is not running any more. */
  #recover(): void {
    for (const record of this.#store.list()) {
      if (record.state !== 'running' && record.state !== 'cancelling') continue
      const state = record.state === 'cancelling' ? 'cancelled' : 'interrupted'
      this.#store.update({ ...record, state, endedAt: this.#clock.date().toISOString() })
      this.#store.appendLog(record.id, {
        at: this.#clock.date().toISOString(),
        level: 'warn',
        text: 'Lathe stopped while this job was running. Finished work is kept.',
      })
    }
  }

  #next(): void {
    if (this.#run !== null || this.#closing) return
    const record = this.#store.list().find((candidate) => candidate.state === 'queued')
    if (record === undefined) {
      for (const resolve of this.#idle.splice(0)) resolve()
      return
    }
    const controller = new AbortController()
    const resumed = record.startedAt !== null
    const progress = new JobProgress({
      phases: record.phases,
      rememberedRate: (key) => this.#store.rate(key),
      now: () => this.#clock.now(),
      resumed,
    })
    const { promise: ended, resolve: onEnded } = Promise.withResolvers<void>()
    this.#run = { jobId: record.id, controller, progress, layers: record.layers, ended }
    this.#change(record.id, { state: 'running', startedAt: record.startedAt ?? this.#clock.date().toISOString() })
    this.#publishQueue()
    void this.#work(record, this.#run, resumed).then(() => {
      this.#run = null
      onEnded()
      this.#publishQueue()
      this.#next()
    })
  }

  /** Never rejects: whatever happens becomes the job's final state. */
  async #work(record: JobRecord, run: Run, resumed: boolean): Promise<void> {
    const id = record.id
    let lastPersisted = this.#clock.now()
    const stopTicking = this.#clock.every(TICK_MS, () => {
      this.#notePeakRss(id)
      if (this.#clock.now() - lastPersisted >= PERSIST_MS) {
        lastPersisted = this.#clock.now()
        this.#store.update({ ...this.#find(id), phases: run.progress.phases, layers: run.layers })
      }
      this.#publishSoon(id)
    })
    try {
      const worker = this.#workers[record.kind]
      if (worker === undefined) throw new Error(`No worker is registered for ${record.kind} jobs.`)
      await worker.run(this.#context(record, run, resumed))
      this.#notePeakRss(id)
      this.#finishAs(id, 'succeeded', null)
    } catch (error) {
      this.#notePeakRss(id)
      await this.#workStopped(id, error, run.controller.signal.aborted)
    } finally {
      stopTicking()
    }
  }

  async #workStopped(id: string, error: unknown, aborted: boolean): Promise<void> {
    const record = this.#find(id)
    if (aborted && record.state === 'cancelling') {
      await this.#discard(record)
      this.appendLog(id, 'info', 'Cancelled.')
      this.#finishAs(id, 'cancelled', null)
      return
    }
    if (aborted) {
      this.appendLog(id, 'info', 'Stopped because Lathe is closing. Finished work is kept.')
      this.#finishAs(id, 'interrupted', null)
      return
    }
    const shape = toErrorShape(error)
    if (shape.code === 'internal')
      this.#log('error', `Job ${id}: ${error instanceof Error ? (error.stack ?? error.message) : shape.message}`)
    this.appendLog(id, 'error', `${shape.message} ${shape.hint}`)
    this.#finishAs(id, 'failed', shape)
  }

  /** Units per second that this machine has managed of a kind of phase; null before it was timed. */
  rememberedRate(key: string): number | null {
    return this.#store.rate(key)
  }

  #context(record: JobRecord, run: Run, resumed: boolean): JobContext {
    const id = record.id
    const { progress } = run
    const savePhases = (): void => {
      this.#store.update({ ...this.#find(id), phases: progress.phases, layers: run.layers })
      this.#publishSoon(id)
    }
    return {
      job: record,
      signal: run.controller.signal,
      resumed,
      isDone: (phaseId) => progress.phase(phaseId).state === 'done',
      start: (phaseId, total) => {
        progress.start(phaseId, total)
        savePhases()
      },
      advance: (phaseId, done, total, item) => {
        const wasRunning = progress.phase(phaseId).state === 'running'
        progress.advance(phaseId, done, total, item)
        if (!wasRunning) savePhases()
        this.#publishSoon(id)
      },
      working: (item) => {
        progress.working(item)
        this.#publishSoon(id)
      },
      finish: (phaseId) => {
        const speed = progress.finish(phaseId)
        if (speed !== null) this.#store.rememberRate(speed.key, speed.unitsPerSecond, this.#clock.date().toISOString())
        savePhases()
      },
      skip: (phaseId) => {
        progress.skip(phaseId)
        savePhases()
      },
      setLayers: (layers) => {
        const finished = layers.finished.length !== (run.layers?.finished.length ?? 0)
        run.layers = layers
        if (finished) this.#store.update({ ...this.#find(id), layers })
        this.#publishSoon(id)
      },
      setVariant: (modelId) => {
        this.#change(id, { variantId: modelId })
      },
      log: (level, text) => this.appendLog(id, level, text),
    }
  }

  async #discard(record: JobRecord): Promise<void> {
    try {
      await this.#workers[record.kind]?.discard(record)
    } catch (error) {
      // the user asked for the job to go; leftovers on disk must not keep it, but they must be told
      const shape = toErrorShape(error)
      this.#log('warn', `Leftovers of job ${record.id} could not be deleted: ${shape.message}`)
      this.appendLog(record.id, 'warn', `Unfinished output could not be deleted: ${shape.message}`)
    }
  }

  #notePeakRss(id: string): void {
    const record = this.#find(id)
    const rss = this.#rssBytes()
    if (rss > (record.peakRssBytes ?? 0)) this.#store.update({ ...record, peakRssBytes: rss })
  }

  #finishAs(id: string, state: JobState, error: JobRecord['error']): void {
    const run = this.#run?.jobId === id ? this.#run : null
    const { phases, layers } = run === null ? this.#find(id) : { phases: run.progress.phases, layers: run.layers }
    this.#change(id, { state, error, phases, layers: atRest(layers), endedAt: this.#clock.date().toISOString() })
  }

  #change(id: string, change: Partial<JobRecord>): void {
    this.#store.update({ ...this.#find(id), ...change })
    this.#publish(id)
  }

  #find(id: string): JobRecord {
    const record = this.#store.find(id)
    if (record === null) throw new LatheError('job.not-found', `There is no job ${id}.`, 'It may have been removed.')
    return record
  }

  #wrongState(record: JobRecord, verb: string): LatheError {
    return new LatheError(
      'job.invalid-state',
      `"${record.title}" is ${record.state} and can't be ${verb}.`,
      'Wait for the job to end, or cancel it.',
    )
  }

  #hasQueued(): boolean {
    return !this.#closing && this.#store.list().some((record) => record.state === 'queued')
  }

  #publish(id: string): void {
    this.#events.forget(coalescingKey(id))
    this.#events.publish({ kind: 'job.changed', job: this.get(id) })
  }

  #publishSoon(id: string): void {
    this.#events.publishCoalesced(coalescingKey(id), () => ({ kind: 'job.changed', job: this.get(id) }))
  }

  /** Places in the queue changed. */
  #publishQueue(): void {
    for (const record of this.#store.list()) {
      if (record.state === 'queued') this.#publish(record.id)
    }
  }

  #toJob(record: JobRecord): Job {
    const run = this.#run?.jobId === record.id ? this.#run : null
    const phases = run === null ? record.phases : run.progress.phases
    const live: ProgressSnapshot = run === null ? restingProgress(record) : run.progress.snapshot()
    return {
      id: record.id,
      kind: record.kind,
      title: record.title,
      state: record.state,
      modelId: record.modelId,
      variantId: record.variantId,
      presetId: record.presetId,
      phases: phases.map(publicPhase),
      ...live,
      progress: record.state === 'succeeded' ? 1 : live.progress,
      peakRssBytes: record.peakRssBytes,
      layers: run === null ? atRest(record.layers) : run.layers,
      createdAt: record.createdAt,
      startedAt: record.startedAt,
      endedAt: record.endedAt,
      queuePosition: this.#queuePosition(record),
      error: record.error === null ? null : { ...record.error },
      resumable: RESUMABLE.has(record.state),
    }
  }

  #queuePosition(record: JobRecord): number {
    if (record.state !== 'queued') return 0
    const ahead = this.#store.list().filter((other) => !ENDED.has(other.state) && other.rank < record.rank && other.id !== record.id)
    return Math.max(1, ahead.length)
  }
}

function coalescingKey(jobId: string): string {
  return `job:${jobId}`
}

/** Nothing is being done to any layer. */
function atRest(layers: JobLayers | null): JobLayers | null {
  return layers === null ? null : { ...layers, current: null, note: null }
}

/** A job that isn't running shows how far it got and nothing that moves. */
function restingProgress(record: JobRecord): ProgressSnapshot {
  const still = new JobProgress({ phases: record.phases, rememberedRate: () => null, now: () => 0, resumed: false })
  return { progress: still.snapshot().progress, etaSeconds: null, rate: null, stalledSeconds: 0, currentItem: null }
}
