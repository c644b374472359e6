/**
 * Continuing an interrupted compression: what it was begun with, which of its tensors are still on the disk as journaled, and where it all
 * lies. Trusts the journal for nothing that can be checked.
 */
import { createHash } from 'node:crypto'
import { open, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { openFolder } from '../checkpoint/files.ts'
import { errnoOf, makeFolder } from '../checkpoint/make-folder.ts'
import type { Checkpoint } from '../checkpoint/types.ts'
import { JOURNAL_FILE, assertSameSubject, mismatch, readJournal } from './journal.ts'
import type { JournalEntry, JournalSubject, ReadJournal } from './journal.ts'
import { outputNames } from './plan.ts'
import type { CompressionPlan } from './plan.ts'
import { sha256 } from './sha256.ts'
import type { CompressOptions, PartialState } from './types.ts'

export const MODEL_FOLDER = 'model'

/** What an interrupted run left for `outFolder`, or null. Throws `compress.journal-mismatch` for a journal of another version. */
export async function inspectPartial(outFolder: string): Promise<PartialState | null> {
  const journal = await readJournal(join(partialFolderOf(resolve(outFolder)), JOURNAL_FILE))
  if (journal === null) return null
  const { presetId, seed, tensorsTotal } = journal.header
  return { presetId, seed, tensorsTotal, tensorsDone: new Set(journal.entries.map((entry) => entry.tensor)).size }
}

/** Removes what an interrupted run left for `outFolder`. Nothing happens where there is nothing. */
export async function discardPartial(outFolder: string): Promise<void> {
  await rm(partialFolderOf(resolve(outFolder)), { recursive: true, force: true })
}

export function partialFolderOf(outFolder: string): string {
  return join(dirname(outFolder), `.${basename(outFolder)}.partial`)
}

/** What a journal's first line says of this run. */
export async function subjectOf(
  options: CompressOptions,
  source: Checkpoint,
  plan: CompressionPlan,
  recipeText: string,
  configBytes: Uint8Array,
  calibrationSha256: string | null,
): Promise<JournalSubject> {
  const tensors = [...source.tensors.values()].map(({ name, dtype, shape, file }) => [name, dtype, shape, file])
  const folder = await openFolder(options.sourceFolder)
  const files = await Promise.all(
    source.files.map(async ({ name, bytes }) => {
      const path = folder.realPathOf(name)
      return { name, bytes, modifiedMs: path === null ? 0 : (await stat(path)).mtimeMs }
    }),
  )
  return {
    presetId: options.recipe.presetId ?? null,
    seed: options.seed,
    tensorsTotal: plan.items.length,
    recipeSha256: sha256(recipeText),
    calibrationSha256,
    source: { headerSha256: sha256(JSON.stringify(tensors.sort())), configSha256: sha256(configBytes), files },
  }
}

/** The journal to continue, or null after making an empty partial folder. */
export async function preparePartial(partial: string, resume: boolean, subject: JournalSubject): Promise<ReadJournal | null> {
  if (resume) {
    const journal = await readJournal(join(partial, JOURNAL_FILE))
    if (journal !== null) {
      assertSameSubject(journal.header, subject)
      return journal
    }
  }
  await rm(partial, { recursive: true, force: true })
  await makeFolder(join(partial, MODEL_FOLDER))
  return null
}

/** Journal entries whose bytes are still what they were, by source tensor. Others are done again. */
export async function intactEntries(
  modelFolder: string,
  plan: CompressionPlan,
  previous: ReadJournal | null,
  signal: AbortSignal | undefined,
): Promise<Map<string, JournalEntry>> {
  const intact = new Map<string, JournalEntry>()
  if (previous === null) return intact
  const planned = new Map(plan.write.files.flatMap((file) => file.tensors).map((tensor) => [tensor.name, tensor]))
  const items = new Map(plan.items.map((item) => [item.source.name, item]))
  const files = new Map<string, FileReader>()
  try {
    for (const entry of previous.entries) {
      const item = items.get(entry.tensor)
      if (item === undefined) throw mismatch(`its journal names ${entry.tensor}, which the model does not have`)
      const expected = outputNames(item)
      const fits =
        expected.length === entry.outputs.length &&
        entry.outputs.every((output) => {
          const place = planned.get(output.name)
          return place?.file === output.file && place.offset === output.offset && place.byteLength === output.bytes
        })
      if (!fits) throw mismatch('its files are laid out differently')
      let isIntact = true
      for (const output of entry.outputs) {
        signal?.throwIfAborted()
        const reader = files.get(output.file) ?? (await openReader(join(modelFolder, output.file)))
        files.set(output.file, reader)
        if ((await reader.sha256(output.offset, output.bytes)) !== output.sha256) isIntact = false
      }
      if (isIntact) intact.set(entry.tensor, entry)
    }
  } finally {
    for (const reader of files.values()) await reader.close()
  }
  return intact
}

interface FileReader {
  /** null when the file ends before. */
  sha256(offset: number, length: number): Promise<string | null>
  close(): Promise<void>
}

const HASH_BYTES = 4 << 20

async function openReader(path: string): Promise<FileReader> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
  const buffer = new Uint8Array(HASH_BYTES)
  return {
    async sha256(offset, length) {
      if (handle === null) return null
      const hash = createHash('sha256')
      for (let done = 0; done < length;) {
        const { bytesRead } = await handle.read(buffer, 0, Math.min(HASH_BYTES, length - done), offset + done)
        if (bytesRead === 0) return null
        hash.update(buffer.subarray(0, bytesRead))
        done += bytesRead
      }
      return hash.digest('hex')
    },
    async close() {
      await handle?.close()
    },
  }
}
