/**
 * The key of the studio's server, in a file of its own that only its user may read. Users copy it again and again into their clients, so a hash would
 * not do. Where the shell offers the system's keychain, the file is encrypted with a key from there (AES-256-GCM) and worth nothing without it;
 * elsewhere the file's mode is what protects it, as with ~/.ssh. Never part of settings, views, events, logs or diagnostics.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import type { Log } from '../ports.ts'

/** Read and write for their user, nothing for anybody else. Windows keeps the folder's own list instead. */
const PRIVATE = 0o600
export const WRAPPING_KEY_BYTES = 32
/** What GCM is specified for. */
const NONCE_BYTES = 12

const FileSchema = z.discriminatedUnion('cipher', [
  z.object({ cipher: z.literal('none'), key: z.string().min(1) }),
  z.object({ cipher: z.literal('aes-256-gcm'), nonce: z.string(), tag: z.string(), key: z.string() }),
])

export class KeyFile {
  readonly #path: string
  readonly #wrappingKey: Buffer | null
  readonly #log: Log

  /** `wrappingKey` null = the shell has no keychain. */
  constructor(path: string, wrappingKey: Buffer | null, log: Log) {
    this.#path = path
    this.#wrappingKey = wrappingKey
    this.#log = log
  }

  /** null = there is none, or it can't be read: then a new one is made at the next start, which the log says. */
  read(): string | null {
    if (!existsSync(this.#path)) return null
    try {
      const file = FileSchema.parse(JSON.parse(readFileSync(this.#path, 'utf8')))
      if (file.cipher === 'none') return file.key
      if (this.#wrappingKey === null) throw new Error('it is locked with the keychain of the desktop app')
      const decipher = createDecipheriv('aes-256-gcm', this.#wrappingKey, Buffer.from(file.nonce, 'base64'))
      decipher.setAuthTag(Buffer.from(file.tag, 'base64'))
      return Buffer.concat([decipher.update(Buffer.from(file.key, 'base64')), decipher.final()]).toString('utf8')
    } catch (error) {
      // The message of a JSON error quotes what it could not read.
      const why = error instanceof SyntaxError || error instanceof z.ZodError ? 'the file is damaged' : String(error)
      this.#log('warn', `The server's key could not be read (${why}). A new one is made when the server starts.`)
      return null
    }
  }

  /** Whole or not at all. */
  write(key: string): void {
    const partial = `${this.#path}.new`
    writeFileSync(partial, JSON.stringify(this.#sealed(key)), { mode: PRIVATE })
    // The mode above is for new files only; one that was left behind keeps its own.
    chmodSync(partial, PRIVATE)
    renameSync(partial, this.#path)
  }

  #sealed(key: string): z.infer<typeof FileSchema> {
    if (this.#wrappingKey === null) return { cipher: 'none', key }
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv('aes-256-gcm', this.#wrappingKey, nonce)
    const sealed = Buffer.concat([cipher.update(key, 'utf8'), cipher.final()])
    return {
      cipher: 'aes-256-gcm',
      nonce: nonce.toString('base64'),
      tag: cipher.getAuthTag().toString('base64'),
      key: sealed.toString('base64'),
    }
  }
}

/** From the environment of the engine; null = absent or no such key. */
export function wrappingKeyOf(text: string | undefined): Buffer | null {
  const key = Buffer.from(text ?? '', 'base64')
  return key.length === WRAPPING_KEY_BYTES ? key : null
}
