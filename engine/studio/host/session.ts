/**
 * The token of one run, and the cookie that carries it. Whoever has the token is the user; there are no other roles.
 * The page gets it in the fragment of its first address (a fragment never leaves the browser) and trades it for the cookie at SESSION_PATH.
 * Shells without a cookie jar send it as `Authorization: Bearer`.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { LatheError } from '../../contract/index.ts'

/** 256 bits: beyond guessing, so no attempt counter is needed. */
const TOKEN_BYTES = 32

/** base64url of 256 random bits. */
export function createToken(): string {
  return randomBytes(TOKEN_BYTES).toString('base64url')
}

/** Throws `request.invalid` for a token that a shell passed in and that is not 256 bits of base64url. */
export function assertToken(token: string): void {
  if (/^[\w-]{43}$/.test(token)) return
  throw new LatheError('request.invalid', 'The session token is not 256 bits of base64url.', 'Leave it out and the engine makes one.')
}

/** Cookies ignore ports, so two studios on one machine need two names. */
export function cookieName(port: number): string {
  return `lathe-${port}`
}

/** Not readable by scripts, never sent by another site; it ends with the browser session, and the token with the engine. */
export function sessionCookie(port: number, token: string): string {
  return `${cookieName(port)}=${token}; Path=/; HttpOnly; SameSite=Strict`
}

/** True when cookie or bearer holds the token. */
export function isAuthorized(headers: IncomingHttpHeaders, port: number, token: string): boolean {
  const bearer = /^Bearer (\S+)$/.exec(headers.authorization ?? '')?.[1]
  if (bearer !== undefined) return equalsToken(bearer, token)
  const prefix = `${cookieName(port)}=`
  const cookies = (headers.cookie ?? '').split('; ').filter((cookie) => cookie.startsWith(prefix))
  return cookies.some((cookie) => equalsToken(cookie.slice(prefix.length), token))
}

/** Compares in a time that depends on neither content nor length: both sides are hashed first. */
export function equalsToken(candidate: string, token: string): boolean {
  return timingSafeEqual(sha256(candidate), sha256(token))
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
