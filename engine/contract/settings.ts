/** What the user may change, with the defaults a new machine starts with. */
import { z } from 'zod'

export const SettingsSchema = z.object({
  theme: z.enum(['system', 'light', 'dark']).default('system'),
  /** Adapter id, or null for the automatic choice. */
  adapter: z.string().nullable().default(null),
  /** Where variants are written; null = inside the data folder. */
  variantsFolder: z.string().nullable().default(null),
  /** Default KV-cache dtype. */
  kvDtype: z.enum(['f16', 'f32']).default('f16'),
  /** Context that FitBars and the runtime assume unless told otherwise. */
  contextTokens: z.number().int().min(64).max(1_048_576).default(4096),
  evaluate: z
    .object({ perplexity: z.boolean(), tasks: z.boolean(), throughput: z.boolean() })
    .default({ perplexity: true, tasks: true, throughput: true }),
  notifications: z.boolean().default(false),
  dismissedHints: z.array(z.string()).default([]),
})
export type Settings = z.infer<typeof SettingsSchema>
export const DEFAULT_SETTINGS: Settings = SettingsSchema.parse({})
