import { randomBytes } from 'node:crypto'
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { useTemporaryFolders } from '../test/temporary-folder.ts'
import { KeyFile, wrappingKeyOf } from './key-file.ts'

const temporaryFolder = useTemporaryFolders()
const KEY = 'a-key-that-nobody-else-knows'

function setup(wrappingKey: Buffer | null) {
  const folder = temporaryFolder()
  const path = join(folder, 'server-key.json')
  const lines: string[] = []
  const open = (key = wrappingKey) => new KeyFile(path, key, (_level, text) => lines.push(text))
  return { folder, path, lines, open }
}

test.skipIf(process.platform === 'win32')('is readable by its user only, also where a partial file was left behind', () => {
  const { folder, path, open } = setup(null)
  expect(open().read()).toBeNull()
  writeFileSync(`${path}.new`, 'left behind', { mode: 0o644 })
  open().write(KEY)
  expect([statSync(path).mode & 0o777, readdirSync(folder), open().read()]).toEqual([0o600, ['server-key.json'], KEY])
})

test('with a key from the keychain the file holds nothing of it, and opens with that key only', () => {
  const { path, open, lines } = setup(randomBytes(32))
  open().write(KEY)
  expect(readFileSync(path, 'utf8')).not.toContain(KEY)
  expect(readFileSync(path, 'utf8')).not.toContain(Buffer.from(KEY).toString('base64').slice(0, 12))
  expect([open().read(), open(randomBytes(32)).read(), open(null).read()]).toEqual([KEY, null, null])
  expect(lines.length).toBe(2)
})

test('a damaged file is as good as none, and what it holds is not told', () => {
  const { path, open, lines } = setup(null)
  writeFileSync(path, `{"cipher":"none","key":"${KEY}"`)
  expect(open().read()).toBeNull()
  expect([lines.length, lines.join().includes(KEY)]).toEqual([1, false])
})

test('the environment gives 32 bytes or none', () => {
  const bytes = randomBytes(32)
  expect([wrappingKeyOf(bytes.toString('base64')), wrappingKeyOf('short'), wrappingKeyOf(undefined)]).toEqual([bytes, null, null])
})
