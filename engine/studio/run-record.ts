/**
 * Reads the run.json that a compression leaves in its output folder (engine/compress/run-record.ts writes it). It may have been edited or come from
 * elsewhere, so it is data to show and to compare, not to trust: no decision to delete rests on it alone.
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { placeOf } from '../compress/module-roles.ts'
import { outcomeFromRecord } from '../compress/outcome-record.ts'
import type { Outcome, TensorError } from '../contract/index.ts'

/** A run.json lists each tensor in a few hundred bytes; 64 MiB is far beyond the largest model and small enough to parse. */
const MAX_RUN_BYTES = 64 * 1024 * 1024

const RunSchema = z.object({
  run: z.literal('lathe-compression'),
  preset: z.string().nullable(),
  seed: z.number(),
  bytes_in: z.number(),
  bytes_out: z.number(),
  source: z.object({ name: z.string(), tensors: z.record(z.string(), z.object({ sha256: z.string() })) }),
  tensors: z.array(
    z.object({
      name: z.string(),
      scheme: z.string(),
      sqnr_db: z.number().nullable(),
      relative_error: z.number(),
      max_error: z.number(),
      cosine: z.number(),
      bytes: z.number().int(),
    }),
  ),
})

export interface RunRecord {
  readonly json: Record<string, unknown>
  readonly presetId: string | null
  readonly seed: number
  /** sha256 of each source tensor's bytes, by name. */
  readonly sourceHashes: ReadonlyMap<string, string>
  readonly tensorErrors: readonly TensorError[]
  readonly outcome: Outcome | null
}

/** null when the folder has none or it is not one of ours. */
export async function readRunRecord(folder: string): Promise<RunRecord | null> {
  const path = join(folder, 'run.json')
  let json: unknown
  try {
    if ((await stat(path)).size > MAX_RUN_BYTES) return null
    json = JSON.parse(await readFile(path, 'utf8'))
  } catch {
    // absent, unreadable or not JSON: all the same to the reader, a folder without a record
    return null
  }
  const parsed = RunSchema.safeParse(json)
  if (!parsed.success) return null
  const { preset, seed, source, tensors } = parsed.data
  return {
    json: json as Record<string, unknown>,
    presetId: preset,
    seed,
    outcome: outcomeFromRecord((json as Record<string, unknown>)['outcome']),
    sourceHashes: new Map(Object.entries(source.tensors).map(([name, { sha256 }]) => [name, sha256])),
    tensorErrors: tensors.map((tensor) => ({
      name: tensor.name,
      ...placeOf(tensor.name),
      scheme: tensor.scheme,
      sqnrDb: tensor.sqnr_db,
      relativeError: tensor.relative_error,
      maxError: tensor.max_error,
      cosine: tensor.cosine,
      bytes: tensor.bytes,
    })),
  }
}
