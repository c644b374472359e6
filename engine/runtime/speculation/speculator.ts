/**
 * Asks a proposer for guesses before a step and books what became of them after it. Decides for whom and how many: as many as were right last
 * time and one more, none for a while where they keep being wrong, none at all while they do not pay (governor.ts).
 */
import type { Request } from '../request.ts'
import { acceptableDrafts } from '../token-rules.ts'
import type { SpeculationTelemetry } from '../types.ts'
import { SpeculationGovernor } from './governor.ts'
import type { DraftQuery, Proposer } from './proposer.ts'

/** Proposals in a row without a right guess after which a request is left alone… */
const MOST_MISSES = 3
/** …for this many tokens, doubled with every further one up to a limit. */
const FIRST_PAUSE_TOKENS = 8
const LONGEST_PAUSE_TOKENS = 128

export interface SpeculatorOptions {
  readonly proposer: Proposer
  /** Most guesses per request and step. */
  readonly tokens: number
  readonly contextLimit: number
  /** Tests turn it off, to speculate at every step. */
  readonly governed?: boolean
  /** A proposer that failed is not asked again; its error ends here. */
  readonly onFailure?: (error: unknown) => void
}

export class Speculator implements Disposable {
  readonly #options: SpeculatorOptions
  readonly #governor = new SpeculationGovernor()
  readonly #acceptedPerPosition: number[]
  #drafts = 0
  #draftTokens = 0
  #acceptedTokens = 0
  #failed = false

  constructor(options: SpeculatorOptions) {
    this.#options = options
    this.#acceptedPerPosition = Array.from({ length: options.tokens }, () => 0)
  }

  /** Sets the drafts of the requests about to sample. Throws only what tells that the device is gone. */
  async propose(running: readonly Request[], isLoss: (error: unknown) => boolean): Promise<void> {
    const { proposer, tokens, contextLimit, governed = true } = this.#options
    for (const request of running) request.draftCount = 0
    const decoding = running.filter((request) => request.decoding && request.computed === request.tokenCount - 1)
    if (this.#failed || decoding.length === 0 || (governed && !this.#governor.speculates(decoding.length))) return
    const queries = decoding.flatMap((request): DraftQuery[] => {
      const most = Math.min(governed ? request.draftLength : tokens, tokens, usable(request, contextLimit))
      return most < 1 || (governed && request.tokenCount < request.draftFrom) ? [] : [{ request, most }]
    })
    if (queries.length === 0) return
    let proposals: readonly (readonly number[])[]
    try {
      proposals = await proposer.propose(queries, new Set(running))
    } catch (error) {
      if (isLoss(error)) throw error
      this.#failed = true
      for (const request of running) request.draftCount = 0
      this.#options.onFailure?.(error)
      return
    }
    for (const [i, { request, most }] of queries.entries()) {
      const drafts = (proposals[i] ?? []).slice(0, most)
      request.setDrafts(drafts.slice(0, acceptable(request, drafts)))
    }
  }

  /** Of `proposed` guesses that a step verified, the first `accepted` were right. */
  verified(request: Request, proposed: number, accepted: number): void {
    this.#drafts++
    this.#draftTokens += proposed
    this.#acceptedTokens += accepted
    for (let i = 0; i < accepted; i++) this.#acceptedPerPosition[i] = (this.#acceptedPerPosition[i] ?? 0) + 1
    request.drafted += proposed
    request.accepted += accepted
    request.draftLength = accepted === proposed ? Math.min(2 * proposed, this.#options.tokens) : accepted + 1
    request.draftMisses = accepted > 0 ? 0 : request.draftMisses + 1
    if (request.draftMisses < MOST_MISSES) return
    const pause = Math.min(FIRST_PAUSE_TOKENS * 2 ** (request.draftMisses - MOST_MISSES), LONGEST_PAUSE_TOKENS)
    request.draftFrom = request.tokenCount + pause
  }

  /** A step in which every sequence decoded. */
  observe(sequences: number, tokens: number, milliseconds: number, speculated: boolean): void {
    this.#governor.observe(sequences, tokens, milliseconds, speculated)
  }

  telemetry(): SpeculationTelemetry {
    return {
      proposer: this.#options.proposer.kind,
      drafts: this.#drafts,
      draftTokens: this.#draftTokens,
      acceptedTokens: this.#acceptedTokens,
      acceptedPerPosition: [...this.#acceptedPerPosition],
      active: !this.#failed && this.#governor.active,
    }
  }

  [Symbol.dispose](): void {
    this.#options.proposer[Symbol.dispose]()
  }
}

/** How many of the drafts the request's output constraint allows. One that fails at this fails its request when its masks are made. */
function acceptable({ rules }: Request, drafts: readonly number[]): number {
  const mask = rules?.rules.mask ?? null
  if (mask === null) return drafts.length
  try {
    return acceptableDrafts(mask, drafts)
  } catch {
    return 0
  }
}

/** Guesses that could still become part of the answer, beside the token that every step brings. */
function usable({ work, completionTokens, tokenCount }: Request, contextLimit: number): number {
  if (work.kind !== 'generate') return 0
  const wanted = work.maxTokens === null ? Infinity : work.maxTokens - completionTokens - 1
  return Math.min(wanted, contextLimit - tokenCount - 1)
}
