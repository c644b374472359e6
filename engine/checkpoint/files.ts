/**
 * The only code that touches a model folder's files: names that cannot leave the folder, regular files only, size caps, exact ranged
 * reads, and operating-system errors turned into LatheErrors. Knows nothing of formats.
 */
import type { FileHandle } from 'node:fs/promises'
import { constants, open, readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, relative, isAbsolute, sep } from 'node:path'
import { LatheError } from '../contract/errors.ts'

/** Model folders hold tens of files, sharded ones hundreds. The cap stops a dropped home folder from being listed for minutes. */
const MAX_FILES = 20_000

export interface FolderFile {
  readonly name: string
  readonly bytes: number
}

/** A folder whose path is resolved; every file access goes through it. */
export interface ModelFolder {
  /** As given. */
  readonly path: string
  readonly files: readonly FolderFile[]
  /** Links that lead out of the folder: neither listed in `files` nor opened. */
  readonly strayLinks: readonly string[]
  /** Real path of a listed file, or null where it is not a regular file in the folder. */
  realPathOf(name: string): string | null
}

function errnoOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null
}

/** A failed file operation as a LatheError: `disk.full`, `disk.permission` or `disk.io`. A LatheError passes through. */
export function diskError(error: unknown, doing: string): LatheError {
  if (error instanceof LatheError) return error
  const errno = errnoOf(error)
  switch (errno) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new LatheError(
        'disk.full',
        `The disk is full while ${doing}.`,
        'Free some space, or choose an output folder on another disk.',
        {
          cause: error,
        },
      )
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new LatheError(
        'disk.permission',
        `No permission while ${doing}.`,
        'Check the permissions of the folder, or choose another one.',
        {
          cause: error,
        },
      )
    default: {
      const detail = error instanceof Error ? error.message : String(error)
      return new LatheError(
        'disk.io',
        `A file operation failed while ${doing}: ${detail}.`,
        'Check that the disk is connected and healthy.',
        {
          cause: error,
        },
      )
    }
  }
}

/**
 * Refuses any name that is not a plain file name: separators of either kind, `..`, NUL, control characters, drive letters and reserved
 * device names. Throws `checkpoint.unsafe-path`.
 */
export function assertPlainFileName(name: string, origin: string): void {
  const reasons: string[] = []
  if (name === '' || name === '.' || name === '..') reasons.push('it is not a file name')
  if (name.includes('/') || name.includes('\\')) reasons.push('it contains a path separator')
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(name)) reasons.push('it contains a control character')
  // On Windows "C:x", "file:stream" and "NUL" reach outside the folder without any separator.
  if (name.includes(':')) reasons.push('it contains a colon')
  if (/^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i.test(name)) reasons.push('it is a reserved device name')
  if (name.length > 255) reasons.push('it is longer than 255 characters')
  const reason = reasons[0]
  if (reason === undefined) return
  throw new LatheError(
    'checkpoint.unsafe-path',
    `${origin} names the file ${JSON.stringify(name.slice(0, 80))}, and ${reason}.`,
    'A model only refers to files in its own folder. This one looks tampered with; get it from its original source.',
  )
}

/** Lists the regular files of a folder, resolving links. Throws `checkpoint.not-found` or a disk error. */
export async function openFolder(path: string): Promise<ModelFolder> {
  let root: string
  let names: string[]
  try {
    root = await realpath(path)
    names = await readdir(root)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR') {
      throw new LatheError(
        'checkpoint.not-found',
        `There is no folder at ${path}.`,
        'Choose the model folder again; it may have been moved.',
        {
          cause: error,
        },
      )
    }
    throw diskError(error, `reading the folder ${path}`)
  }
  if (names.length > MAX_FILES) {
    throw new LatheError(
      'checkpoint.not-a-model',
      `The folder holds ${names.length} entries; a model folder has at most ${MAX_FILES}.`,
      'Choose the folder that directly contains config.json and the safetensors files.',
    )
  }
  const roots = [root, ...hubBlobs(root)]
  const found = await Promise.all(
    names.sort().map(async (name) => {
      const target = await realpath(join(root, name)).catch(() => null) // a dangling link is the same as no file
      if (target === null) return null
      const info = await stat(target)
      if (!info.isFile()) return null
      return { name, target, bytes: info.size, inside: roots.some((allowed) => isWithin(allowed, target)) }
    }),
  ).catch((error: unknown) => {
    throw diskError(error, `reading the folder ${path}`)
  })
  const present = found.filter((file) => file !== null)
  const targets = new Map(present.filter((file) => file.inside).map((file) => [file.name, file.target]))
  return {
    path,
    files: present.filter((file) => file.inside).map(({ name, bytes }) => ({ name, bytes })),
    strayLinks: present.filter((file) => !file.inside).map((file) => file.name),
    realPathOf: (name) => targets.get(name) ?? null,
  }
}

/**
 * The Hugging Face cache keeps a snapshot as links: `<repo>/snapshots/<revision>/model.safetensors` → `<repo>/blobs/<hash>`. That one
 * sibling is part of the model; any other place outside the folder is not.
 */
function hubBlobs(root: string): string[] {
  const snapshots = dirname(root)
  return basename(snapshots) === 'snapshots' ? [join(dirname(snapshots), 'blobs')] : []
}

function isWithin(folder: string, path: string): boolean {
  const step = relative(folder, path)
  return step !== '' && !isAbsolute(step) && step !== '..' && !step.startsWith(`..${sep}`)
}

/** An open file with exact ranged reads. */
export interface RangedFile extends AsyncDisposable {
  readonly name: string
  readonly byteLength: number
  /**
   * Fresh, 8-byte-aligned memory of exactly `length` bytes, or the first `length` bytes of `into`. Throws `checkpoint.invalid-tensor` if the
   * file has shrunk meanwhile.
   */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>
}

/** Opens a listed file for reading. Throws `checkpoint.missing-shard` or `checkpoint.unsafe-path` when it is not there. */
export async function openRanged(folder: ModelFolder, name: string): Promise<RangedFile> {
  const path = folder.realPathOf(name)
  if (path === null) throw missingFile(folder, name)
  let handle: FileHandle
  let byteLength: number
  try {
    // Non-blocking, so that a pipe swapped in after the listing cannot hang the engine.
    handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    const info = await handle.stat()
    if (!info.isFile()) {
      await handle.close()
      throw missingFile(folder, name)
    }
    byteLength = info.size
  } catch (error) {
    throw diskError(error, `opening ${name}`)
  }
  return {
    name,
    byteLength,
    async read(offset, length, into) {
      const bytes = into === undefined ? new Uint8Array(length) : into.subarray(0, length)
      if (bytes.byteLength < length) throw new RangeError(`${length} bytes into a buffer of ${bytes.byteLength}`)
      let done = 0
      try {
        while (done < length) {
          const { bytesRead } = await handle.read(bytes, done, length - done, offset + done)
          if (bytesRead === 0) break
          done += bytesRead
        }
      } catch (error) {
        throw diskError(error, `reading ${name}`)
      }
      if (done < length) {
        throw new LatheError(
          'checkpoint.invalid-tensor',
          `${name} ended early: ${done} of ${length} bytes at offset ${offset}.`,
          'The file changed while it was open. Copy or download it again.',
        )
      }
      return bytes
    },
    async [Symbol.asyncDispose]() {
      await handle.close()
    },
  }
}

function missingFile(folder: ModelFolder, name: string): LatheError {
  if (folder.strayLinks.includes(name)) {
    return new LatheError(
      'checkpoint.unsafe-path',
      `${name} is a link that leads out of the model folder.`,
      'Copy the file itself into the folder: Lathe never follows links to elsewhere.',
    )
  }
  return new LatheError(
    'checkpoint.missing-shard',
    `${name} is not in the folder.`,
    'Download the missing file; the model is incomplete without it.',
  )
}

/** A small file whole, or null where the folder has none. Throws `checkpoint.unsafe-path` for a stray link, `code` when it is too large. */
export async function readSmallFile(
  folder: ModelFolder,
  name: string,
  limit: { readonly maxBytes: number; readonly code: 'checkpoint.invalid-config' | 'tokenizer.invalid' },
): Promise<Uint8Array | null> {
  if (folder.realPathOf(name) === null) {
    if (folder.strayLinks.includes(name)) throw missingFile(folder, name)
    return null
  }
  await using file = await openRanged(folder, name)
  if (file.byteLength > limit.maxBytes) {
    throw new LatheError(
      limit.code,
      `${name} has ${file.byteLength} bytes; at most ${limit.maxBytes} are accepted.`,
      'No real model has one this large. Get the file from its original source.',
    )
  }
  return await file.read(0, file.byteLength)
}
