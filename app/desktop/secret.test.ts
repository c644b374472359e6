import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { wrappingKey } from './secret.ts'
import type { Keychain } from './secret.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lathe-secret-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** Turns letters around, and knows its own by a mark. */
function keychain(user: string, backend = 'gnome_libsecret'): Keychain {
  return {
    isEncryptionAvailable: () => true,
    getSelectedStorageBackend: () => backend,
    encryptString: (text) => Buffer.from(`${user}:${[...text].toReversed().join('')}`),
    decryptString: (sealed) => {
      const [owner, text = ''] = sealed.toString().split(':')
      if (owner !== user) throw new Error('not yours')
      return [...text].toReversed().join('')
    },
  }
}

test('is made once, is not in the file, and is the same at the next start', () => {
  const path = join(folder, 'secret')
  const key = wrappingKey(path, keychain('ada'))!
  expect([Buffer.from(key, 'base64').length, wrappingKey(path, keychain('ada'))]).toEqual([32, key])
  expect(readFileSync(path, 'utf8')).not.toContain(key)
  expect(process.platform === 'win32' ? 0o600 : statSync(path).mode & 0o777).toBe(0o600)
})

test('what does not open, or holds something else, is replaced', () => {
  const path = join(folder, 'secret')
  const key = wrappingKey(path, keychain('ada'))
  const other = wrappingKey(path, keychain('bob'))
  expect(other).not.toBe(key)
  writeFileSync(path, keychain('bob').encryptString('short'))
  expect(Buffer.from(wrappingKey(path, keychain('bob'))!, 'base64').length).toBe(32)
})

test('there is none without a real keychain', () => {
  const path = join(folder, 'secret')
  expect(wrappingKey(path, keychain('ada', 'basic_text'))).toBeNull()
  expect(wrappingKey(path, { ...keychain('ada'), isEncryptionAvailable: () => false })).toBeNull()
})
