import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, parse } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { LatheError } from '../contract/index.ts'
import { browse, freeBytesAt } from './files.ts'
import { useTemporaryFolders } from './test/temporary-folder.ts'
import { writeTinyModel } from './test/tiny-model.ts'

const temporaryFolder = useTemporaryFolders()

describe('browse', () => {
  it('lists folders only, in human order, hides hidden ones, and marks models', async () => {
    const folder = temporaryFolder()
    for (const name of ['model-10', 'Model-2', '.hidden']) mkdirSync(join(folder, name))
    writeTinyModel(join(folder, 'model-9'))
    writeFileSync(join(folder, 'file.txt'), '')
    symlinkSync(join(folder, 'model-9'), join(folder, 'linked'))
    symlinkSync(join(folder, 'nowhere'), join(folder, 'broken'))
    const listing = await browse(folder)
    expect(listing).toEqual({
      path: folder,
      parent: dirname(folder),
      freeBytes: listing.freeBytes,
      entries: [
        { name: 'linked', path: join(folder, 'linked'), isModel: true },
        { name: 'Model-2', path: join(folder, 'Model-2'), isModel: false },
        { name: 'model-9', path: join(folder, 'model-9'), isModel: true },
        { name: 'model-10', path: join(folder, 'model-10'), isModel: false },
      ],
    })
    expect(listing.freeBytes).toBeGreaterThan(0)
  })

  it('starts at home, knows ~, and ends at the root', async () => {
    expect((await browse(null)).path).toBe((await browse('~')).path)
    expect((await browse(homedir())).path).toBe((await browse(null)).path)
    expect((await browse(parse(process.cwd()).root)).parent).toBeNull()
  })

  it('says what is wrong with a path', async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'file'), '')
    const codes = await Promise.all(
      [join(folder, 'nowhere'), join(folder, 'file'), 'relative'].map((path) =>
        browse(path).then(
          () => 'nothing thrown',
          (error: unknown) => (error as LatheError).code,
        ),
      ),
    )
    expect(codes).toEqual(['checkpoint.not-found', 'checkpoint.not-found', 'request.invalid'])
  })

  it.skipIf(process.getuid?.() === 0)('says when a folder may not be read', async () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'locked'))
    chmodSync(join(folder, 'locked'), 0o000)
    await expect(browse(join(folder, 'locked'))).rejects.toMatchObject({ code: 'disk.permission' })
    chmodSync(join(folder, 'locked'), 0o700)
  })
})

describe('free space', () => {
  it('of a folder that is not there yet is that of the nearest one above', async () => {
    const folder = temporaryFolder()
    expect(await freeBytesAt(join(folder, 'a', 'b', 'c'))).toBeGreaterThan(0)
  })
})
