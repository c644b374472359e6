/** Where variants go: names that are free, folders that may be written to, and what to say when the disk is full. */
import { access, constants, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { LatheError } from '../contract/index.ts'
import { isInside } from './model-folder.ts'

/** Names tried before giving up on a free one; a person who has a hundred copies wants to be told. */
const MAX_SAME_NAME = 100

/** Throws `checkpoint.unsafe-path` for a folder inside the source, and `disk.permission`. */
export async function checkOutputFolder(outputFolder: string, sourceFolder: string): Promise<void> {
  const existing = await nearestExisting(outputFolder)
  // realpath of what exists: a link must not lead the output into the source
  const real = join(await realpath(existing), outputFolder.slice(existing.length))
  if (isInside(real, sourceFolder)) {
    throw new LatheError(
      'checkpoint.unsafe-path',
      `${outputFolder} lies inside the source model, which Lathe never writes to.`,
      'Choose a folder outside the model.',
    )
  }
  await access(existing, constants.W_OK).catch((error: unknown) => {
    throw new LatheError('disk.permission', `${existing} can't be written to.`, 'Choose another output folder.', { cause: error })
  })
}

/** `name`, or `name-2`, `name-3`…: the first that neither exists nor has been promised to another job. */
export async function freeName(folder: string, name: string, taken: ReadonlySet<unknown>): Promise<string> {
  for (let copy = 1; copy <= MAX_SAME_NAME; copy++) {
    const candidate = join(folder, copy === 1 ? name : `${name}-${copy}`)
    if (!taken.has(candidate) && !(await exists(candidate))) return candidate
  }
  throw new LatheError(
    'checkpoint.already-exists',
    `${folder} already has ${MAX_SAME_NAME} folders named ${name}.`,
    'Delete some of them, or choose another output folder.',
  )
}

export function variantName(sourceName: string, title: string, out: string, slug: string): string {
  const copy = /^-(\d+)$/.exec(basename(out).slice(basename(out).lastIndexOf(slug) + slug.length))?.[1]
  return `${sourceName} · ${title}${copy === undefined ? '' : ` (${copy})`}`
}

/** A name that every file system takes: letters, digits, dot, dash, underscore; never hidden, never only dots. */
export function folderName(name: string): string {
  const cleaned = name
    .replaceAll(/[^\p{L}\p{N}._-]+/gu, '-')
    .replaceAll(/^[.-]+|[.-]+$/g, '')
    .slice(0, 100)
  return cleaned === '' ? 'model' : cleaned
}

export function diskFull(folder: string, needBytes: number, freeBytes: number): LatheError {
  return new LatheError(
    'disk.full',
    `The result needs ${inGigabytes(needBytes)}; ${folder} has ${inGigabytes(freeBytes)} free.`,
    'Choose another output folder, or free some space.',
    { data: { needBytes, freeBytes } },
  )
}

/** "4.30 GB". */
export function inGigabytes(bytes: number): string {
  return `${(bytes / 1e9).toPrecision(3)} GB`
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function nearestExisting(path: string): Promise<string> {
  let at = path
  while (!(await exists(at))) {
    const parent = dirname(at)
    if (parent === at) return at
    at = parent
  }
  return at
}
