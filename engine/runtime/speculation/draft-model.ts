/**
 * A smaller model of the same vocabulary proposes, with the very sampler of the request: same options, same seed, same noise for the same place
 * (common random numbers, specs/runtime.md §6.3). Where the two models agree on the distribution they mostly agree on the token, at any
 * temperature. It keeps keys and values of its own; what it computed of guesses that were wrong is overwritten, as in the target.
 */
import { NO_TOKEN } from '../../gpu/check-step.ts'
import type { Executable, RowAdjustment } from '../../gpu/program.ts'
import { BlockPool } from '../block-pool.ts'
import type { Request } from '../request.ts'
import { StepBuilder, type StepEntry, type StepSequence } from '../step-builder.ts'
import type { DraftQuery, Proposer } from './proposer.ts'

export interface DraftModelOptions {
  readonly executable: Executable
  readonly blocks: number
  readonly blockSize: number
  readonly contextLimit: number
  readonly release: () => void
}

/** What the draft model holds for one request. */
interface Held {
  readonly table: number[]
  /** Leading tokens of the request whose keys and values are in its cache. */
  computed: number
  /** As the request's, but without the reports that only its own answer needs. */
  readonly work: Request['work']
}

interface Drafting {
  readonly request: Request
  readonly held: Held
  readonly most: number
  readonly drafts: number[]
}

export class DraftModelProposer implements Proposer {
  readonly kind = 'draft'
  readonly #options: DraftModelOptions
  readonly #pool: BlockPool
  readonly #builder: StepBuilder
  readonly #held = new Map<Request, Held>()

  constructor(options: DraftModelOptions) {
    this.#options = options
    this.#pool = new BlockPool(options.blocks, options.blockSize)
    this.#builder = new StepBuilder(options.executable.capacity, options.blockSize)
  }

  /** Blocks in use, for tests. */
  get usedBlocks(): number {
    return this.#pool.used
  }

  async propose(queries: readonly DraftQuery[], running: ReadonlySet<Request>): Promise<readonly (readonly number[])[]> {
    for (const [request, held] of this.#held) {
      if (running.has(request)) continue
      this.#pool.release(held.table)
      this.#held.delete(request)
    }
    const all = queries.map(({ request, most }) => this.#begin(request, most))
    const accepted = new Map<Drafting, number>()
    try {
      let active = await this.#catchUp(
        all.filter((drafting) => drafting !== null),
        accepted,
      )
      while (active.length > 0) active = await this.#extend(active, accepted)
    } finally {
      for (const [{ request }, count] of accepted) request.rules?.rules.mask?.rollback(count)
    }
    return all.map((drafting) => drafting?.drafts ?? [])
  }

  [Symbol.dispose](): void {
    this.#options.release()
  }

  #begin(request: Request, most: number): Drafting | null {
    const { contextLimit } = this.#options
    // The last guess is not fed.
    const tokens = request.tokenCount + most - 1
    if (tokens > contextLimit) return null
    const { work } = request
    const held = this.#held.get(request) ?? { table: [], computed: 0, work: work.kind === 'generate' ? { ...work, topCount: 0 } : work }
    const missing = this.#pool.blocksFor(tokens) - held.table.length
    if (missing > 0 && !this.#pool.allocate(missing, held.table)) return null
    this.#held.set(request, held)
    // Up to here its guesses were the request's tokens; the token after them was the target's own.
    held.computed = Math.min(held.computed, request.tokenCount - 1)
    return { request, held, most, drafts: [] }
  }

  /** Feeds what is known, as much as one step takes, so that no answer waits long for a draft of another's prompt. Those that are up to date guess. */
  async #catchUp(all: readonly Drafting[], accepted: Map<Drafting, number>): Promise<Drafting[]> {
    const { capacity } = this.#options.executable
    let left = capacity.tokens
    const entries: StepEntry[] = []
    const fed: Drafting[] = []
    // Those with the least to read first: they can guess at once.
    for (const drafting of all.toSorted((a, b) => remaining(a) - remaining(b))) {
      const count = Math.min(remaining(drafting), left)
      if (count === 0 || entries.length === capacity.sequences) break
      left -= count
      entries.push(await this.#entry(drafting, drafting.held.computed, count, count === remaining(drafting)))
      fed.push(drafting)
    }
    return this.#step(entries, fed, accepted)
  }

  /** One more guess of each. */
  async #extend(active: readonly Drafting[], accepted: Map<Drafting, number>): Promise<Drafting[]> {
    const entries: StepEntry[] = []
    for (const drafting of active) {
      drafting.request.setDrafts(drafting.drafts)
      entries.push(await this.#entry(drafting, drafting.held.computed, 1, true))
    }
    return this.#step(entries, active, accepted)
  }

  async #entry({ request, held, drafts }: Drafting, start: number, count: number, samples: boolean): Promise<StepEntry> {
    const { id, tokens, promptCount, rules } = request
    const sequence: StepSequence = { id, tokens, promptCount, table: held.table, work: held.work }
    let adjustment: RowAdjustment | undefined
    if (samples && rules !== null) adjustment = rules.adjust(request, drafts, (await rules.rules.mask?.mask()) ?? null)
    return { request: sequence, start, count, rows: samples ? 1 : 0, adjustments: [adjustment] }
  }

  /** Runs the step and appends the guesses; who can go on guessing. */
  async #step(entries: readonly StepEntry[], fed: readonly Drafting[], accepted: Map<Drafting, number>): Promise<Drafting[]> {
    if (entries.length === 0) return []
    const sum = (of: (entry: StepEntry) => number): number => entries.reduce((total, entry) => total + of(entry), 0)
    const plan = { entries, tokens: sum(({ count }) => count), rows: sum(({ rows }) => rows) }
    const output = await this.#options.executable.step(this.#builder.build(plan))
    const goOn: Drafting[] = []
    let row = 0
    for (const [i, drafting] of fed.entries()) {
      const { count = 0, rows = 0 } = entries[i] ?? {}
      drafting.held.computed += count
      if (rows === 0) continue
      const token = output.sampled[row++]
      // A row that is not finite, or of which nothing is left, has nothing to say.
      if (token === undefined || token === NO_TOKEN || output.nonFinite) continue
      const mask = drafting.request.rules?.rules.mask ?? null
      if (mask !== null) {
        if (!mask.accept(token)) continue
        accepted.set(drafting, (accepted.get(drafting) ?? 0) + 1)
      }
      drafting.drafts.push(token)
      if (drafting.drafts.length < drafting.most) goOn.push(drafting)
    }
    return goOn
  }
}

function remaining({ request, held }: Drafting): number {
  return request.tokenCount - held.computed
}
