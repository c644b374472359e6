/** What the user brings to an evaluation: task files, addresses of other servers, published results. */
import { z } from 'zod'

/** The robustness, fairness and safety probes: paired changes against the baseline, not certificates. */
export const ProbeSchema = z.enum(['robustness', 'fairness', 'refusal'])

export const TaskRunOptionsSchema = z.object({
  /** Task files (.yaml, .jsonl) by path; names of bundled tasks are allowed. */
  tasks: z.array(z.string()).default([]),
  probes: z.array(ProbeSchema).default([]),
  /**
   * The user's own lists, each measured by the probe that its fields tell: `fairness` (BBQ, CrowS-Pairs or {a, b, group} lines), `refusal`
   * ({prompt, label: safe|unsafe}). A probe chosen without a file of its kind is refused.
   */
  probeFiles: z.array(z.string()).default([]),
  /** Items per task; null = all. */
  limit: z.number().int().positive().nullable().default(null),
  /** null = what the task says. */
  fewshot: z.number().int().nonnegative().nullable().default(null),
  chatTemplate: z.boolean().default(false),
  fewshotAsMultiturn: z.boolean().default(true),
  systemInstruction: z.string().nullable().default(null),
  /** Allowed loss for the non-inferiority verdict, in the metric's unit. */
  margin: z.number().min(0).max(1).default(0.01),
})

/** A server elsewhere as an entry of the library, beside local models. */
export const AddRemoteSchema = z.object({
  /** The family on whose board it stands; null = a board of its own. */
  parentId: z.string().nullable(),
  /** "http://host:8000/v1" */
  url: z.string().min(1),
  /** The name the server knows the model by; null = the only one it has. */
  model: z.string().nullable(),
  name: z.string().nullable(),
  /** Name of an environment variable that holds the key; the key itself is never stored. */
  apiKeyVariable: z.string().nullable(),
  /** Kept in memory until the studio closes. */
  apiKey: z.string().nullable().default(null),
})

export type Probe = z.infer<typeof ProbeSchema>
export type TaskRunOptions = z.infer<typeof TaskRunOptionsSchema>
export type AddRemote = z.infer<typeof AddRemoteSchema>
