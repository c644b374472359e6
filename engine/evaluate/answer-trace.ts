/**
 * How a greedy answer came about, token by token: what was chosen, and by how much it was ahead of the next. Kept with answers so that the place where
 * two models part can be told from a near-tie (specs/evaluation.md §6.2). Tokens are kept as what they stand for, not as ids, which say nothing across
 * servers. Pure; knows nothing of tasks.
 */

export interface AnswerTrace {
  /** What each generated token stands for, the stopping one included where the target tells it. */
  readonly pieces: readonly string[]
  /** log p of the most probable token less that of the second, nats; null where the target does not tell both. */
  readonly margins: readonly (number | null)[]
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
/** A ten-thousandth of a nat is far below what two kernels agree to, and a third of the digits. */
const MARGIN_STEPS = 1e4

/** The text of a token; what is a part of a character only, as bytes, so that two of them are not taken for the same. */
export function pieceOf(bytes: Uint8Array): string {
  try {
    return strict.decode(bytes)
  } catch {
    // No text by itself: written so that no text is mistaken for it.
    return `\u0000${Buffer.from(bytes).toString('hex')}`
  }
}

/** Of log-probabilities in any order; null for fewer than two. */
export function marginOf(logprobs: readonly number[]): number | null {
  const [first, second] = logprobs.toSorted((a, b) => b - a)
  if (first === undefined || second === undefined) return null
  const margin = first - second
  return Number.isFinite(margin) ? Math.round(margin * MARGIN_STEPS) / MARGIN_STEPS : null
}

export interface Divergence {
  /** Tokens that both answers begin with. */
  readonly place: number
  /** The baseline's, where it chose another token than the candidate; null where it is not known. */
  readonly margin: number | null
}

/**
 * Where a candidate left the baseline; null where it did not, or where it can't be told: "walk" beside "walks" are two choices of one tokenizer, and
 * may be the same text in the tokens of another. `sameTokenizer` says which; where it is not known, say false.
 */
export function divergenceOf(baseline: AnswerTrace, candidate: AnswerTrace, sameTokenizer: boolean): Divergence | null {
  const shorter = Math.min(baseline.pieces.length, candidate.pieces.length)
  for (let place = 0; place < shorter; place++) {
    const [own, other] = [baseline.pieces[place] ?? '', candidate.pieces[place] ?? '']
    if (own === other) continue
    if (!sameTokenizer && (own.startsWith(other) || other.startsWith(own))) return null
    return { place, margin: baseline.margins[place] ?? null }
  }
  // One of them ended, by a token that its server does not show.
  return baseline.pieces.length === candidate.pieces.length ? null : { place: shorter, margin: baseline.margins[shorter] ?? null }
}
