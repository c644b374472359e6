/**
 * Energy of a run (specs/benchmark.md §6): what a counter of this machine read while it ran, or why none did. Never a power limit times a time:
 * that is the run's time in another unit, and would pass for a measurement.
 */
import { z } from 'zod'

/** What a counter covers; in each case for every process that uses it. */
export const EnergyScopeSchema = z.enum([
  /** The whole board: chip, memory and regulators. */
  'gpu-board',
  /** The chip as its driver accounts for it, without all of the board. */
  'gpu-package',
  /** All sockets, with a GPU that is in one; without memory beside them. */
  'cpu-package',
])

export const MeasuredEnergySchema = z.object({
  kind: z.literal('measured'),
  joules: z.number(),
  seconds: z.number(),
  outputTokens: z.number().int(),
  requests: z.number().int(),
  joulesPerOutputToken: z.number(),
  joulesPerRequest: z.number(),
  /** Output tokens per second and watt, which is the same as tokens per joule. */
  tokensPerSecondPerWatt: z.number(),
  meanWatts: z.number(),
  scope: EnergyScopeSchema,
  /** What was read, by the name that its owner gives it: "nvidia-smi power.draw.instant", "RAPL package-0 + package-1". */
  counter: z.string(),
  /** `counter`: difference of an energy counter. `power`: integral of sampled power. */
  method: z.enum(['counter', 'power']),
  /** Readings within the run, and the time between two of them. */
  samples: z.number().int(),
  intervalMs: z.number(),
  /** False: what the idle device would have drawn is in the figure. */
  idleSubtracted: z.boolean(),
})

export const EnergySchema = z.discriminatedUnion('kind', [
  MeasuredEnergySchema,
  z.object({ kind: z.literal('not-measured'), reason: z.string() }),
])

export type EnergyScope = z.infer<typeof EnergyScopeSchema>
export type MeasuredEnergy = z.infer<typeof MeasuredEnergySchema>
export type Energy = z.infer<typeof EnergySchema>

export const ENERGY_SCOPES: Readonly<Record<EnergyScope, string>> = {
  'gpu-board': 'GPU board',
  'gpu-package': 'GPU package',
  'cpu-package': 'CPU package',
}
