/**
 * Reads the run.json that a compression leaves in its output folder (specs/compressed-tensors.md names the checkpoint's files; this one is Lathe's).
 * It may have been edited or come from elsewhere, so it is data to show, not to trust: no decision to delete rests on it alone.
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface RunRecord {
  readonly json: Record<string, unknown>
  readonly sourceFolder: string | null
  readonly presetId: string | null
}

/** A run.json lists each tensor in a few hundred bytes; 64 MiB is far beyond the largest model and small enough to parse. */
const MAX_RUN_BYTES = 64 * 1024 * 1024

/** null when the folder has none or it can't be understood. */
export async function readRunRecord(folder: string): Promise<RunRecord | null> {
  const path = join(folder, 'run.json')
  try {
    if ((await stat(path)).size > MAX_RUN_BYTES) return null
    const json: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (!isObject(json)) return null
    const source = isObject(json['source']) ? json['source'] : json
    return {
      json,
      sourceFolder: textOf(source['folder']) ?? textOf(source['path']),
      presetId: textOf(json['preset']) ?? textOf(json['presetId']),
    }
  } catch {
    // absent, unreadable or not JSON: all the same to the reader, a folder without a record
    return null
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}
