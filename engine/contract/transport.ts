/**
 * Where the parts of the studio's own origin live; the page and the server read the same names, so neither can drift.
 * Any other GET path without a file behind it is a screen of the page and answers with index.html: the page keeps its view state in the path.
 */

/** WebSocket upgrade that carries every procedure and stream. */
export const RPC_PATH = '/rpc'

/** POST `{token}` as JSON; answers 204 with an HttpOnly cookie, 403 when the token is wrong. */
export const SESSION_PATH = '/session'

/** GET with the session cookie, or with `Authorization: Bearer <token>` from a shell: `{version, pid, runningJobs}`. */
export const STATUS_PATH = '/status'

/** GET `/blob/<id>` with the session cookie: bytes too large or too numeric for JSON. */
export const BLOB_PATH = '/blob/'

/** The first line that the engine process prints on stdout is one of these two as JSON. */
export interface EngineReady {
  readonly origin: string
  /** Name of the session cookie; its value is the token. Cookies ignore ports, so the name carries the port. */
  readonly cookie: string
  /** Present only when the engine chose the token itself. */
  readonly token?: string
}
export interface EngineFailed {
  readonly error: { readonly code: string; readonly message: string; readonly hint: string }
}
