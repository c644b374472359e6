/**
 * What can be said of a model against a baseline on the same items (specs/evaluation.md §8, §9), and the items themselves: every figure on the
 * board can be followed down to the prompts and tokens it came from. Shares and accuracies are 0…1, log-probabilities are nats.
 */
import { z } from 'zod'

const Interval = z.tuple([z.number(), z.number()])

/**
 * `non-inferior`: the one-sided 95 % bound of the difference is better than −margin. `worse`: the opposite bound is below −margin.
 * `inconclusive`: the items can't tell; "not significant" is never "the same".
 */
export const VerdictSchema = z.enum(['non-inferior', 'worse', 'inconclusive'])

export const PairedComparisonSchema = z.object({
  baselineId: z.string(),
  /** candidate − baseline, in the metric's own unit. */
  difference: z.number(),
  /** 95 %. */
  interval: Interval,
  /** Raw: score / baseline score (the published convention); inverted where lower is better. null when it can't be formed. */
  recovery: z.number().nullable(),
  /** Two-sided mid-p; null where answers are not right or wrong. */
  mcnemarP: z.number().nullable(),
  /** Fields below are younger than the first stored results. `unpaired`: the other side's items are not known, so the intervals are wide. */
  pairing: z.enum(['paired', 'unpaired']).default('paired'),
  standardError: z.number().nullable().default(null),
  /** What the user allows to be lost, in the metric's unit, ≥ 0. */
  margin: z.number().nullable().default(null),
  verdict: VerdictSchema.nullable().default(null),
  /** Where inconclusive: about how many items would decide, if the difference stays as it is. */
  itemsNeeded: z.number().int().nullable().default(null),
  /** Smallest difference that this many items show with 80 % power; to be printed beside every "no difference". */
  minimumDetectableDifference: z.number().nullable().default(null),
  recoveryInterval: Interval.nullable().default(null),
  /** (score − chance) / (baseline − chance); null where the baseline is within 3 standard errors of chance. */
  adjustedRecovery: z.number().nullable().default(null),
  adjustedRecoveryInterval: Interval.nullable().default(null),
  /** Items only the baseline got right, and the reverse: their sum are the flips, their difference is all that accuracy shows. */
  lost: z.number().int().nullable().default(null),
  gained: z.number().int().nullable().default(null),
  /** Items whose answer changed at all, wrong to other wrong included. */
  changed: z.number().int().nullable().default(null),
  /** p after Holm's correction over the tasks of the board; null without a test. */
  holmP: z.number().nullable().default(null),
  /** Mean change of log p(right answer): tells differences apart with far fewer items than right and wrong. */
  logLikelihoodDifference: z.object({ mean: z.number(), interval: Interval }).nullable().default(null),
  /** What limits the comparison, for people: other prompts, a published baseline. */
  warnings: z.array(z.string()).default([]),
  /** Of a group of tasks of right and wrong answers: the flips of each and its weight in the score, which a verdict against another margin is made of. */
  strata: z
    .array(z.object({ lost: z.number().int(), gained: z.number().int(), n: z.number().int(), weight: z.number() }))
    .nullable()
    .optional(),
})

/** Greedy answers beside the baseline's on the same items, before filters (specs/evaluation.md §6.2). */
export const FreeTextDriftSchema = z.object({
  baselineId: z.string(),
  n: z.number().int(),
  /** The same to the byte. */
  identical: z.number().int(),
  identicalShare: z.number(),
  /** 95 %, Wilson. */
  identicalInterval: Interval,
  /** What places and lengths are counted in: the baseline's tokens, or code points where its tokenizer is not known. */
  unit: z.enum(['tokens', 'characters']),
  /** Units before the first one that differs, over the answers that differ; null where none does. */
  firstDifferenceMedian: z.number().nullable(),
  /** Levenshtein / longer length, 0…1, over all answers. */
  editDistanceMean: z.number(),
  editDistanceMedian: z.number(),
  /** Differing answers of which only the beginning went into the edit distance. */
  cutItems: z.number().int(),
  /** log p of the baseline's most probable token less that of its second, where answers part, nats; null: not known for any of them. */
  divergenceMarginMedian: z.number().nullable(),
  /** Differing answers whose margin is known: not those of a server that does not tell, nor answers kept by versions that did not ask. */
  divergenceMarginItems: z.number().int().default(0),
})

/** One metric of one task of two models, made on demand for any pair. */
export const TaskComparisonSchema = z.object({
  task: z.string(),
  title: z.string(),
  metric: z.string(),
  filter: z.string(),
  higherIsBetter: z.boolean(),
  baselineValue: z.number().nullable(),
  value: z.number().nullable(),
  n: z.number().int(),
  paired: PairedComparisonSchema.nullable(),
  /** Why `paired` is null. */
  reason: z.string().nullable(),
})

/** One item of a task as a model answered it, beside its baseline. */
export const SampleRowSchema = z.object({
  docId: z.number().int(),
  docHash: z.string(),
  prompt: z.string(),
  /** Text of the right answer. */
  target: z.string(),
  /** Empty where the answer is free text. */
  choices: z.array(z.string()),
  /** The chosen choice or the generated text (before filters). */
  output: z.string(),
  /** After filters: what was judged. */
  answer: z.string(),
  baselineOutput: z.string().nullable(),
  baselineAnswer: z.string().nullable(),
  /** The task's first metric read as right or wrong; null where it is neither. */
  correct: z.boolean().nullable(),
  baselineCorrect: z.boolean().nullable(),
  metrics: z.record(z.string(), z.number().nullable()),
  baselineMetrics: z.record(z.string(), z.number().nullable()).nullable(),
  /** Per choice, Σ log p; for one continuation, one number; empty for generated text. */
  logprobs: z.array(z.number().nullable()),
  baselineLogprobs: z.array(z.number().nullable()).nullable(),
  /** False where the two models were asked in different words (another chat template). */
  samePrompt: z.boolean(),
})

export const SampleQuerySchema = z.object({
  modelId: z.string(),
  task: z.string(),
  /** null = without a baseline. */
  baselineId: z.string().nullable().default(null),
  /** `changed`: another answer; `lost`: right before, wrong now; `gained`: the reverse. */
  show: z.enum(['all', 'changed', 'lost', 'gained']).default('all'),
  offset: z.number().int().nonnegative().default(0),
  limit: z.number().int().min(1).max(200).default(50),
})

export const SamplePageSchema = z.object({
  /** Rows that match, of `items` in all. */
  total: z.number().int(),
  items: z.number().int(),
  rows: z.array(SampleRowSchema),
})

/** One scored position of the drift text. */
export const TokenRowSchema = z.object({
  position: z.number().int(),
  id: z.number().int(),
  text: z.string(),
  logprob: z.number().nullable(),
  baselineLogprob: z.number().nullable(),
  kld: z.number().nullable(),
  /** Whether both models' most probable token is the same. */
  agrees: z.boolean(),
  top: z.string(),
  baselineTop: z.string(),
})

export const TokenQuerySchema = z.object({
  modelId: z.string(),
  offset: z.number().int().nonnegative().default(0),
  limit: z.number().int().min(1).max(2000).default(500),
  /** `kld`: the worst positions first. */
  sort: z.enum(['position', 'kld']).default('position'),
  /** Whom the drift was measured from; null or absent = the family's source. */
  baselineId: z.string().nullable().optional(),
})

export const TokenPageSchema = z.object({
  baselineId: z.string(),
  dataset: z.string(),
  total: z.number().int(),
  rows: z.array(TokenRowSchema),
})

export type Verdict = z.infer<typeof VerdictSchema>
export type FreeTextDrift = z.infer<typeof FreeTextDriftSchema>
export type PairedComparison = z.infer<typeof PairedComparisonSchema>
export type TaskComparison = z.infer<typeof TaskComparisonSchema>
export type SampleRow = z.infer<typeof SampleRowSchema>
export type SampleQuery = z.infer<typeof SampleQuerySchema>
export type SamplePage = z.infer<typeof SamplePageSchema>
export type TokenRow = z.infer<typeof TokenRowSchema>
export type TokenQuery = z.infer<typeof TokenQuerySchema>
export type TokenPage = z.infer<typeof TokenPageSchema>
