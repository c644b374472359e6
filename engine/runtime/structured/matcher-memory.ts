/** The memory that a grammar thread and the loop share per answer: a header of 32-bit words, then one bit per token of the vocabulary. */

export const MATCHER_HEADER = {
  /** Number of the last `advance` whose result lies here; what the loop waits on. */
  sequence: 0,
  /** A MatcherStatus. */
  status: 1,
  words: 2,
} as const

export const MatcherStatus = {
  /** The mask holds the tokens that may come next. */
  masked: 0,
  /** The grammar has ended: anything may come. */
  ended: 1,
  /** A token was given that the grammar does not allow; the matcher is of no further use. */
  refused: 2,
} as const

export function matcherBytes(vocabulary: number): number {
  return 4 * (MATCHER_HEADER.words + Math.ceil(vocabulary / 32))
}
