/**
 * Paths of model folders: what a dropped path stands for, whether one lies in another, what it is called. Knows nothing of the library.
 */
import { realpath, stat } from 'node:fs/promises'
import { basename, dirname, extname, sep } from 'node:path'
import { LatheError } from '../contract/index.ts'

/**
 * The real folder behind what was dropped: symlinks resolved, and a weight or config file stands for the folder it is in.
 * Other files are left for the checkpoint reader, which explains them (a GGUF, a PyTorch file).
 */
export async function resolveModelFolder(path: string): Promise<string> {
  const resolved = await realpath(path).catch((error: unknown) => {
    throw new LatheError('checkpoint.not-found', `There is nothing at ${path}.`, 'Check the path, or choose the folder again.', {
      cause: error,
    })
  })
  const info = await stat(resolved)
  if (info.isDirectory()) return resolved
  const stands = extname(resolved) === '.safetensors' || basename(resolved) === 'config.json'
  return stands ? dirname(resolved) : resolved
}

/** True if `inner` is `outer` or lies in it; both real paths. */
export function isInside(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith(sep) ? outer : outer + sep)
}

/** The folder's name; for a snapshot in the Hugging Face cache, whose folder is a hash, the repository's. */
export function nameOfFolder(folder: string): string {
  const repository = basename(dirname(folder)) === 'snapshots' ? basename(dirname(dirname(folder))) : ''
  const name = /^models--(?:.+?--)?(.+)$/.exec(repository)?.[1]
  return name ?? basename(folder)
}
