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
import { NO_TOKEN } from '../gpu/check-step.ts'
import type { Executable, StepOutput } from '../gpu/program.ts'
import type { BlockPool } from './block-pool.ts'
import type { PrefixHasher } from './prefix-hash.ts'
import { finishReason } from './request.ts'
import type { Request } from './request.ts'
import { Scheduler } from './scheduler.ts'
import type { PlannedRequest, StepPlan } from './scheduler.ts'
import { StepBuilder } from './step-builder.ts'
import type { StepBudget } from './step-budget.ts'
import type { FinishReason, GenerationStats, RuntimeTelemetry, ScoreResult } from './types.ts'

export type RequestEnd =
  | { readonly kind: 'finished'; readonly reason: FinishReason; readonly stopTokenId: number | null; readonly stats: GenerationStats }
  | { readonly kind: 'scored'; readonly result: ScoreResult }
  | { readonly kind: 'failed'; readonly error: Error }

/** What a step, or an abort, meant for one request. An output with an `end` is its last. */
export interface RequestOutput {
  readonly id: string
  readonly progress: { readonly done: number; readonly total: number } | null
  readonly tokens: readonly number[]
  readonly logprobs: readonly number[]
  readonly end: RequestEnd | null
}

export interface CoreOptions {
  readonly executable: Executable
  readonly pool: BlockPool
  /** null = no prefix cache. */
  readonly hasher: PrefixHasher | null
  readonly budget: StepBudget
  readonly contextLimit: number
  /** Names the model in error messages. */
  readonly modelId: string
  /** Called synchronously after each step, before the next is planned. Must not throw. */
  readonly emit: (outputs: readonly RequestOutput[]) => void
  readonly now?: () => number
}

/** Requests waiting for admission. In-process callers may queue a whole evaluation; a server puts its own, smaller bound in front. */
const MOST_QUEUED = 16_384
/** Weight of the newest step in the smoothed host time. */
const SMOOTHING = 0.1

/** Orders cores, so that holding several at once cannot deadlock (pair.ts). */
let nextSerial = 0

export class Core {
  readonly serial = nextSerial++
  readonly executable: Executable
  readonly pool: BlockPool
  /** For inspection; only the loop may change it. */
  readonly scheduler: Scheduler
  readonly #builder: StepBuilder
  readonly #budget: StepBudget
  readonly #contextLimit: number
  readonly #modelId: string
  readonly #emit: CoreOptions['emit']
  readonly #now: () => number

  readonly #requests = new Map<string, Request>()
  #added: Request[] = []
  readonly #aborted = new Set<string>()
  #sections: Section[] = []
  #wake: (() => void) | null = null
  #closing = false
  #failure: Error | null = null
  readonly #stopped: Promise<void>

  #steps = 0
  #promptTokens = 0
  #cachedPromptTokens = 0
  #generatedTokens = 0
  #lastStepMs: number | null = null
  #hostMsPerStep: number | null = null

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
    this.#now = options.now ?? (() => performance.now())
    this.scheduler = new Scheduler({
      pool,
      hasher: options.hasher,
      maxSequences: executable.capacity.sequences,
      maxRows: executable.capacity.rows,
      now: this.#now,
    })
    this.#builder = new StepBuilder(executable.capacity, pool.blockSize)
    this.#budget = options.budget
    this.#contextLimit = contextLimit
    this.#modelId = options.modelId
    this.#emit = options.emit
    this.#stopped = this.#run().catch((error: unknown) => this.fail(asError(error)))
  }

  /** Why no more can be served, or null. */
  get failure(): Error | null {
    return this.#failure
  }

  /** Requests that want something still; those aborted only wait for the loop to let go of them. */
  get active(): number {
    return this.#requests.size - this.#aborted.size
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
    const queued = this.scheduler.waiting.length + this.#added.length
    if (queued >= MOST_QUEUED) {
      throw new LatheError('runtime.queue-full', `${queued} requests are waiting already.`, 'Wait for some to finish, then try again.', {
        data: { queued },
      })
    }
    this.#requests.set(request.id, request)
    this.#added.push(request)
    this.#stir()
  }

  /** Ends the request at the top of the loop, with an output whose end is `finished: aborted`. Unknown and ended ids are ignored. */
  abort(id: string): void {
    if (!this.#requests.has(id)) return
    this.#aborted.add(id)
    this.#stir()
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
    this.#sections.push({ run, reject })
    this.#stir()
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
      if (request.status !== 'ended') this.scheduler.remove(request)
      outputs.push(endOutput(request.id, { kind: 'failed', error }))
    }
    this.#requests.clear()
    this.#aborted.clear()
    this.#added = []
    for (const section of this.#sections) section.reject(error)
    this.#sections = []
    this.#emit(outputs)
    this.#stir()
  }

  /** Aborts everything and resolves when no step is in flight. A core that failed may never see its last step return, and is not waited for. */
  async close(): Promise<void> {
    this.#closing = true
    for (const id of this.#requests.keys()) this.#aborted.add(id)
    this.#stir()
    if (this.#failure === null) await this.#stopped
  }

  telemetry(): RuntimeTelemetry {
    return {
      running: this.scheduler.running.length,
      waiting: this.scheduler.waiting.length + this.#added.length,
      kvBlocksUsed: this.pool.used,
      kvBlocksTotal: this.pool.blocks - 1,
      tokenBudget: this.#tokenBudget(),
      lastStepMs: this.#lastStepMs,
      steps: this.#steps,
      preemptions: this.scheduler.preemptions,
      promptTokens: this.#promptTokens,
      cachedPromptTokens: this.#cachedPromptTokens,
      generatedTokens: this.#generatedTokens,
      hostMsPerStep: this.#hostMsPerStep,
    }
  }

  async #run(): Promise<void> {
    while (this.#failure === null) {
      const began = this.#now()
      this.#drain()
      const section = this.#sections.shift()
      if (this.#closing) {
        section?.reject(closedError())
        for (const other of this.#sections.splice(0)) other.reject(closedError())
        return
      }
      if (section !== undefined) await section.run()
      if (this.#failure !== null) return
      const planned = this.scheduler.schedule(this.#tokenBudget())
      if (planned !== null) await this.#step(planned, section === undefined ? began : this.#now())
      else if (section === undefined && this.#added.length === 0 && this.#aborted.size === 0 && this.#sections.length === 0)
        await this.#sleep()
      // Lets timers, sockets and aborts in even where steps resolve without leaving the microtask queue.
      await nextTurn()
    }
  }

  async #step(plan: StepPlan, began: number): Promise<void> {
    const input = this.#builder.build(plan)
    const submitted = this.#now()
    let results: StepResult[]
    try {
      const output = await this.executable.step(input)
      this.#lastStepMs = this.#now() - submitted
      results = output.nonFinite && plan.entries.length > 1 ? await this.#isolate(plan) : [{ plan, output }]
    } catch (thrown) {
      this.#stepFailed(plan, asError(thrown))
      return
    }
    if (this.#failure !== null) return
    const returned = this.#now()
    this.#budget.observe(plan.tokens, this.#lastStepMs)
    this.#steps++
    this.scheduler.complete(plan)
    this.#emit(results.flatMap((result) => this.#apply(result, returned)))
    const hostMs = this.#now() - returned + (submitted - began)
    this.#hostMsPerStep = this.#hostMsPerStep === null ? hostMs : this.#hostMsPerStep + SMOOTHING * (hostMs - this.#hostMsPerStep)
  }

  /**
   * A step says only that some row was not finite. Repeating it request by request writes the same bytes to the same slots and tells whose
   * row it was, so that the others go on.
   */
  async #isolate(plan: StepPlan): Promise<StepResult[]> {
    const results: StepResult[] = []
    for (const entry of plan.entries) {
      const alone = { entries: [entry], tokens: entry.count, rows: entry.rows }
      results.push({ plan: alone, output: await this.executable.step(this.#builder.build(alone)) })
    }
    return results
  }

  #apply({ plan, output }: StepResult, now: number): RequestOutput[] {
    const outputs: RequestOutput[] = []
    let row = 0
    for (const entry of plan.entries) {
      if (output.nonFinite) {
        this.scheduler.discard(entry.request)
        outputs.push(this.#end(entry.request, { kind: 'failed', error: nonFiniteError(entry, this.#modelId) }))
      } else {
        const applied = this.#applyEntry(entry, output, row, now)
        if (applied !== null) outputs.push(applied)
      }
      row += entry.rows
    }
    return outputs
  }

  #applyEntry({ request, count, rows }: PlannedRequest, output: StepOutput, row: number, now: number): RequestOutput | null {
    const { work, id } = request
    const computedBefore = request.computed - count
    this.#promptTokens += Math.max(0, Math.min(request.computed, request.promptCount) - Math.min(computedBefore, request.promptCount))
    if (work.kind === 'score') {
      if (rows === 0) return null
      request.record({ ...output, topCount: topCountOf(output) }, row, rows)
      const total = request.tokenCount - work.from
      const progress = { done: request.scored - work.from, total }
      if (request.scored < request.tokenCount) return { id, progress, tokens: [], logprobs: [], end: null }
      this.scheduler.remove(request)
      return { ...this.#end(request, { kind: 'scored', result: request.result }), progress }
    }
    if (work.kind === 'reserved') throw new Error(`Request ${id} holds blocks only and cannot be part of a step`)
    const progress = request.decoding ? null : { done: request.computed, total: request.tokenCount }
    if (rows === 0) return { id, progress, tokens: [], logprobs: [], end: null }

    const token = output.sampled[row]
    const logprob = output.sampledLogprob[row]
    if (token === undefined || token === NO_TOKEN || logprob === undefined) throw new Error(`The step returned no token for request ${id}`)
    request.decoding = true
    request.append(token)
    request.firstTokenAt ??= now
    request.lastTokenAt = now
    this.#generatedTokens++
    const reason = finishReason(request, work, this.#contextLimit)
    const tokens = [token]
    const logprobs = [logprob]
    if (reason === null) return { id, progress, tokens, logprobs, end: null }
    this.scheduler.remove(request)
    return { ...this.#end(request, this.#finished(request, reason, now)), progress, tokens, logprobs }
  }

  #finished(request: Request, reason: FinishReason, now: number): RequestEnd {
    const stopTokenId = reason === 'stop' ? (request.tokens[request.tokenCount - 1] ?? null) : null
    return { kind: 'finished', reason, stopTokenId, stats: request.stats(now) }
  }

  #end(request: Request, end: RequestEnd): RequestOutput {
    this.#requests.delete(request.id)
    this.#aborted.delete(request.id)
    this.#cachedPromptTokens += request.cachedTokens
    return endOutput(request.id, end)
  }

  #stepFailed(plan: StepPlan, error: Error): void {
    if (this.#failure !== null) return
    if (error instanceof LatheError && error.code === 'gpu.device-lost') {
      this.fail(error)
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
    const added = this.#added
    this.#added = []
    for (const request of added) this.scheduler.add(request)
    if (this.#aborted.size === 0) return
    const now = this.#now()
    const outputs: RequestOutput[] = []
    for (const id of this.#aborted) {
      const request = this.#requests.get(id)
      if (request === undefined) continue
      this.scheduler.remove(request)
      outputs.push(this.#end(request, this.#finished(request, 'aborted', now)))
    }
    this.#aborted.clear()
    this.#emit(outputs)
  }

  #tokenBudget(): number {
    return Math.min(this.#budget.tokens(this.scheduler.decoding), this.executable.capacity.tokens)
  }

  #sleep(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    return promise
  }

  #stir(): void {
    this.#wake?.()
    this.#wake = null
  }
}

interface StepResult {
  readonly plan: StepPlan
  readonly output: StepOutput
}

interface Section {
  readonly run: () => Promise<void>
  readonly reject: (error: Error) => void
}

function endOutput(id: string, end: RequestEnd): RequestOutput {
  return { id, progress: null, tokens: [], logprobs: [], end }
}

function nonFiniteError({ start, count }: PlannedRequest, modelId: string): LatheError {
  return new LatheError(
    'runtime.non-finite',
    `The output of ${modelId} is not a number (NaN or infinity) after token ${start + count} of the sequence.`,
    `The weights of ${modelId} are damaged or overflow in this scheme. Try the original model; if that works, compress again with a finer scheme.`,
    { data: { modelId, position: start + count } },
  )
}

function topCountOf(output: StepOutput): number {
  return output.sampled.length === 0 ? 0 : output.topIds.length / output.sampled.length
}

function closedError(): LatheError {
  return new LatheError('runtime.aborted', 'The model was unloaded.', 'Load it again and repeat the request.')
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}
