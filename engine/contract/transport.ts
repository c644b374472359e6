/**
 * Where the parts of the studio's own origin live; the page and the server read the same names, so neither can drift.
 * Any other GET path without a file behind it is a screen of the page and answers with index.html: the page keeps its view state in the path.
 */

/** WebSocket upgrade that carries every procedure and stream. */
export const RPC_PATH = '/rpc'

/** POST `{token}` as JSON; answers 204 with an HttpOnly cookie, 403 when the token is wrong. */
export const SESSION_PATH = '/session'
