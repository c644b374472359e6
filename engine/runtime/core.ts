/**
 * The engine loop (specs/runtime.md §1, §3): drain what was asked, schedule, build, step, apply, emit. One step at a time.
 * `add`, `abort` and the emitted outputs are its whole boundary, in plain data, so that it can be driven by a fake executable and moved
 * out of the process. It deals in token ids and knows neither text, tokenizers nor files.
 *
 * Additions and aborts take effect only at the top of the loop, never while a step is in flight, so an abort is done within one step
 * whatever the request's state.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { LatheError } from '../contract/errors.ts'
import type { Executable } from '../gpu/program.ts'
import type { BlockPool } from './block-pool.ts'
import { CoreInbox } from './core-inbox.ts'
import type { CoreOptions, RequestEnd, RequestOutput } from './core-messages.ts'
import { CoreStatistics } from './core-statistics.ts'
import { asError, closedError, isLoss } from './core-errors.ts'
import type { PrefixHasher } from './prefix-hash.ts'
import type { Request } from './request.ts'
import { Scheduler } from './scheduler.ts'
import type { StepPlan } from './scheduler.ts'
import type { Speculator } from './speculation/speculator.ts'
import { StepApplier, finishedEnd } from './step-applier.ts'
import type { StepBudget } from './step-budget.ts'
import { StepRunner, withRules } from './step-runner.ts'
import type { StepResult } from './step-runner.ts'
import type { RuntimeTelemetry } from './types.ts'
import { isHang, StepWatchdog } from './watchdog.ts'

/** Requests waiting for admission. In-process callers may queue a whole evaluation; a server puts its own, smaller bound in front. */
const MOST_QUEUED = 16_384
/** Orders cores, so that holding several at once cannot deadlock (pair.ts). */
let nextSerial = 0

export class Core {
  readonly serial = nextSerial++
  readonly executable: Executable
  readonly pool: BlockPool
  readonly hasher: PrefixHasher | null
  /** Told of each step: its tokens, its milliseconds. Must not throw. */
  readonly stepListeners = new Set<(tokens: number, milliseconds: number) => void>()
  /** For inspection; only the loop may change it. */
  readonly scheduler: Scheduler
  readonly #runner: StepRunner
  readonly #budget: StepBudget
  readonly #emit: CoreOptions['emit']
  readonly #now: () => number
  readonly #speculator: Speculator | null
  readonly #watchdog: StepWatchdog
  readonly #onHang: (() => void) | undefined
  readonly #maxQueued: number

  readonly #requests = new Map<string, Request>()
  readonly #inbox = new CoreInbox()
  #closing = false
  #failure: Error | null = null
  readonly #stopped: Promise<void>

  readonly #statistics = new CoreStatistics()
  readonly #applier: StepApplier

  constructor(options: CoreOptions) {
    const { executable, pool, contextLimit } = options
    if (pool.blocksFor(contextLimit) > pool.blocks - 1) {
      // Otherwise a request could grow beyond what it can ever have and preempt itself forever (specs/runtime.md §21.6).
      throw new RangeError(`A pool of ${pool.blocks - 1} blocks of ${pool.blockSize} cannot hold one context of ${contextLimit} tokens`)
    }
    if (pool.blocksFor(contextLimit) > executable.capacity.blocksPerSequence) {
      throw new RangeError(`Block tables of ${executable.capacity.blocksPerSequence} cannot hold a context of ${contextLimit} tokens`)
    }
    this.executable = executable
    this.pool = pool
    this.hasher = options.hasher
    this.#now = options.now ?? (() => performance.now())
    this.scheduler = new Scheduler({
      pool,
      hasher: options.hasher,
      maxSequences: executable.capacity.sequences,
      maxRows: executable.capacity.rows,
      now: this.#now,
    })
    this.#budget = options.budget
    this.#emit = options.emit
    this.#speculator = options.speculator ?? null
    this.#watchdog = options.watchdog ?? new StepWatchdog()
    this.#runner = new StepRunner(executable, pool.blockSize, this.#watchdog)
    this.#onHang = options.onHang
    this.#maxQueued = options.maxQueued ?? MOST_QUEUED
    this.#applier = new StepApplier({
      scheduler: this.scheduler,
      statistics: this.#statistics,
      speculator: this.#speculator,
      contextLimit,
      modelId: options.modelId,
      end: (request, end) => this.#end(request, end),
    })
    this.#stopped = this.#run().catch((error: unknown) => this.fail(asError(error)))
  }

  /** Why no more can be served, or null. */
  get failure(): Error | null {
    return this.#failure
  }

  /** Requests that want something still; those aborted only wait for the loop to let go of them. */
  get active(): number {
    return this.#requests.size - this.#inbox.aborts
  }

  /** Throws the failure of a core that has failed, and `runtime.queue-full`. */
  add(request: Request): void {
    if (this.#failure !== null) throw this.#failure
    if (this.#closing) throw closedError()
    if (this.#requests.has(request.id)) {
      throw new LatheError(
        'runtime.invalid-request',
        `A request with the id ${request.id} is already running.`,
        'Give every request its own id.',
      )
    }
    const queued = this.scheduler.waiting.length + this.#inbox.added
    if (queued >= this.#maxQueued && !this.#isWithOthers(request)) {
      const { sequences } = this.executable.capacity
      const retryAfterSeconds = this.#statistics.retryAfterSeconds(this.scheduler.waiting.length, sequences)
      throw new LatheError(
        'runtime.queue-full',
        `${queued} requests are waiting already.`,
        `Wait for some to finish, about ${retryAfterSeconds} s, then try again.`,
        { data: { queued, retryAfterSeconds } },
      )
    }
    this.#awaitMask(request)
    this.#requests.set(request.id, request)
    this.#inbox.add(request)
  }

  /** One client's request counts once, however many choices it asks for: none of them finds the queue full of the others. */
  #isWithOthers({ work }: Request): boolean {
    if (work.kind !== 'generate' || work.group === undefined) return false
    return this.#requests.values().some((other) => other.work.kind === 'generate' && other.work.group === work.group)
  }

  /** Ends the request at the top of the loop, with an output whose end is `finished: aborted`. Unknown and ended ids are ignored. */
  abort(id: string): void {
    if (this.#requests.has(id)) this.#inbox.abort(id)
  }

  /**
   * Runs `section` between two steps, so that it may use the executable itself. Sections and steps take turns.
   * Rejects if the core has failed or closed.
   */
  async exclusive<T>(section: () => Promise<T>): Promise<T> {
    if (this.#failure !== null) throw this.#failure
    if (this.#closing) throw closedError()
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const run = async (): Promise<void> => {
      try {
        resolve(await section())
      } catch (error) {
        reject(error)
      }
    }
    this.#inbox.section({ run, reject })
    return promise
  }

  /** Tokens that a step of somebody else's may take, by the same measure as the core's own. */
  stepTokens(): number {
    return this.#tokenBudget()
  }

  observeStep(tokens: number, milliseconds: number): void {
    this.#budget.observe(tokens, milliseconds)
  }

  /** Ends every request with this error, now, whether or not a step is in flight, and accepts no more. */
  fail(error: Error): void {
    if (this.#failure !== null) return
    this.#failure = error
    const outputs: RequestOutput[] = []
    for (const request of this.#requests.values()) {
      request.dispose()
      if (request.status !== 'ended') this.scheduler.remove(request)
      outputs.push(endOutput(request.id, { kind: 'failed', error }))
    }
    this.#requests.clear()
    this.#inbox.close(error)
    this.#emit(outputs)
  }

  /** Aborts everything and resolves when no step is in flight. A core that failed may never see its last step return, and is not waited for. */
  async close(): Promise<void> {
    this.#closing = true
    for (const id of this.#requests.keys()) this.#inbox.abort(id)
    this.#inbox.wake()
    if (this.#failure === null) await this.#stopped
    this.#speculator?.[Symbol.dispose]()
  }

  telemetry(): RuntimeTelemetry {
    return {
      running: this.scheduler.running.length,
      waiting: this.scheduler.waiting.length + this.#inbox.added,
      kvBlocksUsed: this.pool.used,
      kvBlocksTotal: this.pool.blocks - 1,
      tokenBudget: this.#tokenBudget(),
      preemptions: this.scheduler.preemptions,
      ...this.#statistics.counted(),
      ...(this.#speculator === null ? {} : { speculation: this.#speculator.telemetry() }),
    }
  }

  async #run(): Promise<void> {
    while (this.#failure === null) {
      const began = this.#now()
      this.#drain()
      const section = this.#inbox.takeSection()
      if (this.#closing) {
        section?.reject(closedError())
        this.#inbox.rejectSections(closedError())
        return
      }
      if (section !== undefined) await section.run()
      if (this.#failure !== null) return
      const plannedFrom = section === undefined ? began : this.#now()
      const draftMs = this.#speculator === null ? 0 : await this.#speculate(this.#speculator)
      if (this.#isFailed()) return
      const planned = this.scheduler.schedule(this.#tokenBudget())
      if (planned !== null) await this.#step(planned, plannedFrom, draftMs)
      else if (section === undefined && this.#inbox.isEmpty && !this.#isClosing()) await this.#inbox.sleep()
      // Lets timers, sockets and aborts in even where steps resolve without leaving the microtask queue.
      await nextTurn()
    }
  }

  /** Guesses of what comes next, for the step about to be planned. Resolves to the time it took. */
  async #speculate(speculator: Speculator): Promise<number> {
    if (!this.scheduler.decoding) return 0
    const started = this.#now()
    try {
      await this.#watchdog.watch(this.executable.capacity.tokens, speculator.propose(this.scheduler.running, isLoss))
    } catch (thrown) {
      this.fail(asError(thrown))
      if (isHang(thrown)) this.#onHang?.()
    }
    return this.#now() - started
  }

  /** As calls, since control flow analysis does not know that `fail` and `close` may run during an await. */
  #isFailed(): boolean {
    return this.#failure !== null
  }

  #isClosing(): boolean {
    return this.#closing
  }

  async #step(asked: StepPlan, began: number, draftMs: number): Promise<void> {
    const { plan, broken } = await withRules(asked)
    if (this.#failure !== null) return
    if (broken.length > 0) {
      // Planned again without them.
      this.#emit(
        broken.map(({ request, error }) => {
          this.scheduler.remove(request)
          return this.#end(request, { kind: 'failed', error })
        }),
      )
      return
    }
    const input = this.#runner.build(plan)
    const submitted = this.#now()
    let results: StepResult[]
    let stepMs: number
    try {
      const output = await this.#runner.run(plan, input)
      stepMs = this.#now() - submitted
      results = output.nonFinite && plan.entries.length > 1 ? await this.#runner.isolate(plan) : [{ plan, output }]
    } catch (thrown) {
      this.#stepFailed(plan, asError(thrown))
      return
    }
    if (this.#failure !== null) return
    const returned = this.#now()
    const statistics = this.#statistics
    statistics.lastStepMs = stepMs
    statistics.steps++
    this.#budget.observe(plan.tokens, stepMs)
    this.#runner.observe(plan.tokens, stepMs)
    for (const listener of this.stepListeners) listener(plan.tokens, stepMs)
    this.scheduler.complete(plan)
    const generatedBefore = statistics.generatedTokens
    this.#emit(results.flatMap((result) => this.#applier.apply(result, returned)))
    if (this.#speculator !== null && plan.entries.every(({ request, rows }) => request.work.kind === 'generate' && rows > 0)) {
      const speculated = plan.rows > plan.entries.length
      const generated = statistics.generatedTokens - generatedBefore
      this.#speculator.observe(plan.entries.length, generated, returned - submitted + draftMs, speculated)
    }
    statistics.observeHost(this.#now() - returned + (submitted - began) - draftMs)
  }

  /** A request with a constraint that is still being prepared waits, and lets others pass. */
  #awaitMask(request: Request): void {
    const ready = request.rules?.rules.mask?.ready
    if (ready === undefined) return
    request.ready = false
    ready.then(
      () => this.#inbox.settle(request, null),
      (error: unknown) => this.#inbox.settle(request, asError(error)),
    )
  }

  #end(request: Request, end: RequestEnd): RequestOutput {
    this.#requests.delete(request.id)
    this.#inbox.forget(request.id)
    request.dispose()
    if (request.scheduledAt !== null && request.work.kind === 'generate') {
      this.#statistics.observeService(this.#now() - request.scheduledAt)
    }
    this.#statistics.cachedPromptTokens += request.cachedTokens
    return endOutput(request.id, end)
  }

  #stepFailed(plan: StepPlan, error: Error): void {
    if (this.#failure !== null) return
    if (isLoss(error)) {
      this.fail(error)
      if (isHang(error)) this.#onHang?.()
      return
    }
    // What the step wrote is unknown, so nothing of it may be found by others; those who were not part of it go on.
    const outputs = plan.entries.map(({ request }) => {
      this.scheduler.discard(request)
      return this.#end(request, { kind: 'failed', error })
    })
    this.#emit(outputs)
  }

  #drain(): void {
    for (const request of this.#inbox.takeAdded()) this.scheduler.add(request)
    const outputs: RequestOutput[] = []
    for (const [request, error] of this.#inbox.takeSettled()) {
      request.ready = true
      if (error === null || request.status === 'ended') continue
      this.scheduler.remove(request)
      outputs.push(this.#end(request, { kind: 'failed', error }))
    }
    const now = this.#now()
    for (const id of this.#inbox.takeAborted()) {
      const request = this.#requests.get(id)
      if (request === undefined) continue
      this.scheduler.remove(request)
      outputs.push(this.#end(request, finishedEnd(request, 'aborted', now)))
    }
    if (outputs.length > 0) this.#emit(outputs)
  }

  #tokenBudget(): number {
    return Math.min(this.#budget.tokens(this.scheduler.decoding), this.executable.capacity.tokens)
  }
}

function endOutput(id: string, end: RequestEnd): RequestOutput {
  return { id, progress: null, tokens: [], logprobs: [], end }
}
