/**
 * Who may talk to the studio's origin at all, decided from the request line and headers alone, before any route sees the request.
 * A loopback server is reachable by every web page that the user opens; the rules are those of specs/electron-and-rpc.md §12:
 * exact Host (against DNS rebinding), exact Origin on everything that could change state and on every upgrade (WebSockets know no same-origin
 * policy), and the browser's own statement of where a request comes from. It knows nothing of tokens; those are in session.ts.
 */
import type { IncomingMessage } from 'node:http'

export interface Refusal {
  readonly status: 400 | 403 | 405
  /** For the log and the response; says which rule, never what a correct value would be. */
  readonly reason: string
}

/** Names under which the bound address can be reached. Nothing else is accepted, not even other names of this machine. */
export function allowedHosts(port: number): readonly string[] {
  return [`127.0.0.1:${port}`, `localhost:${port}`]
}

/** Null when the request may go on. `kind` is "upgrade" for a WebSocket handshake. */
export function refuseRequest(request: IncomingMessage, port: number, kind: 'request' | 'upgrade'): Refusal | null {
  const { method = '', url = '', headers } = request
  const hosts = allowedHosts(port)
  if (!['GET', 'HEAD', 'POST'].includes(method)) return { status: 405, reason: `method ${method} is not used here` }
  // An absolute-form target ("GET http://other/") names its own host and would sidestep the Host rule.
  if (!url.startsWith('/')) return { status: 400, reason: 'request target is not a path' }
  if (request.headersDistinct['host']?.length !== 1 || !hosts.includes(headers.host ?? '')) {
    return { status: 403, reason: 'Host is not this server' }
  }
  const origins = hosts.map((host) => `http://${host}`)
  const { origin } = headers
  if (origin === undefined) {
    if (kind === 'upgrade' || method === 'POST') return { status: 403, reason: 'Origin is missing' }
  } else if (!origins.includes(origin)) return { status: 403, reason: 'Origin is not this server' }
  const site = headers['sec-fetch-site']
  if (site === undefined || site === 'same-origin' || site === 'none') return null
  // A link from a web page or a web terminal may open the studio in a tab of its own: the page holds no secret, and its requests are its own.
  const opensTab = method === 'GET' && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'
  return opensTab && kind === 'request' ? null : { status: 403, reason: 'request comes from another site' }
}

/**
 * Headers of every response. The page needs no inline script, no eval, no other origin; nothing may frame it or read it from elsewhere.
 * The WebSocket is named because older browsers don't count it as 'self'.
 */
export function securityHeaders(port: number): Readonly<Record<string, string>> {
  const sockets = allowedHosts(port).map((host) => `ws://${host}`)
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob:",
    "font-src 'self'",
    `connect-src 'self' ${sockets.join(' ')}`,
    "worker-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ]
  return {
    'Content-Security-Policy': policy.join('; '),
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(), microphone=(), geolocation=(), usb=(), serial=(), hid=()',
  }
}
