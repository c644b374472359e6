/**
 * What goes into a compression beyond a preset: recipes as text and as a form, schemes per layer, calibration text, and the search for a scheme
 * per layer. Schemes are named as everywhere on screen ("W4A16 g128"); `schemes` lists the names that may be given back.
 */
import { z } from 'zod'
import { InputElementSchema } from './hardware.ts'
import { ErrorSchema } from './model.ts'

export const CalibrationChoiceSchema = z.object({
  source: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('bundled') }),
    /** A .jsonl of {"text"} or {"messages"} objects, or plain text. */
    z.object({ kind: z.literal('file'), path: z.string().min(1) }),
  ]),
  /** At most so many samples of at most so many tokens each. */
  samples: z.number().int().min(1).max(1_000_000),
  sequenceLength: z.number().int().min(2).max(1_000_000),
  /** Chooses the samples. */
  seed: z.number().int().nonnegative(),
})

/** The figures of the command line (engine/compress/calibration/defaults.ts). */
export const DEFAULT_CALIBRATION: z.infer<typeof CalibrationChoiceSchema> = {
  source: { kind: 'bundled' },
  samples: 256,
  sequenceLength: 512,
  seed: 0,
}

/** What a calibration choice gives for a model, from its beginning. */
export const CalibrationReportSchema = z.object({
  name: z.string(),
  /** Texts, conversations, or pieces of running text as long as a sample. */
  documents: z.number().int(),
  kind: z.enum(['text', 'chat', 'passage', 'mixed']),
  /** The first lines of the first documents. */
  excerpts: z.array(z.string()),
  /** What would be used. Tokens are extrapolated from the first documents unless `exact`. */
  samples: z.number().int(),
  tokens: z.number().int(),
  exact: z.boolean(),
  warnings: z.array(z.string()),
  /** Why it can't be used; the figures are then 0. */
  error: ErrorSchema.extend({ line: z.number().int().nullable() }).nullable(),
})

export const CustomRecipeSchema = z.object({
  /** Names the variant. */
  title: z.string().trim().min(1).max(100),
  yaml: z.string().max(1_000_000),
  /** Most divergence from the original, nats per token, that is promised: measured on held-out text before the result is kept. */
  holdsWithin: z.number().positive().nullable().optional(),
})

export const SchemeOverrideSchema = z.object({
  /** A module's name, or a `re:` pattern from the start of it. Linears that a server fuses with it follow. */
  target: z.string().min(1).max(1000),
  /** null = as it is in the source. */
  scheme: z.string().nullable(),
})

export const RECIPE_ALGORITHMS = ['rtn', 'mse', 'imatrix', 'gptq', 'awq', 'smoothquant'] as const

/** The common fields of a recipe that stores every linear in one scheme. */
export const RecipeFormSchema = z.object({
  algorithm: z.enum(RECIPE_ALGORITHMS),
  /** An id of `SchemeInfo`. */
  scheme: z.string(),
  /** Columns per scale; null = a whole row. Must be one of the scheme's. */
  groupSize: z.number().int().nullable(),
  ignore: z.array(z.string()),
})

export const SchemeInfoSchema = z.object({
  /** LLM Compressor's name: "W4A16_ASYM", "FP8_DYNAMIC". */
  id: z.string(),
  bits: z.number(),
  /** Choices for `groupSize`; one where there is no choice. */
  groupSizes: z.array(z.number().int().nullable()).min(1),
  /** Scales of inputs that must be calibrated. */
  needsCalibration: z.boolean(),
  inputElements: z.array(InputElementSchema).default([]),
})

/** Linears that a server fuses into one, and what a recipe does with them. */
export const SchemeUnitSchema = z.object({
  id: z.string(),
  layer: z.number().int().nullable(),
  /** "q_proj + k_proj + v_proj". */
  role: z.string(),
  modules: z.array(z.string()),
  parameters: z.number(),
  /** null = stays as it is. */
  scheme: z.string().nullable(),
  bytes: z.number(),
  /** Bytes in the source. */
  plainBytes: z.number(),
  /** Every scheme that may be chosen instead, with its exact bytes. */
  options: z.array(z.object({ scheme: z.string(), bytes: z.number() })),
  /** Why the scheme does not fit it; null where it is only a matter of choice. */
  refused: z.string().nullable(),
  /** What the scheme loses here, in the measure's unit; null where nobody measured it. */
  loss: z.number().nullable(),
})

/** Bytes are exact: changing units changes the totals by the difference of their bytes and by nothing else. */
export const SchemeMapSchema = z.object({
  units: z.array(SchemeUnitSchema),
  weightBytes: z.number(),
  bitsPerWeight: z.number(),
  parameters: z.number(),
})

export const MixedTargetSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('bytes'), bytes: z.number().positive() }),
  z.object({ kind: z.literal('bits-per-weight'), bits: z.number().positive().max(64) }),
  z.object({ kind: z.literal('loss'), bound: z.number().nonnegative() }),
  /** Least loss that fits on the current adapter together with a context of so many tokens. */
  z.object({ kind: z.literal('fits'), contextTokens: z.number().int().positive() }),
])

/**
 * `weights`: share of the weights' energy that rounding loses; needs no device. `output`: KL divergence of the model's output when only that
 * layer is rounded, in nats per token; one load and one pass over the text for every choice.
 */
export const LOSS_MEASURES = ['weights', 'output'] as const

export const MAP_ALGORITHMS = ['mse', 'gptq'] as const

export const AutomaticRequestSchema = z.object({
  modelId: z.string(),
  target: MixedTargetSchema,
  /** Names of schemes to choose from; staying as it is is always a choice. */
  schemes: z.array(z.string()).min(1).max(16),
  measure: z.enum(LOSS_MEASURES),
  /** How the found schemes are stored: `mse` searches scales and needs no text, `gptq` is fitted to calibration text. */
  algorithm: z.enum(MAP_ALGORITHMS).default('mse'),
})

export const AutomaticEventSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('progress'), done: z.number().int(), total: z.number().int(), unit: z.string() }),
  z.object({
    kind: z.literal('done'),
    /** An ordinary recipe with one group per scheme: to be looked at, changed and started like any other. */
    yaml: z.string(),
    map: SchemeMapSchema,
    /** Sum over the units, in the measure's unit. */
    predictedLoss: z.number(),
    /** Whether it is the optimum for these losses, or as near as a thinned search came. */
    exact: z.boolean(),
  }),
])

/** The recipe of a variant with one layer in the next higher scheme. Starting it is up to the caller. */
export const RaisePlanSchema = z.object({
  /** The source to start from. */
  modelId: z.string(),
  recipe: CustomRecipeSchema,
  calibration: CalibrationChoiceSchema.nullable(),
  seed: z.number().int(),
  layer: z.number().int().nullable(),
  role: z.string(),
  from: z.string(),
  /** null = as it is in the source. */
  to: z.string().nullable(),
  /** Bytes more than the variant has. */
  addedBytes: z.number(),
  /** What runs again, said as it is. */
  recomputes: z.string(),
  /** Of the variant's layers, how many need not be made again; 0 of 0 where the model has no numbered layers. */
  takesOver: z.object({ layers: z.number().int(), ofLayers: z.number().int() }).default({ layers: 0, ofLayers: 0 }),
})

export type CalibrationChoice = z.infer<typeof CalibrationChoiceSchema>
export type CalibrationReport = z.infer<typeof CalibrationReportSchema>
export type CustomRecipe = z.infer<typeof CustomRecipeSchema>
export type SchemeOverride = z.infer<typeof SchemeOverrideSchema>
export type RecipeAlgorithm = (typeof RECIPE_ALGORITHMS)[number]
export type RecipeForm = z.infer<typeof RecipeFormSchema>
export type SchemeInfo = z.infer<typeof SchemeInfoSchema>
export type SchemeUnit = z.infer<typeof SchemeUnitSchema>
export type SchemeMap = z.infer<typeof SchemeMapSchema>
export type MixedTarget = z.infer<typeof MixedTargetSchema>
export type MapAlgorithm = (typeof MAP_ALGORITHMS)[number]
export type LossMeasure = (typeof LOSS_MEASURES)[number]
export type AutomaticRequest = z.infer<typeof AutomaticRequestSchema>
export type AutomaticEvent = z.infer<typeof AutomaticEventSchema>
export type RaisePlan = z.infer<typeof RaisePlanSchema>
