/** Makes a folder with its parents; every other question about folders is somebody else's. */
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Not `recursive: true`: Node then tries for ever where an existing folder answers ENOENT, as those of /proc do. Throws what mkdir throws. */
export async function makeFolder(path: string): Promise<void> {
  const make = async (): Promise<void> => {
    await mkdir(path).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error
    })
  }
  await make().catch(async (error: unknown) => {
    const parent = dirname(path)
    if (errnoOf(error) !== 'ENOENT' || parent === path) throw error
    await makeFolder(parent)
    await make()
  })
}

/** The system's name of what went wrong, such as ENOENT; null for anything else that was thrown. */
export function errnoOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : null
}
