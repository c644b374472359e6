/**
 * Watches the quality of what is served, through the same jobs as any evaluation, on a schedule that the settings keep, and says when it changed. Of
 * a variant here, the drift from its original: the same bytes on the same device and driver give the same figure, so a change means that files,
 * driver, device or Lathe are others; which of these are known to be is said. Of a model on a server, its answers to a bundled task.
 */
import { LatheError } from '../contract/index.ts'
import type { Job, QualityCheck, QualityWatch, Settings } from '../contract/index.ts'
import { answerDrift, answersMoved, type AnswerDrift } from './answer-drift.ts'
import type { JobQueue } from './jobs/queue.ts'
import type { Library } from './library.ts'
import type { Log } from './ports.ts'
import type { Results } from './results.ts'
import type { StoredResult } from './store/result-store.ts'

type Watch = Settings['qualityWatches'][number]

export interface QualityWatchParts {
  readonly library: Library
  readonly results: Results
  readonly queue: JobQueue
  readonly settings: { get(): readonly Watch[]; put(watches: readonly Watch[]): void }
  /** Queues a drift check of a variant. */
  readonly evaluate: (modelId: string) => Promise<Job[]>
  /** Queues a task on a server's model. */
  readonly ask: (modelId: string, task: string) => Promise<Job[]>
  readonly log: Log
  readonly now?: () => number
}

const HOUR_MS = 3_600_000
/** Schedules are in hours: a minute late is on time. */
const LOOK_MS = 60_000
/** What a screen can show. */
const MOST_CHECKS = 200
/** Short prompts with choices: scored by any server that gives log-probabilities, and bundled. */
const SERVER_TASK = 'reading'
/** Kernels are deterministic on one device and driver; the sums around them are of doubles. Relative, and in nats. */
const SAME_MACHINE = { share: 1e-3, nats: 1e-7 } as const
/** Another device rounds otherwise: the noise floor between adapters (specs/evaluation.md §6.3). */
const OTHER_MACHINE = { share: 0.05, nats: 1e-5 } as const

export class QualityWatcher {
  readonly #parts: QualityWatchParts
  readonly #now: () => number
  /** By the ids of the first check's result and the later one's. */
  readonly #drifts = new Map<string, AnswerDrift>()
  #timer: NodeJS.Timeout | null = null
  #looking = false

  constructor(parts: QualityWatchParts) {
    this.#parts = parts
    this.#now = parts.now ?? Date.now
  }

  start(): void {
    this.#timer = setInterval(() => void this.look(), LOOK_MS)
    // a schedule must not keep a process alive
    this.#timer.unref()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  list(): QualityWatch[] {
    return this.#parts.settings.get().map((watch) => this.#describe(watch))
  }

  /** Throws `request.invalid` for an original, which drifts from nothing. */
  async set(modelId: string, everyHours: number | null): Promise<QualityWatch[]> {
    const { library, settings } = this.#parts
    const others = settings.get().filter((watch) => watch.modelId !== modelId)
    if (everyHours === null) {
      settings.put(others)
      return this.list()
    }
    const record = library.record(modelId)
    if (record.origin === 'published') {
      throw new LatheError(
        'request.invalid',
        `"${record.name}" is a results file: nobody can be asked again.`,
        'Watch a variant, or a model on a server.',
      )
    }
    if (record.parentId === null && record.origin === 'folder') {
      throw new LatheError(
        'request.invalid',
        `"${record.name}" is an original: there is nothing that it could drift from.`,
        'Watch one of its variants, or a model on a server.',
      )
    }
    settings.put([...others, { modelId, everyHours }])
    await this.look()
    return this.list()
  }

  /** Queues a check of every variant that is due and not being measured already. */
  async look(): Promise<void> {
    if (this.#looking) return
    this.#looking = true
    try {
      const { queue, settings, log } = this.#parts
      for (const watch of settings.get()) {
        if (queue.modelsInUse().has(watch.modelId) || !this.#isDue(watch)) continue
        await this.#measure(watch.modelId).catch((error: unknown) => {
          log(
            'warn',
            `The quality check of ${watch.modelId} could not be queued: ${error instanceof Error ? error.message : String(error)}`,
          )
        })
      }
    } finally {
      this.#looking = false
    }
  }

  #measure(modelId: string): Promise<Job[]> {
    return this.#isServer(modelId) ? this.#parts.ask(modelId, SERVER_TASK) : this.#parts.evaluate(modelId)
  }

  #isServer(modelId: string): boolean {
    return this.#exists(modelId) && this.#parts.library.record(modelId).origin === 'remote'
  }

  #isDue(watch: Watch): boolean {
    const next = this.#nextMs(watch)
    return next !== null && next <= this.#now()
  }

  /** null when the variant is gone. A check that failed is tried again after its interval. */
  #nextMs({ modelId, everyHours }: Watch): number | null {
    if (!this.#exists(modelId)) return null
    const { queue } = this.#parts
    const newest = this.#checks(modelId).at(-1)
    const tries = queue
      .list()
      .filter((job) => job.kind === 'evaluate' && job.modelId === modelId)
      .map((job) => Date.parse(job.createdAt))
    const last = Math.max(newest === undefined ? -Infinity : Date.parse(newest.at), ...tries)
    return last === -Infinity ? this.#now() : last + everyHours * HOUR_MS
  }

  #exists(modelId: string): boolean {
    try {
      this.#parts.library.record(modelId)
      return true
    } catch (error) {
      if (error instanceof LatheError) return false
      throw error
    }
  }

  #describe(watch: Watch): QualityWatch {
    const checks = this.#checks(watch.modelId)
    const next = this.#nextMs(watch)
    const change = changeBetween(checks[0], checks.at(-1))
    return {
      ...watch,
      checks,
      nextAt: next === null ? null : new Date(next).toISOString(),
      state: checks.length < 2 ? 'waiting' : change === null ? 'steady' : 'changed',
      reason: checks.length < 2 ? this.#trouble(watch.modelId, checks.at(-1)) : change,
    }
  }

  /** Oldest first. */
  #checks(modelId: string): QualityCheck[] {
    const { results } = this.#parts
    if (!this.#isServer(modelId)) return results.driftHistory(modelId).slice(-MOST_CHECKS).map(checkOf)
    const history = results.taskHistory(modelId, SERVER_TASK).slice(-MOST_CHECKS)
    const [first] = history
    return history.map(({ id, provenance, createdAt }) => {
      const { adapter, driver, latheVersion } = provenance
      const answers = first === undefined ? null : this.#drift(first.id, id)
      return { at: createdAt, kldMean: null, top1Agreement: null, adapter, driver, latheVersion, answers }
    })
  }

  /** Results never change, so what was compared once stays. */
  #drift(firstId: number, id: number): AnswerDrift {
    const { results } = this.#parts
    const key = `${firstId} ${id}`
    const drift = this.#drifts.get(key) ?? answerDrift(SERVER_TASK, results.samples(firstId), results.samples(id))
    this.#drifts.set(key, drift)
    return drift
  }

  /** Why the newest try gave nothing: a server without log-probabilities, one that is away. */
  #trouble(modelId: string, newest: QualityCheck | undefined): string | null {
    const tries = this.#parts.queue.list().filter((job) => job.kind === 'evaluate' && job.modelId === modelId)
    const last = tries.toSorted((one, other) => one.createdAt.localeCompare(other.createdAt)).at(-1)
    if (last === undefined || last.error === null || (newest !== undefined && newest.at > last.createdAt)) return null
    return `The last try failed: ${last.error.message} ${last.error.hint}`
  }
}

function checkOf({ payload, provenance, createdAt }: Extract<StoredResult, { readonly kind: 'drift' }>): QualityCheck {
  const { kldMean, top1Agreement } = payload
  const { adapter, driver, latheVersion } = provenance
  return { at: createdAt, kldMean, top1Agreement, adapter, driver, latheVersion, answers: null }
}

/** What changed from the first check to the newest, in words; null when the figures agree as well as they should. */
export function changeBetween(first: QualityCheck | undefined, newest: QualityCheck | undefined): string | null {
  if (first === undefined || newest === undefined || first === newest) return null
  if (newest.answers !== null) return answersMoved(newest.answers)
  const others = [
    first.adapter === newest.adapter ? null : `the adapter (${first.adapter} → ${newest.adapter})`,
    first.driver === newest.driver ? null : `the driver (${first.driver} → ${newest.driver})`,
    first.latheVersion === newest.latheVersion ? null : `Lathe (${first.latheVersion} → ${newest.latheVersion})`,
  ].filter((other) => other !== null)
  const { share, nats } = others.length === 0 ? SAME_MACHINE : OTHER_MACHINE
  if ((first.kldMean === null) !== (newest.kldMean === null)) return `The divergence is no longer a number. ${causes(others)}`
  if (first.kldMean === null || newest.kldMean === null) return null
  if (Math.abs(newest.kldMean - first.kldMean) <= nats + share * Math.abs(first.kldMean)) return null
  return `The mean divergence went from ${first.kldMean.toPrecision(3)} to ${newest.kldMean.toPrecision(3)}. ${causes(others)}`
}

function causes(others: readonly string[]): string {
  return others.length === 0 ? 'Device, driver and Lathe are the same: look at the files.' : `Other than at first: ${others.join(', ')}.`
}
