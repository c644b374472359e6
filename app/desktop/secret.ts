/**
 * A key from the system's keychain for what the engine must keep secret: made once, kept beside the window's memory in the form that only this
 * user's keychain opens, and handed to the engine for the length of its life. null where the system has no keychain that deserves the name.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'

/** What this needs of Electron's safeStorage. */
export interface Keychain {
  isEncryptionAvailable(): boolean
  /** On Linux; `basic_text` only looks like encryption. */
  getSelectedStorageBackend?(): string
  encryptString(text: string): Buffer
  decryptString(sealed: Buffer): string
}

const KEY_BYTES = 32

/** Base64 of 32 bytes. A file that does not open (another user, a restored backup) is replaced: the engine then makes a new server key. */
export function wrappingKey(path: string, keychain: Keychain): string | null {
  if (!keychain.isEncryptionAvailable() || keychain.getSelectedStorageBackend?.() === 'basic_text') return null
  if (existsSync(path)) {
    try {
      const key = keychain.decryptString(readFileSync(path))
      if (Buffer.from(key, 'base64').length === KEY_BYTES) return key
    } catch {
      // replaced below
    }
  }
  const key = randomBytes(KEY_BYTES).toString('base64')
  writeFileSync(path, keychain.encryptString(key), { mode: 0o600 })
  return key
}
