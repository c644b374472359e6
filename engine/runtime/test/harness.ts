/** A Core over the fake model, whose outputs are collected per request, and the invariants of specs/runtime.md §9.3 as one function. */
import { BlockPool } from '../block-pool.ts'
import { Core } from '../core.ts'
import type { RequestEnd, RequestOutput } from '../core-messages.ts'
import { PrefixHasher } from '../prefix-hash.ts'
import { Request } from '../request.ts'
import type { GenerateWork, ScoreWork } from '../request.ts'
import { resolveSampling } from '../sampling.ts'
import type { Speculator } from '../speculation/speculator.ts'
import { FixedStepBudget } from '../step-budget.ts'
import type { StepWatchdog } from '../watchdog.ts'
import type { TokenLogprob } from '../types.ts'
import { FakeExecutable } from './fake-executable.ts'
import type { FakeOptions } from './fake-executable.ts'

export const VOCABULARY = 997

export interface HarnessOptions {
  readonly blocks: number
  readonly blockSize: number
  readonly contextLimit: number
  readonly tokenBudget: number
  readonly maxSequences?: number
  readonly maxRows?: number
  readonly prefixCache?: boolean
  readonly blockOrder?: readonly number[]
  readonly onStep?: FakeOptions['onStep']
  readonly spoil?: FakeOptions['spoil']
  readonly checkInvariants?: boolean
  readonly speculator?: Speculator
  readonly watchdog?: StepWatchdog
  readonly onHang?: () => void
  readonly maxQueued?: number
}

export interface Outcome {
  tokens: number[]
  logprobs: number[]
  top: TokenLogprob[][]
  progress: { done: number; total: number }[]
  end: RequestEnd
  /** Steps done when the end was emitted. */
  stepsAtEnd: number
}

export class Harness {
  readonly core: Core
  readonly executable: FakeExecutable
  readonly pool: BlockPool
  readonly options: HarnessOptions
  readonly outputs: RequestOutput[] = []
  /** Ids in the order in which they first ran. */
  readonly firstRun: string[] = []
  readonly #collected = new Map<string, Omit<Outcome, 'end' | 'stepsAtEnd'> & { settle: (end: RequestEnd) => void }>()
  readonly #contents = new Map<string, string>()

  constructor(options: HarnessOptions) {
    this.options = options
    const { blocks, blockSize, contextLimit, tokenBudget, maxSequences = 4, maxRows = Math.max(8, maxSequences) } = options
    this.executable = new FakeExecutable({
      capacity: { tokens: 4096, rows: maxRows, sequences: maxSequences, blocksPerSequence: Math.ceil(contextLimit / blockSize) },
      blocks,
      blockSize,
      vocabulary: VOCABULARY,
      onStep: (input, step) => {
        if (options.checkInvariants === true) this.checkInvariants(input.tokenIds.length)
        return options.onStep?.(input, step)
      },
      ...(options.spoil === undefined ? {} : { spoil: options.spoil }),
    })
    this.pool = new BlockPool(blocks, blockSize, options.blockOrder)
    this.core = new Core({
      executable: this.executable,
      pool: this.pool,
      hasher: options.prefixCache === true ? new PrefixHasher(blockSize) : null,
      budget: new FixedStepBudget(tokenBudget),
      contextLimit,
      modelId: 'fake',
      emit: (outputs) => this.#collect(outputs),
      ...(options.speculator === undefined ? {} : { speculator: options.speculator }),
      ...(options.watchdog === undefined ? {} : { watchdog: options.watchdog }),
      ...(options.onHang === undefined ? {} : { onHang: options.onHang }),
      maxQueued: options.maxQueued,
    })
  }

  generate(
    id: string,
    prompt: readonly number[],
    options: Partial<Omit<GenerateWork, 'kind' | 'sampling'>> & { seed?: number | undefined; salt?: string } = {},
  ): Promise<Outcome> {
    const temperature = options.seed === undefined ? 0 : 1
    const sampling = resolveSampling({ temperature, topK: 0, topP: 1, minP: 0, seed: options.seed ?? 0 })
    const work: GenerateWork = {
      kind: 'generate',
      sampling,
      maxTokens: options.maxTokens ?? null,
      stopTokenIds: options.stopTokenIds ?? new Set(),
      rules: options.rules ?? null,
      topCount: options.topCount ?? 0,
      priority: options.priority ?? 0,
      group: options.group,
    }
    return this.#add(new Request(id, Uint32Array.from(prompt), work, performance.now(), options.salt))
  }

  score(id: string, tokens: readonly number[], from: number, topCount = 0): Promise<Outcome> {
    const work: ScoreWork = { kind: 'score', from, topCount }
    return this.#add(new Request(id, Uint32Array.from(tokens), work, performance.now()))
  }

  reserve(id: string, tokens: number): Promise<readonly number[]> {
    return new Promise((resolve, reject) => {
      this.#add(new Request(id, new Uint32Array(tokens), { kind: 'reserved', granted: resolve }, performance.now())).catch(reject)
    })
  }

  /** I1–I4 of §9.3, and content of every findable block. Called inside a step, when the plan is made and nothing is applied. */
  checkInvariants(planned: number): void {
    const { pool, core, executable, options } = this
    const { running, waiting, reserved } = core.scheduler
    check(planned <= options.tokenBudget, `I1: ${planned} tokens planned with a budget of ${options.tokenBudget}`)
    check(running.length <= executable.capacity.sequences, `${running.length} sequences run`)

    const state = pool.inspect()
    const holders = Array.from({ length: pool.blocks }, () => 0)
    for (const request of [...running, ...reserved]) {
      check(new Set(request.table).size === request.table.length, `I2: ${request.id} holds a block twice`)
      for (const block of request.table) holders[block] = holders[block]! + 1
      const end = request.work.kind === 'reserved' ? 0 : request.computed
      check(end <= request.table.length * pool.blockSize, `I4: ${request.id} computed ${end} tokens in ${request.table.length} blocks`)
    }
    for (const request of waiting) check(request.table.length === 0, `I2: ${request.id} waits and holds blocks`)
    check(holders[0] === 0 && !state.free.includes(0), 'I2: the null block is in use or free')
    check(new Set(state.free).size === state.free.length && state.free.length === pool.free, 'I2: free list')
    for (let block = 1; block < pool.blocks; block++) {
      check(
        state.references[block] === holders[block],
        `I2: block ${block} has ${state.references[block]} references, ${holders[block]} tables`,
      )
      check((holders[block] === 0) === state.free.includes(block), `I2: block ${block} free and held`)
    }
    check(pool.free + pool.used === pool.blocks - 1, 'I2: blocks are not conserved')

    for (const [hash, block] of state.cached) {
      check(state.hashes[block] === hash, `I3: block ${block} is in the map without its hash`)
      const content = executable.content(block).join(' ')
      check((this.#contents.get(hash) ?? content) === content, `I3: the content of block ${block} changed under its hash`)
      this.#contents.set(hash, content)
    }
    check(state.hashes.filter((hash) => hash !== null).length === state.cached.size, 'I3: a block has a hash that the map has not')
    for (const request of running) {
      for (let i = 0; i < request.published; i++) {
        const expected = request.tokens.subarray(i * pool.blockSize, (i + 1) * pool.blockSize).join(' ')
        check(
          executable.content(request.table[i]!).join(' ') === expected,
          `I3: block ${i} of ${request.id} is published with other content`,
        )
      }
    }
    for (const { id } of running) if (!this.firstRun.includes(id)) this.firstRun.push(id)
  }

  /** I6: nothing is held once everything has ended. */
  checkIdle(): void {
    const { running, waiting, reserved } = this.core.scheduler
    check(running.length + waiting.length + reserved.size === 0 && this.core.active === 0, 'I6: requests are left over')
    check(this.pool.used === 0 && this.pool.free === this.pool.blocks - 1, `I6: ${this.pool.used} blocks are still held`)
  }

  #add(request: Request): Promise<Outcome> {
    const { promise, resolve } = Promise.withResolvers<Outcome>()
    const record = {
      tokens: [],
      logprobs: [],
      top: [],
      progress: [],
      settle: (end: RequestEnd) => resolve({ ...record, end, stepsAtEnd: this.executable.steps }),
    }
    this.#collected.set(request.id, record)
    this.core.add(request)
    return promise
  }

  #collect(outputs: readonly RequestOutput[]): void {
    this.outputs.push(...outputs)
    for (const output of outputs) {
      const record = this.#collected.get(output.id)
      if (record === undefined) throw new Error(`Output for ${output.id}, which has ended or never was`)
      record.tokens.push(...output.tokens)
      record.logprobs.push(...output.logprobs)
      record.top.push(...(output.top ?? []).map((list) => [...list]))
      if (output.progress !== null) record.progress.push(output.progress)
      if (output.end === null) continue
      this.#collected.delete(output.id)
      record.settle(output.end)
    }
  }
}

/** A gate that a test opens: `wait` resolves when `open` has been called. */
export function createGate(): { readonly reached: Promise<void>; readonly wait: () => Promise<void>; readonly open: () => void } {
  const reached = Promise.withResolvers<void>()
  const opened = Promise.withResolvers<void>()
  return {
    reached: reached.promise,
    wait: () => {
      reached.resolve()
      return opened.promise
    },
    open: () => opened.resolve(),
  }
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new Error(what)
}
