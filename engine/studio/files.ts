/**
 * The engine's own folder picker for hosts without a native one. Lists folders that the user may read, marks those that look like a model by
 * their file names only, and never opens a file.
 */
import { readdir, realpath, stat, statfs } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { LatheError } from '../contract/index.ts'

export interface FolderListing {
  readonly path: string
  readonly parent: string | null
  readonly freeBytes: number | null
  readonly entries: { readonly name: string; readonly path: string; readonly isModel: boolean }[]
}

/** A folder with more entries than this is not one that a person picks models from; the rest would only freeze the page. */
const MAX_ENTRIES = 2000
/** Folders looked into at once: enough to hide a slow disk, few enough to leave file handles for everyone else. */
const LOOKAHEAD = 16

/** Lists `path`, or the home folder for null. Throws `checkpoint.not-found` or `disk.permission`. */
export async function browse(path: string | null): Promise<FolderListing> {
  const wanted = path === null || path === '' ? homedir() : expandHome(path)
  if (!isAbsolute(wanted)) throw new LatheError('request.invalid', `"${wanted}" is not a full path.`, 'Start with / or a drive letter.')
  const folder = await realpath(wanted).catch((error: unknown) => {
    throw unreadable(wanted, error)
  })
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    throw unreadable(folder, error)
  })
  const names: string[] = []
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue
    if (entry.isDirectory() || (entry.isSymbolicLink() && (await isFolder(join(folder, entry.name))))) names.push(entry.name)
    if (names.length === MAX_ENTRIES) break
  }
  names.sort((a, b) => a.localeCompare(b, undefined, { numeric: true, sensitivity: 'base' }))
  const listed: FolderListing['entries'] = []
  for (let from = 0; from < names.length; from += LOOKAHEAD) {
    const batch = names.slice(from, from + LOOKAHEAD)
    listed.push(
      ...(await Promise.all(
        batch.map(async (name) => ({ name, path: join(folder, name), isModel: await looksLikeModel(join(folder, name)) })),
      )),
    )
  }
  const parent = dirname(folder)
  return { path: folder, parent: parent === folder ? null : parent, freeBytes: await freeBytesAt(folder), entries: listed }
}

/** True if the folder's names say config.json and at least one .safetensors. */
export async function looksLikeModel(folder: string): Promise<boolean> {
  // a folder that can't be listed is simply not offered as a model
  const names = await readdir(folder).catch(() => [] as string[])
  return names.includes('config.json') && names.some((name) => name.endsWith('.safetensors'))
}

/** Bytes free for this user on the disk that holds the nearest existing ancestor of `path`; null where the platform does not say. */
export async function freeBytesAt(path: string): Promise<number | null> {
  let at = path
  for (;;) {
    try {
      const space = await statfs(at)
      return space.bavail * space.bsize
    } catch {
      const parent = dirname(at)
      if (parent === at) return null
      at = parent
    }
  }
}

function expandHome(path: string): string {
  return path === '~' || path.startsWith('~/') || path.startsWith('~\\') ? join(homedir(), path.slice(1)) : path
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  )
}

function unreadable(path: string, error: unknown): LatheError {
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new LatheError('checkpoint.not-found', `There is no folder ${path}.`, 'Choose another folder.', { cause: error })
  }
  return new LatheError('disk.permission', `The folder ${path} can't be read.`, 'Choose a folder that you may read.', { cause: error })
}
