/**
 * What a preset that promises an outcome measured before it kept a result: every candidate on text that none of them was fitted to, which of
 * them was kept, and what was promised. run.json carries the same facts in snake_case.
 */
import { z } from 'zod'

/** `best-of`: several recipes run, the best is kept. `holds`: a map of schemes is searched that stays within a loss, and then checked. */
export const OUTCOME_KINDS = ['best-of', 'holds'] as const

export const OutcomeCandidateSchema = z.object({
  id: z.string(),
  /** "GPTQ", "AWQ", "Map 2". */
  title: z.string(),
  /** KL divergence of the output from the original's on the held-out text, nats per token. */
  kldMean: z.number(),
  kldStandardError: z.number().nullable(),
  /** Share of tokens whose most probable successor is the original's. */
  top1Agreement: z.number().nullable(),
  bytes: z.number(),
  /** What the search predicted for it; null where nothing was predicted. */
  predictedLoss: z.number().nullable(),
  chosen: z.boolean(),
})

export const OutcomeSchema = z.object({
  kind: z.enum(OUTCOME_KINDS),
  heldOut: z.object({ source: z.string(), samples: z.number().int(), tokens: z.number().int(), sha256: z.string() }),
  candidates: z.array(OutcomeCandidateSchema),
  /** Most divergence that was promised, nats per token; null where only the better one counts. */
  bound: z.number().nullable(),
  /** Whether what was kept stays within `bound`; null without one. */
  held: z.boolean().nullable(),
})

export type OutcomeCandidate = z.infer<typeof OutcomeCandidateSchema>
export type Outcome = z.infer<typeof OutcomeSchema>

/**
 * Share of the original's next-token probability that is kept: e^−KLD, the geometric mean over tokens that the original itself would draw of
 * the variant's probability over the original's. "Holds 99 %" is a divergence of at most −ln 0.99 = 0.01005 nats.
 */
export function shareHeld(kldMean: number): number {
  return Math.exp(-kldMean)
}

export function boundOfShare(share: number): number {
  return -Math.log(share)
}
