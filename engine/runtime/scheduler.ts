/**
 * Who runs in the next step, and on which blocks (specs/runtime.md §3). There is no prefill and no decode phase: every request wants
 * `target − computed` more tokens processed, and a step hands out at most its token budget and its logit rows. Chunked prefill, prefix hits
 * and resumption after preemption are only different values of those two numbers.
 *
 * Two lanes: people waiting for an answer (`generate`) come first, measurement (`score`, `reserved`) takes what they leave, so a chat stays
 * quick while an evaluation of thousands of windows is queued. Within a lane by priority, then first come, first served; who is not ready (its
 * grammar compiles) or would compute a prefix that a running request is computing right now lets others pass.
 *
 * Pure bookkeeping: nothing here waits, measures time or touches a device. `schedule` and `complete` alternate; in between nothing else
 * may be called (core.ts drains additions and aborts before it schedules).
 */
import type { BlockPool } from './block-pool.ts'
import type { PrefixHasher } from './prefix-hash.ts'
import { PrefixMemory } from './prefix-memory.ts'
import type { Request } from './request.ts'
import type { StepEntry } from './step-builder.ts'

export interface PlannedRequest extends StepEntry {
  readonly request: Request
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

/** Prefixes are remembered until the cache has been filled this many times over. */
const REMEMBERED_CACHES = 8

export class Scheduler {
  readonly #pool: BlockPool
  readonly #hasher: PrefixHasher | null
  readonly #maxSequences: number
  readonly #maxRows: number
  readonly #now: () => number
  readonly #interactive: Lane = { running: [], waiting: [] }
  readonly #background: Lane = { running: [], waiting: [] }
  readonly #reserved = new Set<Request>()
  readonly #memory: PrefixMemory
  preemptions = 0

  constructor(options: SchedulerOptions) {
    if (options.maxRows < options.maxSequences) throw new RangeError(`${options.maxRows} logit rows for ${options.maxSequences} sequences`)
    this.#pool = options.pool
    this.#hasher = options.hasher
    this.#maxSequences = options.maxSequences
    this.#maxRows = options.maxRows
    this.#now = options.now
    this.#memory = new PrefixMemory(REMEMBERED_CACHES * options.pool.blocks)
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
    enqueue(this.#laneOf(request).waiting, request, (other) => other.priority > request.priority)
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
      // What was computed of drafts is not known to be right yet.
      const full = Math.floor(Math.min(request.computed, request.tokenCount) / this.#pool.blockSize)
      if (full <= request.published) continue
      this.#hasher.extend(request.hashes, request.cacheSalt, request.tokens, full)
      for (let i = request.published; i < full; i++) {
        const hash = element(request.hashes, i)
        this.#pool.publish(element(request.table, i), hash)
        this.#memory.note(hash, request.hashes[i - 1] ?? '')
      }
      request.published = full
    }
  }

  get #runningCount(): number {
    return this.#interactive.running.length + this.#background.running.length
  }

  #laneOf({ work }: Request): Lane {
    return work.kind === 'generate' || (work.kind === 'score' && work.interactive === true) ? this.#interactive : this.#background
  }

  #scheduleRunning({ running }: Lane, entries: PlannedRequest[], left: StepRoom): boolean {
    let preempted = false
    for (let i = 0; i < running.length; i++) {
      const request = element(running, i)
      if (request.draftCount > 0) this.#trimDrafts(request, left, this.#runningCount - entries.length - 1)
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

  /** Guesses are the first to go: every other running request gets a token and a row before them, and nobody is preempted for them. */
  #trimDrafts(request: Request, { tokens, rows }: StepRoom, others: number): void {
    const spare = Math.max(0, Math.min(tokens, rows) - others - 1)
    request.draftCount = Math.min(request.draftCount, spare)
    const missing = this.#pool.blocksFor(request.target) - request.table.length
    if (missing > this.#pool.free) request.draftCount = 0
  }

  #admitWaiting({ running, waiting }: Lane, entries: PlannedRequest[], left: StepRoom): void {
    // The last place is kept for whoever wants an answer, and so is memory that becomes free while one waits for it.
    const background = running === this.#background.running
    if (background && this.#interactive.waiting.some((request) => request.ready && !this.#sharesPending(request))) return
    const most = background ? Math.max(1, this.#maxSequences - 1) : this.#maxSequences
    for (let place = 0; place < waiting.length;) {
      const head = element(waiting, place)
      if (!head.ready || this.#sharesPending(head)) {
        place++
        continue
      }
      const steps = head.work.kind !== 'reserved'
      if (steps && (left.tokens < 1 || this.#runningCount >= most)) return
      // Never skip to a smaller request: the head would starve.
      if (!this.#allocateWhole(head)) return
      waiting.splice(place, 1)
      head.status = 'running'
      head.scheduledAt ??= this.#now()
      if (head.work.kind === 'reserved') {
        this.#reserved.add(head)
        head.work.granted(head.table)
        continue
      }
      // Ordered, so that the last to be served is the first to be preempted and never part of the plan already.
      enqueue(running, head, (other) => other.priority > head.priority)
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
    if (request.preemptions === 0 && request.scheduledAt === null) this.#account(request, hits.length)
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

  /** What the first admission found in the cache, and why not more. */
  #account(request: Request, hits: number): void {
    const { work } = request
    const { blockSize } = this.#pool
    if (work.kind !== 'generate') {
      request.cachedTokens = hits * blockSize
      return
    }
    if (work.fresh === true) {
      request.cacheMiss = { reason: 'fresh', position: 0 }
      return
    }
    request.cachedTokens = hits * blockSize
    const most = Math.floor(request.mostCached / blockSize)
    if (this.#hasher === null) request.cacheMiss = { reason: 'disabled', position: 0 }
    else if (most === 0) request.cacheMiss = { reason: 'short', position: 0 }
    else if (hits < most) {
      const reason = this.#memory.explain(element(request.hashes, hits), request.hashes[hits - 1] ?? '')
      request.cacheMiss = { reason, position: hits * blockSize }
    }
  }

  /** Whether the first block that the cache lacks is being computed by a running request: waiting for it is cheaper than doing it twice. */
  #sharesPending(request: Request): boolean {
    if (this.#hasher === null || this.#runningCount === 0 || request.work.kind === 'reserved') return false
    const hits = this.#findPrefix(request).length
    if ((hits + 1) * this.#pool.blockSize > request.mostCached) return false
    const next = request.hashes[hits]
    const computes = (other: Request): boolean =>
      other.published <= hits && other.hashes[hits] === next && other.target >= (hits + 1) * this.#pool.blockSize
    return this.#interactive.running.some(computes) || this.#background.running.some(computes)
  }

  /** Measurement before answers, then the least urgent, then the latest. There is one: who asks is running itself. */
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
    victim.draftCount = 0
    victim.published = 0
    victim.status = 'preempted'
    victim.preemptions++
    this.preemptions++
    enqueue(waiting, victim, (other) => other.priority >= victim.priority)
  }
}

/** In order of priority, then of admission: the first is served first. */
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

/** Puts the request before the first that `comesAfter` it. */
function enqueue(waiting: Request[], request: Request, comesAfter: (other: Request) => boolean): void {
  const place = waiting.findIndex(comesAfter)
  if (place < 0) waiting.push(request)
  else waiting.splice(place, 0, request)
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
