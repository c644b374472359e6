/**
 * Who runs in the next step, and on which blocks (specs/runtime.md §3). There is no prefill and no decode phase: every request wants
 * `target − computed` more tokens processed, and a step hands out at most its token budget and its logit rows. Chunked prefill, prefix hits
 * and resumption after preemption are only different values of those two numbers.
 *
 * Two lanes: people waiting for an answer (`generate`) come first, measurement (`score`, `reserved`) takes what they leave, so a chat stays
 * quick while an evaluation of thousands of windows is queued. Within a lane, first come, first served.
 *
 * Pure bookkeeping: nothing here waits, measures time or touches a device. `schedule` and `complete` alternate; in between nothing else
 * may be called (core.ts drains additions and aborts before it schedules).
 */
import type { BlockPool } from './block-pool.ts'
import type { PrefixHasher } from './prefix-hash.ts'
import type { Request } from './request.ts'

/** A request's share of a step: tokens start…start+count, logits wanted for the last `rows` of them. */
export interface PlannedRequest {
  readonly request: Request
  readonly start: number
  readonly count: number
  readonly rows: number
}

export interface StepPlan {
  readonly entries: readonly PlannedRequest[]
  readonly tokens: number
  readonly rows: number
}

export interface SchedulerOptions {
  readonly pool: BlockPool
  /** null = no prefix cache. */
  readonly hasher: PrefixHasher | null
  readonly maxSequences: number
  /** Logit rows a step has room for; ≥ maxSequences, so that every running request can sample. */
  readonly maxRows: number
  readonly now: () => number
}

export class Scheduler {
  readonly #pool: BlockPool
  readonly #hasher: PrefixHasher | null
  readonly #maxSequences: number
  readonly #maxRows: number
  readonly #now: () => number
  readonly #interactive: Lane = { running: [], waiting: [] }
  readonly #background: Lane = { running: [], waiting: [] }
  readonly #reserved = new Set<Request>()
  preemptions = 0

  constructor(options: SchedulerOptions) {
    if (options.maxRows < options.maxSequences) throw new RangeError(`${options.maxRows} logit rows for ${options.maxSequences} sequences`)
    this.#pool = options.pool
    this.#hasher = options.hasher
    this.#maxSequences = options.maxSequences
    this.#maxRows = options.maxRows
    this.#now = options.now
  }

  get running(): readonly Request[] {
    return [...this.#interactive.running, ...this.#background.running]
  }

  get waiting(): readonly Request[] {
    return [...this.#interactive.waiting, ...this.#background.waiting]
  }

  /** Whether somebody waits for the next word of an answer. */
  get decoding(): boolean {
    return this.#interactive.running.some((request) => request.decoding)
  }

  get reserved(): ReadonlySet<Request> {
    return this.#reserved
  }

  add(request: Request): void {
    this.#laneOf(request).waiting.push(request)
  }

  /** Takes a request out, in whatever state, and gives its blocks back. */
  remove(request: Request): void {
    this.#reserved.delete(request)
    const { running, waiting } = this.#laneOf(request)
    removeFrom(running, request)
    removeFrom(waiting, request)
    this.#pool.release(request.table)
    request.table = []
    request.status = 'ended'
  }

  /** As `remove`, for a request whose content cannot be trusted: nobody else may find it. */
  discard(request: Request): void {
    for (const block of request.table) this.#pool.unpublish(block)
    this.remove(request)
  }

  /** Plans the next step, or null if nothing can run. Throws RangeError for a budget below one token. */
  schedule(tokenBudget: number): StepPlan | null {
    if (!(tokenBudget >= 1)) throw new RangeError(`A token budget of ${tokenBudget}`)
    const entries: PlannedRequest[] = []
    const left = { tokens: tokenBudget, rows: this.#maxRows }
    let preempted = false
    for (const lane of [this.#interactive, this.#background]) {
      preempted = this.#scheduleRunning(lane, entries, left) || preempted
      // Admitting what was just taken off would only repeat it (specs/runtime.md §21.5).
      if (!preempted) this.#admitWaiting(lane, entries, left)
    }
    if (entries.length === 0) {
      // The first of the running requests can always go on, or gives up its blocks; anything else would wait forever, in silence.
      if (this.#runningCount > 0) throw new Error(`${this.#runningCount} requests run but none has anything to do`)
      return null
    }
    return { entries, tokens: tokenBudget - left.tokens, rows: this.#maxRows - left.rows }
  }

  /** Books a step that succeeded. Blocks become findable only now, when their bytes are known to be written. */
  complete(plan: StepPlan): void {
    for (const { request, count } of plan.entries) {
      request.computed += count
      if (this.#hasher === null) continue
      const full = Math.floor(request.computed / this.#pool.blockSize)
      if (full <= request.published) continue
      this.#hasher.extend(request.hashes, request.cacheSalt, request.tokens, full)
      for (let i = request.published; i < full; i++) this.#pool.publish(element(request.table, i), element(request.hashes, i))
      request.published = full
    }
  }

  get #runningCount(): number {
    return this.#interactive.running.length + this.#background.running.length
  }

  #laneOf({ work }: Request): Lane {
    return work.kind === 'generate' ? this.#interactive : this.#background
  }

  #scheduleRunning({ running }: Lane, entries: PlannedRequest[], left: StepRoom): boolean {
    let preempted = false
    for (let i = 0; i < running.length; i++) {
      const request = element(running, i)
      const planned = shareOf(request, left)
      if (planned === null) continue
      const missing = this.#pool.blocksFor(planned.start + planned.count) - request.table.length
      for (;;) {
        if (missing <= 0 || this.#pool.allocate(missing, request.table)) break
        preempted = true
        const victim = this.#victim()
        this.#preempt(victim)
        if (victim === request) return true
      }
      take(entries, left, planned)
    }
    return preempted
  }

  #admitWaiting({ running, waiting }: Lane, entries: PlannedRequest[], left: StepRoom): void {
    // The last place is kept for whoever wants an answer, and so is memory that becomes free while one waits for it.
    const background = running === this.#background.running
    if (background && this.#interactive.waiting.length > 0) return
    const most = background ? Math.max(1, this.#maxSequences - 1) : this.#maxSequences
    for (let head = waiting[0]; head !== undefined; head = waiting[0]) {
      const steps = head.work.kind !== 'reserved'
      if (steps && (left.tokens < 1 || this.#runningCount >= most)) return
      // Never skip to a smaller request: the head would starve.
      if (!this.#allocateWhole(head)) return
      waiting.shift()
      head.status = 'running'
      head.scheduledAt ??= this.#now()
      if (head.work.kind === 'reserved') {
        this.#reserved.add(head)
        head.work.granted(head.table)
        continue
      }
      running.push(head)
      const planned = shareOf(head, left)
      if (planned !== null) take(entries, left, planned)
    }
  }

  /**
   * Admission by whole-prompt fit: blocks for every known token are taken at once, less those found in the prefix cache. A block per running
   * generation stays free, for else the newcomer would be preempted again as soon as one of them grows.
   */
  #allocateWhole(request: Request): boolean {
    const hits = this.#findPrefix(request)
    const missing = this.#pool.blocksFor(request.target) - hits.length
    const margin = this.#interactive.running.length
    if (missing + margin > this.#pool.free - this.#pool.countFree(hits)) return false
    this.#pool.touch(hits)
    request.table = [...hits]
    if (!this.#pool.allocate(missing, request.table)) throw new Error('Free blocks vanished between check and allocation')
    request.computed = hits.length * this.#pool.blockSize
    request.published = hits.length
    request.decoding = false
    if (request.preemptions === 0) request.cachedTokens = request.computed
    return true
  }

  #findPrefix(request: Request): number[] {
    const hits: number[] = []
    if (this.#hasher === null || request.work.kind === 'reserved') return hits
    const most = Math.floor(request.mostCached / this.#pool.blockSize)
    this.#hasher.extend(request.hashes, request.cacheSalt, request.tokens, most)
    for (let i = 0; i < most; i++) {
      const block = this.#pool.lookup(element(request.hashes, i))
      if (block === 0) break
      hits.push(block)
    }
    return hits
  }

  /** Measurement before answers, the latest first. There is one: who asks is running itself. */
  #victim(): Request {
    return element([...this.#interactive.running, ...this.#background.running], this.#runningCount - 1)
  }

  /** Recompute preemption: its blocks go (findable until reused), its tokens stay, and it is first in line. */
  #preempt(victim: Request): void {
    const { running, waiting } = this.#laneOf(victim)
    removeFrom(running, victim)
    this.#pool.release(victim.table)
    victim.table = []
    victim.computed = 0
    victim.published = 0
    victim.status = 'preempted'
    victim.preemptions++
    this.preemptions++
    waiting.unshift(victim)
  }
}

/** In order of admission: the first is served first. */
interface Lane {
  readonly running: Request[]
  readonly waiting: Request[]
}

interface StepRoom {
  tokens: number
  rows: number
}

/** What the request can do with this much room; null for nothing. */
function shareOf(request: Request, { tokens, rows }: StepRoom): PlannedRequest | null {
  const start = request.computed
  const first = Math.max(start, request.firstLogitPosition)
  // No room for a logit row means stopping short of the position that needs one.
  const end = Math.min(request.target, start + tokens, first + rows)
  if (end <= start) return null
  return { request, start, count: end - start, rows: Math.max(0, end - first) }
}

function take(entries: PlannedRequest[], left: StepRoom, planned: PlannedRequest): void {
  entries.push(planned)
  left.tokens -= planned.count
  left.rows -= planned.rows
}

function removeFrom(list: Request[], request: Request): void {
  const index = list.indexOf(request)
  if (index >= 0) list.splice(index, 1)
}

function element<T>(list: readonly T[], index: number): T {
  const value = list[index]
  if (value === undefined) throw new RangeError(`No element ${index} in a list of ${list.length}`)
  return value
}
