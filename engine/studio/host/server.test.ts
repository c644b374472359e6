/** Each attack of specs/electron-and-rpc.md §12 as a test against a real socket, and beside it the request that must still work. */
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createORPCClient } from '@orpc/client'
import { RPCLink } from '@orpc/client/websocket'
import { eventIterator, os, type RouterClient } from '@orpc/server'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { z } from 'zod'
import { startHost, type Host } from './server.ts'
import { createToken } from './session.ts'

let streamEnded = Promise.withResolvers<boolean>()
const router = {
  echo: os.input(z.object({ text: z.string() })).handler(({ input }) => input.text),
  count: os.output(eventIterator(z.number())).handler(async function* ({ signal }) {
    try {
      yield 1
      yield 2
      await once(signal!, 'abort')
    } finally {
      streamEnded.resolve(signal!.aborted)
    }
  }),
}

let folder: string
let host: Host
let log: string[]

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lathe-host-'))
  const page = join(folder, 'renderer')
  mkdirSync(join(page, 'assets'), { recursive: true })
  writeFileSync(join(page, 'index.html'), '<!doctype html><title>Lathe</title>')
  writeFileSync(join(page, 'assets', 'main-1a2b.js'), 'export {}')
  writeFileSync(join(page, 'with space.txt'), 'spaced')
  writeFileSync(join(folder, 'secret.txt'), 'secret')
  symlinkSync(join(folder, 'secret.txt'), join(page, 'link.txt'))
  host = await startHost({
    router,
    pageFolder: page,
    status: () => ({ runningJobs: 2 }),
    blob: async (id) => (id === 'known' ? { contentType: 'application/octet-stream', bytes: new Uint8Array([1, 2, 3]) } : null),
    log: (_level, text) => log.push(text),
  })
})
afterAll(async () => {
  await host.close()
  rmSync(folder, { recursive: true, force: true })
})
beforeEach(() => {
  log = []
  streamEnded = Promise.withResolvers<boolean>()
})

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

interface Ask {
  readonly method?: string
  readonly headers?: Record<string, string | string[]>
  readonly body?: string
}

/** A request with exactly these headers; `path` is sent as it is, without the clean-up that fetch does. */
function ask(path: string, { method = 'GET', headers = {}, body }: Ask = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port: host.port, path, method, headers }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() }),
      )
    })
    request.on('error', reject)
    request.end(body)
  })
}

const html = { Accept: 'text/html,*/*' }
const cookie = (): Record<string, string> => ({ Cookie: `${host.cookie}=${host.token}` })

/** What our own page sends when it posts the token. */
const session = (over: Record<string, string> = {}, body = JSON.stringify({ token: host.token })): Promise<Answer> =>
  ask('/session', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Origin: host.origin, 'Sec-Fetch-Site': 'same-origin', ...over },
    body,
  })

/** Opens a socket as a browser would; resolves with "open" or the refusal's status code. */
function handshake(headers: Record<string, string>, path = '/rpc'): Promise<'open' | number> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${host.port}${path}`, { headers })
    socket.once('open', () => {
      socket.terminate()
      resolve('open')
    })
    socket.once('unexpected-response', (request, response) => {
      request.destroy()
      resolve(response.statusCode ?? 0)
    })
    socket.once('error', reject)
  })
}

async function connectPage(): Promise<{ readonly client: RouterClient<typeof router>; readonly socket: WebSocket }> {
  const socket = new WebSocket(`ws://127.0.0.1:${host.port}/rpc`, { headers: { Origin: host.origin, ...cookie() } })
  await once(socket, 'open')
  return { client: createORPCClient(new RPCLink({ websocket: socket as unknown as globalThis.WebSocket })), socket }
}

describe('the page', () => {
  it('is served with every security header and without CORS', async () => {
    const answer = await ask('/', { headers: { ...html, 'Sec-Fetch-Site': 'none' } })
    expect(answer).toMatchObject({ status: 200, body: '<!doctype html><title>Lathe</title>' })
    const csp = String(answer.headers['content-security-policy'])
    expect(csp).toContain("default-src 'none'; script-src 'self'; style-src 'self'")
    expect(csp).toContain(`connect-src 'self' ws://127.0.0.1:${host.port} ws://localhost:${host.port}`)
    expect(csp).not.toMatch(/unsafe|\*/)
    expect(answer.headers).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-cache',
      'x-content-type-options': 'nosniff',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
      'cross-origin-resource-policy': 'same-origin',
      'referrer-policy': 'no-referrer',
    })
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
  })

  it('cannot be framed', async () => {
    const { headers } = await ask('/', { headers: html })
    expect(String(headers['content-security-policy'])).toContain("frame-ancestors 'none'")
    expect(headers['x-frame-options']).toBe('DENY')
    const framed = { 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Dest': 'iframe' }
    expect((await ask('/', { headers: { ...html, ...framed } })).status).toBe(403)
  })

  it('answers its screens with the document, hashed files with a long life, and anything else with 404', async () => {
    expect((await ask('/models/some.id', { headers: html })).body).toContain('<title>Lathe</title>')
    expect(await ask('/assets/main-1a2b.js')).toMatchObject({
      status: 200,
      headers: { 'content-type': 'text/javascript; charset=utf-8', 'cache-control': 'public, max-age=31536000, immutable' },
    })
    expect((await ask('/with%20space.txt')).body).toBe('spaced')
    expect((await ask('/assets/missing.js', { headers: html })).status).toBe(404)
    expect((await ask('/models/some.id', { headers: { Accept: '*/*' } })).status).toBe(404)
    expect(await ask('/', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' })
  })

  it('opens from a link of another site, but no other site can use its files', async () => {
    const link = { 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Dest': 'document' }
    expect((await ask('/', { headers: { ...html, ...link } })).status).toBe(200)
    const script = { 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors', 'Sec-Fetch-Dest': 'script' }
    expect((await ask('/assets/main-1a2b.js', { headers: script })).status).toBe(403)
  })

  it.each([
    '/../secret.txt',
    '/assets/../../secret.txt',
    '/..%2fsecret.txt',
    '/%2e%2e/secret.txt',
    '/%2e%2e%2fsecret.txt',
    '/..\\secret.txt',
    '/..%5csecret.txt',
    '/assets/..%00/secret.txt',
    '//secret.txt',
    '/%ff',
    '/%',
    '/link.txt',
    '//[',
    '/.',
  ])('serves nothing outside its folder: %s', async (path) => {
    const answer = await ask(path)
    expect(answer.status).toBe(404)
    expect(answer.body).not.toContain('secret')
    // As a document the same path is at most a screen of the page.
    expect((await ask(path, { headers: html })).body).toMatch(/<title>Lathe<\/title>|There is no such file/)
  })

  it('says that it is not built instead of showing nothing', async () => {
    const bare = await startHost({ router, pageFolder: join(folder, 'absent'), status: () => ({}), log: () => {} })
    const response = await fetch(bare.origin)
    expect(response.status).toBe(503)
    expect(await response.text()).toContain('npm run build')
    await bare.close()
  })
})

describe('DNS rebinding', () => {
  it.each(['evil.example', 'evil.example:PORT', '127.0.0.1', '127.0.0.1:1', 'localhost.evil.example:PORT', '127.0.0.1:PORT.evil.example'])(
    'refuses the Host %s',
    async (name) => {
      const Host = name.replace('PORT', String(host.port))
      expect((await ask('/', { headers: { ...html, Host } })).status).toBe(403)
      expect((await ask('/status', { headers: { ...cookie(), Host } })).status).toBe(403)
      expect(await handshake({ Host, Origin: `http://${Host}`, ...cookie() })).toBe(403)
    },
  )

  it('accepts both names of the bound address', async () => {
    for (const name of ['127.0.0.1', 'localhost']) {
      expect((await ask('/', { headers: { ...html, Host: `${name}:${host.port}` } })).status).toBe(200)
    }
  })

  it('refuses an absolute request target, a second Host and a missing one', async () => {
    expect((await ask('http://evil.example/')).status).toBe(400)
    expect(await raw(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${host.port}\r\nHost: evil.example\r\nConnection: close\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 40[03]/,
    )
    expect(await raw('GET / HTTP/1.1\r\nConnection: close\r\n\r\n')).toMatch(/^HTTP\/1.1 400/)
    expect(await raw('GET / HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1.1 403/)
    expect(await raw('GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n')).toMatch(/^HTTP\/1.1 40[03]/)
  })
})

/** Sends bytes as they are and resolves with the whole answer. */
function raw(bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(host.port, '127.0.0.1', () => socket.write(bytes))
    let answer = ''
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => (answer += chunk))
    socket.on('end', () => resolve(answer))
    socket.on('error', reject)
  })
}

describe('the session', () => {
  it('trades the token for a cookie that scripts and other sites never see', async () => {
    const answer = await session()
    expect(answer.status).toBe(204)
    expect(answer.headers['set-cookie']).toEqual([`lathe-${host.port}=${host.token}; Path=/; HttpOnly; SameSite=Strict`])
    expect(host.token).toMatch(/^[\w-]{43}$/)
  })

  it('refuses a wrong token, whatever its length, and sets no cookie', async () => {
    for (const token of ['', 'x', createToken(), `${host.token}x`, host.token.slice(1)]) {
      const answer = await session({}, JSON.stringify({ token }))
      expect(answer.status).toBe(403)
      expect(answer.headers['set-cookie']).toBeUndefined()
      expect(answer.body).not.toContain(host.token)
    }
  })

  it.each([
    ['a form post of another site', { Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site', 'Content-Type': 'text/plain' }, 403],
    ['a script of another site', { Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' }, 403],
    ['a page on another port of this machine', { Origin: 'http://127.0.0.1:1', 'Sec-Fetch-Site': 'same-site' }, 403],
    ['a sandboxed frame', { Origin: 'null' }, 403],
    ['an Origin over TLS', { Origin: 'https://127.0.0.1:PORT' }, 403],
    ['an Origin that only begins like ours', { Origin: 'http://127.0.0.1:PORT.evil.example' }, 403],
    ['a form content type', { 'Content-Type': 'application/x-www-form-urlencoded' }, 415],
    ['text/plain that holds JSON', { 'Content-Type': 'text/plain' }, 415],
  ])('refuses %s', async (_name, headers, status) => {
    const filled = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, String(value).replace('PORT', String(host.port))]),
    )
    const answer = await session(filled)
    expect(answer.status).toBe(status)
    expect(answer.headers['set-cookie']).toBeUndefined()
  })

  it('refuses a post without an Origin', async () => {
    const headers = { 'Content-Type': 'application/json' }
    expect((await ask('/session', { method: 'POST', headers, body: JSON.stringify({ token: host.token }) })).status).toBe(403)
  })

  it('refuses an oversize body, announced or not', async () => {
    const big = JSON.stringify({ token: 'x'.repeat(5000) })
    expect((await session({}, big)).status).toBe(413)
    expect((await session({ 'Transfer-Encoding': 'chunked' }, big)).status).toBe(413)
  })

  it.each(['', '{', '[]', '"x"', '{"token":1}', 'null'])('refuses the body %j', async (body) => {
    expect((await session({}, body)).status).toBe(400)
  })

  it('grants no preflight and takes no other method', async () => {
    const preflight = { Origin: 'https://evil.example', 'Access-Control-Request-Method': 'POST' }
    const answer = await ask('/session', { method: 'OPTIONS', headers: preflight })
    expect(answer.status).toBe(405)
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
    for (const method of ['PUT', 'DELETE', 'PATCH', 'TRACE']) expect((await ask('/', { method })).status).toBe(405)
  })

  it('changes nothing on GET: the session path is only a screen there', async () => {
    const answer = await ask(`/session?token=${host.token}`, { headers: html })
    expect(answer.headers['set-cookie']).toBeUndefined()
    expect((await ask('/', { method: 'POST', headers: { Origin: host.origin, ...cookie() } })).status).toBe(405)
  })

  it('writes neither tokens nor control characters into the log', async () => {
    await session({}, JSON.stringify({ token: createToken() }))
    await raw(`GET /a\x01${'b'.repeat(300)} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n`)
    await ask(`/${'b'.repeat(300)}`, { headers: { Host: 'evil.example' } })
    expect(log.length).toBeGreaterThanOrEqual(2)
    expect(log.join('\n')).not.toContain(host.token)
    expect(log.every((line) => /^[\x20-\x7e]{1,160}$/.test(line))).toBe(true)
  })
})

describe('status and blobs', () => {
  it('need the session, by cookie or by bearer', async () => {
    expect((await ask('/status')).status).toBe(403)
    expect((await ask('/blob/known')).status).toBe(403)
    expect((await ask('/status', { headers: { Cookie: `lathe-1=${host.token}` } })).status).toBe(403)
    expect((await ask('/status', { headers: { Authorization: `Bearer ${createToken()}` } })).status).toBe(403)
    expect((await ask('/status', { headers: { Authorization: host.token } })).status).toBe(403)
    expect((await ask('/status', { headers: cookie() })).body).toBe('{"runningJobs":2}')
    expect((await ask('/status', { headers: { Authorization: `Bearer ${host.token}` } })).body).toBe('{"runningJobs":2}')
    const both = { Cookie: `other=1; ${host.cookie}=wrong; ${host.cookie}=${host.token}` }
    expect((await ask('/status', { headers: both })).status).toBe(200)
  })

  it('are not for a page of another port, although it is the same site for cookies', async () => {
    expect((await ask('/status', { headers: { ...cookie(), 'Sec-Fetch-Site': 'same-site' } })).status).toBe(403)
    expect((await ask('/status', { headers: { ...cookie(), Origin: 'http://127.0.0.1:1' } })).status).toBe(403)
  })

  it('hands out bytes by id and knows no other names', async () => {
    const answer = await ask('/blob/known', { headers: cookie() })
    expect(answer).toMatchObject({ status: 200, body: '\x01\x02\x03', headers: { 'cache-control': 'no-store', 'content-length': '3' } })
    for (const id of ['', 'unknown', '../secret.txt', 'a'.repeat(200), 'a/b', 'a%2fb']) {
      expect((await ask(`/blob/${id}`, { headers: cookie() })).status).toBe(404)
    }
  })
})

describe('the socket', () => {
  it('carries calls and streams, and ends a stream when the page leaves', async () => {
    const { client, socket } = await connectPage()
    expect(await client.echo({ text: 'ä✓' })).toBe('ä✓')
    const stream = await client.count()
    expect([(await stream.next()).value, (await stream.next()).value]).toEqual([1, 2])
    socket.terminate()
    expect(await streamEnded.promise).toBe(true)
  })

  it('takes the token as a bearer too', async () => {
    expect(await handshake({ Origin: host.origin, Authorization: `Bearer ${host.token}` })).toBe('open')
  })

  it.each([
    ['a page of another site with our cookie', { Origin: 'https://evil.example' }],
    ['a page on another port', { Origin: 'http://localhost:1' }],
    ['a sandboxed frame', { Origin: 'null' }],
    ['another site that a browser names', { Origin: 'OURS', 'Sec-Fetch-Site': 'cross-site' }],
    ['no Origin at all', {}],
  ])('refuses %s', async (_name, headers) => {
    const filled = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value === 'OURS' ? host.origin : value]))
    expect(await handshake({ ...filled, ...cookie() })).toBe(403)
  })

  it('refuses a missing, wrong or foreign token', async () => {
    expect(await handshake({ Origin: host.origin })).toBe(403)
    expect(await handshake({ Origin: host.origin, Cookie: `${host.cookie}=${createToken()}` })).toBe(403)
    expect(await handshake({ Origin: host.origin, Cookie: `lathe-1=${host.token}` })).toBe(403)
    expect(await handshake({ Origin: host.origin, Authorization: `Bearer ${createToken()}`, ...cookie() })).toBe(403)
  })

  it('exists at one path only', async () => {
    for (const path of ['/', '/rpc/', '/rpc/x', '//rpc', '/RPC', '//['])
      expect(await handshake({ Origin: host.origin, ...cookie() }, path)).toBe(403)
  })

  it('cuts a message that is too large, and only that client', async () => {
    const [bad, good] = [await connectPage(), await connectPage()]
    bad.socket.send('x'.repeat(9 * 2 ** 20))
    const [code] = await once(bad.socket, 'close')
    expect(code).toBe(1009)
    expect(await good.client.echo({ text: 'still here' })).toBe('still here')
    good.socket.terminate()
  })

  it('survives a message that is not ours', async () => {
    const { client, socket } = await connectPage()
    for (const junk of ['', '{', '[]', '{"i":"1","t":1}', Buffer.from([0, 255, 1])]) socket.send(junk)
    expect(await client.echo({ text: 'still here' })).toBe('still here')
    socket.terminate()
  })
})

describe('binding', () => {
  it('is loopback only: no other address of this machine answers', async () => {
    const others = Object.values(networkInterfaces())
      .flat()
      .filter((address) => address !== undefined && !address.internal && address.family === 'IPv4')
      .map((address) => address!.address)
    for (const address of [...others, '127.0.0.2']) {
      const socket = connect(host.port, address)
      const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
      expect(error.code).toMatch(/ECONNREFUSED|EADDRNOTAVAIL|EHOSTUNREACH|ETIMEDOUT/)
    }
  })

  it('names a taken port', async () => {
    const options = { router, pageFolder: folder, status: () => ({}), log: () => {} }
    await expect(startHost({ ...options, port: host.port })).rejects.toMatchObject({ code: 'host.port-in-use' })
  })

  it('refuses a token that is too weak', async () => {
    const options = { router, pageFolder: folder, status: () => ({}), log: () => {} }
    await expect(startHost({ ...options, token: 'secret' })).rejects.toMatchObject({ code: 'request.invalid' })
  })

  it('closes with its clients, even one that does not answer', async () => {
    const second = await startHost({ router, pageFolder: folder, status: () => ({}), log: () => {} })
    const headers = { Origin: second.origin, Authorization: `Bearer ${second.token}` }
    const polite = new WebSocket(`ws://127.0.0.1:${second.port}/rpc`, { headers })
    const silent = new WebSocket(`ws://127.0.0.1:${second.port}/rpc`, { headers })
    await Promise.all([once(polite, 'open'), once(silent, 'open')])
    silent.pause()
    const closed = once(polite, 'close')
    await second.close()
    expect((await closed)[0]).toBe(1001)
    silent.terminate()
  })
})
