/** What guesses the next tokens of running requests. Guesses cost time when wrong and nothing else: every one is verified (specs/runtime.md §6). */
import type { Request } from '../request.ts'

/** A request that is about to sample, and how many tokens it could use. */
export interface DraftQuery {
  readonly request: Request
  readonly most: number
}

export interface Proposer extends Disposable {
  readonly kind: 'ngram' | 'draft'
  /**
   * Guesses per query, in its order; fewer than `most`, or none, where there is nothing to go by. `running` are all requests that hold blocks:
   * whatever is kept for others may be dropped.
   */
  propose(queries: readonly DraftQuery[], running: ReadonlySet<Request>): Promise<readonly (readonly number[])[]>
}
