/** Presets, their predictions, and the request that starts compressions. Every predicted number carries how it was obtained. */
import { z } from 'zod'
import { InputElementSchema } from './hardware.ts'
import { ErrorSchema } from './model.ts'
import { OUTCOME_KINDS } from './outcome.ts'
import { CalibrationChoiceSchema, CustomRecipeSchema, RecipeFormSchema, SchemeOverrideSchema } from './recipe.ts'

/** One bar of a FitBar: what a model needs against what the device has. Bytes. */
export const FitSchema = z.object({
  weightBytes: z.number(),
  kvBytes: z.number(),
  activationBytes: z.number(),
  /** What a driver, a server or the desktop keeps for itself; absent where nothing is reserved. */
  reserveBytes: z.number().optional(),
  /** What earlier loads on this device took beyond their prediction, and how many loads say so; absent where nothing was measured or nothing is missing. */
  overheadBytes: z.number().optional(),
  overheadLoads: z.number().int().optional(),
  /** Other loads in use, which no load may push out: other models, readers of prompts; absent where there are none. */
  residentBytes: z.number().optional(),
  /** null where the platform does not say. */
  budgetBytes: z.number().nullable(),
  contextTokens: z.number().int(),
  /** `weights` = weights alone don't fit; `context` = only the context tips it over. */
  verdict: z.enum(['fits', 'tight', 'context', 'weights', 'unknown']),
})

export const PresetSchema = z.object({
  id: z.string(),
  title: z.string(),
  /** One plain sentence: the promise. */
  promise: z.string(),
  scheme: z.string(), // "W4A16 g128"
  algorithm: z.string(), // "MSE scale search"
  nominalBitsPerWeight: z.number(),
  qualityClass: z.enum(['near-lossless', 'balanced', 'small', 'experimental']),
  fastOn: z.string(),
  recommended: z.boolean(),
  needsCalibration: z.boolean(),
  /** What inputs are rounded to; empty for weight-only schemes. Compare with `emulates` of an adapter. */
  inputElements: z.array(InputElementSchema).default([]),
  /** How the preset measures before it keeps a result; null for a plain recipe. */
  outcome: z.enum(OUTCOME_KINDS).nullable().default(null),
})

export const PredictedSchema = z.object({
  weightBytes: z.number(), // exact, from shapes
  bitsPerWeight: z.number(),
  /** Where the size is found by measuring: the least and the most that it can be; the figures above are then a guess in between. */
  range: z.object({ leastBytes: z.number(), mostBytes: z.number() }).optional(),
  fit: FitSchema,
  skippedTensors: z.array(z.object({ name: z.string(), reason: z.string() })),
  /** e.g. "formula", "from 3 similar runs on this machine". */
  source: z.string(),
})

export const PresetPredictionSchema = z.object({
  preset: PresetSchema,
  /** null when the preset cannot be applied; then `blockedBy` says why. */
  predicted: PredictedSchema.nullable(),
  blockedBy: ErrorSchema.nullable(),
  /** A variant of this model made with this preset, if there is one already. */
  existingVariantId: z.string().nullable(),
})

export const EvaluationOptionsSchema = z.object({
  perplexity: z.boolean(), // with KLD and top-1 agreement against the baseline
  tasks: z.boolean(),
  throughput: z.boolean(),
})

export const StartCompressionSchema = z
  .object({
    modelId: z.string(),
    presetIds: z.array(z.string()),
    /** Recipes beside the presets, each a job of its own. */
    recipes: z.array(CustomRecipeSchema).default([]),
    /** Applied to every preset and recipe of this request. */
    overrides: z.array(SchemeOverrideSchema).default([]),
    /** What calibrated recipes are fitted to; ignored by others. null = the bundled text with DEFAULT_CALIBRATION, as the command line does. */
    calibration: CalibrationChoiceSchema.nullable().default(null),
    /** A variant of the same model: what would come out the same is taken over from it, byte for byte. null = everything is computed. */
    baseVariantId: z.string().nullable().default(null),
    /** Parent folder for the outputs; null = the studio's own variants folder. */
    outputFolder: z.string().nullable(),
    evaluate: EvaluationOptionsSchema,
    seed: z.number().int().nonnegative(),
  })
  .refine(({ presetIds, recipes }) => presetIds.length + recipes.length > 0, 'Choose a preset or write a recipe.')

/** What a recipe text means for a model. Exactly one of `error` and `recipe` is null. */
export const RecipeCheckSchema = z.object({
  /** 1-based; null where the error belongs to no line. */
  error: ErrorSchema.extend({ line: z.number().int().nullable() }).nullable(),
  recipe: z
    .object({
      /** As Lathe would write it, every default spelled out. */
      yaml: z.string(),
      /** null where the recipe says more than the form can. */
      form: RecipeFormSchema.nullable(),
      needsCalibration: z.boolean(),
      /** "W4A16 g128", "2:4 sparse + W4A16 g128". */
      scheme: z.string(),
      /** null when it can't be applied to this model; then `blockedBy` says why. */
      predicted: PredictedSchema.nullable(),
      blockedBy: ErrorSchema.nullable(),
      warnings: z.array(z.string()),
    })
    .nullable(),
})

export const PreflightSchema = z.object({
  outputFolder: z.string(),
  needBytes: z.number(),
  /** null where the platform does not say. */
  freeBytes: z.number().nullable(),
  problems: z.array(ErrorSchema),
  warnings: z.array(z.string()),
  /** How long each job will take. `measured`: from runs on this machine; `guess`: before any was timed here. */
  times: z.array(z.object({ title: z.string(), seconds: z.number(), basis: z.enum(['measured', 'guess']) })).default([]),
})

export type Fit = z.infer<typeof FitSchema>
export type Preset = z.infer<typeof PresetSchema>
export type Predicted = z.infer<typeof PredictedSchema>
export type PresetPrediction = z.infer<typeof PresetPredictionSchema>
export type EvaluationOptions = z.infer<typeof EvaluationOptionsSchema>
export type StartCompression = z.infer<typeof StartCompressionSchema>
export type RecipeCheck = z.infer<typeof RecipeCheckSchema>
export type Preflight = z.infer<typeof PreflightSchema>
