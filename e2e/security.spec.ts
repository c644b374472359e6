/**
 * What a hostile page in the user's own, logged-in browser can do to the studio: nothing. The rules are tested header by header in
 * engine/studio/host/server.test.ts; here a real Chromium decides which headers and cookies an attack carries.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, test } from './fixtures.ts'

/** A site on this machine, which is the same "site" as the studio for cookies: the hardest case, as SameSite=Strict does not help. */
async function hostileSite(): Promise<{ readonly origin: string; readonly server: Server }> {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html' }).end('<!doctype html><title>hostile</title><body></body>')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server }
}

test('a hostile page in the same browser gets neither socket, data, frame, script nor session', async ({ studio, shell }) => {
  test.skip(shell === 'electron', 'the window shows no other site')
  const { origin } = studio
  const { origin: hostile, server } = await hostileSite()
  const page = await studio.page.context().newPage()
  await page.goto(hostile)
  const socketUrl = `${origin.replace('http', 'ws')}/rpc`

  const opened = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url)
        socket.addEventListener('open', () => resolve('open'))
        socket.addEventListener('error', () => resolve('refused'))
      }),
    socketUrl,
  )
  expect(opened).toBe('refused')

  for (const mode of ['cors', 'no-cors'] as const) {
    const read = await page.evaluate(
      ([url, how]) =>
        fetch(url, { mode: how, credentials: 'include' }).then(
          () => 'readable',
          () => 'refused',
        ),
      [`${origin}/status`, mode] as const,
    )
    expect(read).toBe('refused')
  }

  const script = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const element = document.createElement('script')
        element.addEventListener('load', () => resolve('ran'))
        element.addEventListener('error', () => resolve('refused'))
        element.src = url
        document.body.append(element)
      }),
    `${origin}/theme.js`,
  )
  expect(script).toBe('refused')

  await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const frame = document.createElement('iframe')
        frame.addEventListener('load', resolve)
        frame.src = url
        document.body.append(frame)
      }),
    origin,
  )
  expect(page.frames().map((frame) => frame.url())).toEqual([`${hostile}/`, 'chrome-error://chromewebdata/'])

  const posted = page.waitForResponse(`${origin}/session`)
  await page.evaluate((url) => {
    const form = document.createElement('form')
    Object.assign(form, { method: 'post', action: url, enctype: 'text/plain' })
    const field = document.createElement('input')
    Object.assign(field, { name: '{"token":"', value: 'x"}' })
    form.append(field)
    document.body.append(form)
    form.submit()
  }, `${origin}/session`)
  expect((await posted).status()).toBe(403)
  await page.waitForURL(`${origin}/session`)

  // A link is all that is left to it, and that only opens the studio in a tab of its own.
  await page.goto(hostile)
  const opens = page.waitForResponse(`${origin}/`)
  await page.evaluate((url) => window.location.assign(url), `${origin}/`)
  expect((await opens).status()).toBe(200)
  await page.close()
  server.close()
})

test('a name that is made to point here reaches nothing', async ({ studio, shell }) => {
  test.skip(shell === 'electron', 'the window shows no other site')
  const page = await studio.page.context().newPage()
  // The fixture's browser resolves this name to 127.0.0.1, as a rebinding DNS server would.
  const response = await page.goto(`http://rebound.test:${new URL(studio.origin).port}/`)
  expect(response?.status()).toBe(403)
  await page.close()
})

test('without the token the page opens but stays outside', async ({ studio, shell, chromiumBrowser }) => {
  test.skip(shell === 'electron', 'the window always has the session')
  const stranger = await chromiumBrowser.newContext()
  const page = await stranger.newPage()
  await page.goto(studio.origin)
  expect(await page.evaluate(async () => (await fetch('/status')).status)).toBe(403)
  const wrong = await page.evaluate(async () => {
    const headers = { 'Content-Type': 'application/json' }
    return (await fetch('/session', { method: 'POST', headers, body: JSON.stringify({ token: 'A'.repeat(43) }) })).status
  })
  expect(wrong).toBe(403)
  expect(await stranger.cookies()).toEqual([])
  await stranger.close()
})
