/** Proposers that are as right or wrong as a test wants. */
import type { Request } from '../request.ts'
import type { DraftQuery, Proposer } from '../speculation/proposer.ts'

/** Guesses by a function of the request and the position within the guess. */
export function proposerOf(guess: (request: Request, place: number) => number | undefined): Proposer {
  return {
    kind: 'draft',
    propose: async (queries: readonly DraftQuery[]) =>
      queries.map(({ request, most }) => {
        const drafts: number[] = []
        for (let place = 0; place < most; place++) {
          const token = guess(request, place)
          if (token === undefined) break
          drafts.push(token)
        }
        return drafts
      }),
    [Symbol.dispose]: () => undefined,
  }
}
