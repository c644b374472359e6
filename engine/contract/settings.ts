/** What the user may change, with the defaults a new machine starts with. */
import { z } from 'zod'
import { ServerConfigSchema } from './server.ts'

const fields = {
  theme: z.enum(['system', 'light', 'dark']),
  /** Adapter id, or null for the automatic choice. */
  adapter: z.string().nullable(),
  /** Where variants are written; null = inside the data folder. */
  variantsFolder: z.string().nullable(),
  /** Default KV-cache dtype; the ones below 16 bits are quantized per token and head. `auto`: what the checkpoint names, else f16. */
  kvDtype: z.enum(['auto', 'f16', 'f32', 'fp8', 'int8', 'int4']),
  /** Chat and the server read prompts on matrix units (tensor cores): faster, but answers depend on what shares a step. Measurements never do. */
  matrixUnits: z.boolean(),
  /** Context that FitBars and the runtime assume unless told otherwise. */
  contextTokens: z.number().int().min(64).max(1_048_576),
  evaluate: z.object({ perplexity: z.boolean(), tasks: z.boolean(), throughput: z.boolean() }),
  notifications: z.boolean(),
  /** How the server was last started; null = never. */
  server: ServerConfigSchema.nullable(),
  /** Variants whose drift from their original is checked again and again. */
  qualityWatches: z.array(z.object({ modelId: z.string(), everyHours: z.number().positive().max(8760) })),
}

export const SettingsSchema = z.object(fields)
/** A change: only the keys that are present. It has no defaults on purpose: zod applies them inside optional keys, which would reset the rest. */
export const SettingsPatchSchema = z.object(fields).partial()

export type Settings = z.infer<typeof SettingsSchema>
export type SettingsPatch = z.infer<typeof SettingsPatchSchema>

export const DEFAULT_SETTINGS: Settings = {
  theme: 'system',
  adapter: null,
  variantsFolder: null,
  kvDtype: 'auto',
  matrixUnits: false,
  contextTokens: 4096,
  evaluate: { perplexity: true, tasks: true, throughput: true },
  notifications: false,
  server: null,
  qualityWatches: [],
}
