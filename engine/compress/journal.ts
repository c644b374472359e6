/**
 * The record of a compression in progress: a first line that says exactly what is being made of what, then one line per finished tensor with
 * the place and SHA-256 of its bytes. A line is appended only after its bytes are on the disk, so whatever ends the process, what the journal
 * says is true. A torn last line is dropped. Knows JSON lines, not tensors.
 */
import { readFile } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { z } from 'zod'
import { LatheError } from '../contract/errors.ts'

export const JOURNAL_FILE = 'journal.jsonl'
/** Raise whenever the same input would give other bytes: an older journal is then not continued, and nothing is taken over from an older result. */
export const BYTES_VERSION = 1
/** A line has under 1 KB, the largest models 100,000 tensors. Anything larger is not ours. */
const MAX_JOURNAL_BYTES = 512 << 20

const SourceFileSchema = z.object({ name: z.string(), bytes: z.number(), modifiedMs: z.number() })

const HeaderSchema = z.object({
  journal: z.literal('lathe-compression'),
  version: z.number(),
  presetId: z.string().nullable(),
  seed: z.number(),
  tensorsTotal: z.number(),
  /** SHA-256 of the recipe as YAML. */
  recipeSha256: z.string(),
  /** SHA-256 of the calibration tokens and the adapter that layers run on; null for a recipe without calibration. */
  calibrationSha256: z.string().nullable().default(null),
  source: z.object({
    /** SHA-256 of names, dtypes, shapes and files of all tensors: what the headers say. */
    headerSha256: z.string(),
    configSha256: z.string(),
    files: z.array(SourceFileSchema),
  }),
})
export type JournalHeader = z.infer<typeof HeaderSchema>
export type JournalSubject = Omit<JournalHeader, 'journal' | 'version'>

const FiguresSchema = z.object({
  sqnrDb: z.number().nullable(),
  relativeError: z.number(),
  maxError: z.number(),
  cosine: z.number(),
  epsilonScales: z.number(),
  scales: z.number(),
})

const EntrySchema = z.object({
  /** Name in the source. */
  tensor: z.string(),
  sourceSha256: z.string(),
  outputs: z.array(z.object({ name: z.string(), file: z.string(), offset: z.number(), bytes: z.number(), sha256: z.string() })),
  /** null for a tensor kept as it is. */
  figures: FiguresSchema.nullable(),
  /** See TensorResult. */
  decodedSha256: z.string().optional(),
  /** Copied from another result (take-over.ts), not made by this run. */
  takenOver: z.literal(true).optional(),
})
export type JournalEntry = z.infer<typeof EntrySchema>

export interface Journal extends AsyncDisposable {
  /** Forces the lines to the disk. The bytes that they speak of must be there already. */
  append(entries: readonly JournalEntry[]): Promise<void>
}

/** Starts a journal, or opens one for more lines, cutting off a torn one. */
export async function openJournal(path: string, subject: JournalSubject, validBytes: number | null): Promise<Journal> {
  const handle = await open(path, validBytes === null ? 'wx' : 'r+')
  try {
    if (validBytes === null) {
      await write(handle, 0, [{ journal: 'lathe-compression', version: BYTES_VERSION, ...subject }])
    } else await handle.truncate(validBytes)
  } catch (error) {
    await handle.close()
    throw error
  }
  let end = (await handle.stat()).size
  return {
    async append(entries) {
      end += await write(handle, end, entries)
    },
    async [Symbol.asyncDispose]() {
      await handle.close()
    },
  }
}

async function write(handle: FileHandle, at: number, lines: readonly unknown[]): Promise<number> {
  const bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  let done = 0
  while (done < bytes.byteLength) done += (await handle.write(bytes, done, bytes.byteLength - done, at + done)).bytesWritten
  await handle.datasync()
  return bytes.byteLength
}

export interface ReadJournal {
  readonly header: JournalHeader
  readonly entries: readonly JournalEntry[]
  /** Where the last whole line ends. */
  readonly validBytes: number
}

/** null where there is no journal, or not even its first line was finished. Throws `compress.journal-mismatch` for a foreign or newer one. */
export async function readJournal(path: string): Promise<ReadJournal | null> {
  const bytes = await readFile(path).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  })
  if (bytes === null) return null
  if (bytes.byteLength > MAX_JOURNAL_BYTES) throw mismatch('its journal is not one that Lathe wrote')
  const lines: string[] = []
  let validBytes = 0
  for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, validBytes)) {
    lines.push(bytes.toString('utf8', validBytes, end))
    validBytes = end + 1
  }
  const [first, ...rest] = lines
  if (first === undefined) return null
  const header = HeaderSchema.safeParse(parse(first))
  if (!header.success) throw mismatch('its journal is not one that Lathe wrote')
  if (header.data.version !== BYTES_VERSION) throw mismatch('it was made by another version of Lathe')
  const entries = rest.map((line) => {
    const entry = EntrySchema.safeParse(parse(line))
    if (!entry.success) throw mismatch('its journal is damaged')
    return entry.data
  })
  return { header: header.data, entries, validBytes }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line) as unknown
  } catch {
    // Every caller validates what it gets, and undefined is valid nowhere.
    return undefined
  }
}

/** Throws `compress.journal-mismatch` with the first difference between what was begun and what is asked for now. */
export function assertSameSubject(begun: JournalSubject, now: JournalSubject): void {
  if (begun.recipeSha256 !== now.recipeSha256) throw mismatch('it was begun with another recipe')
  if (begun.calibrationSha256 !== now.calibrationSha256) throw mismatch('it was begun with other calibration text, or on another adapter')
  if (begun.seed !== now.seed) throw mismatch(`it was begun with seed ${begun.seed}, not ${now.seed}`)
  if (begun.source.headerSha256 !== now.source.headerSha256) throw mismatch('the tensors of the source model have changed since')
  if (begun.source.configSha256 !== now.source.configSha256) throw mismatch('config.json of the source model has changed since')
  const files = new Map(now.source.files.map((file) => [file.name, file]))
  for (const file of begun.source.files) {
    const current = files.get(file.name)
    if (current === undefined) throw mismatch(`${file.name} is no longer in the source model`)
    if (current.bytes !== file.bytes || current.modifiedMs !== file.modifiedMs)
      throw mismatch(`${file.name} of the source model has changed since`)
  }
  if (begun.source.files.length !== now.source.files.length) throw mismatch('the source model has more files than before')
}

export function mismatch(why: string): LatheError {
  return new LatheError(
    'compress.journal-mismatch',
    `The unfinished run cannot be continued: ${why}.`,
    'Discard it and start again; the source model is untouched.',
  )
}
