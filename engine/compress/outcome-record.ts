/**
 * The `outcome` of run.json: what a preset measured before it kept its result, in the snake_case of that file, both ways. Reading trusts
 * nothing: what does not fit is no outcome.
 */
import { z } from 'zod'
import { OUTCOME_KINDS } from '../contract/index.ts'
import type { Outcome } from '../contract/index.ts'

const RecordSchema = z.object({
  kind: z.enum(OUTCOME_KINDS),
  measure: z.literal('kld_mean'),
  held_out: z.object({ source: z.string(), samples: z.number().int(), tokens: z.number().int(), sha256: z.string() }),
  candidates: z.array(
    z.object({
      id: z.string(),
      title: z.string(),
      kld_mean: z.number(),
      kld_standard_error: z.number().nullable(),
      top1_agreement: z.number().nullable(),
      bytes_out: z.number(),
      predicted_loss: z.number().nullable(),
      chosen: z.boolean(),
    }),
  ),
  bound: z.number().nullable(),
  held: z.boolean().nullable(),
})
export type OutcomeRecord = z.infer<typeof RecordSchema>

export function outcomeToRecord(outcome: Outcome): OutcomeRecord {
  const { kind, heldOut, bound, held } = outcome
  return {
    kind,
    measure: 'kld_mean',
    held_out: heldOut,
    candidates: outcome.candidates.map((candidate) => ({
      id: candidate.id,
      title: candidate.title,
      kld_mean: candidate.kldMean,
      kld_standard_error: candidate.kldStandardError,
      top1_agreement: candidate.top1Agreement,
      bytes_out: candidate.bytes,
      predicted_loss: candidate.predictedLoss,
      chosen: candidate.chosen,
    })),
    bound,
    held,
  }
}

/** Null for anything else, `undefined` included. */
export function outcomeFromRecord(value: unknown): Outcome | null {
  const parsed = RecordSchema.safeParse(value)
  if (!parsed.success) return null
  const { kind, held_out: heldOut, candidates, bound, held } = parsed.data
  return {
    kind,
    heldOut,
    candidates: candidates.map((candidate) => ({
      id: candidate.id,
      title: candidate.title,
      kldMean: candidate.kld_mean,
      kldStandardError: candidate.kld_standard_error,
      top1Agreement: candidate.top1_agreement,
      bytes: candidate.bytes_out,
      predictedLoss: candidate.predicted_loss,
      chosen: candidate.chosen,
    })),
    bound,
    held,
  }
}
