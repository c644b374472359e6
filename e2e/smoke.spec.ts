/** The studio opens, keeps its secret, and survives the death of its engine. */
import { expect, test } from './fixtures.ts'

test('opens logged in, with the token out of sight', async ({ studio }) => {
  const { page, origin } = studio
  await expect(page).toHaveTitle(/Lathe/)
  await expect(page.getByRole('navigation').first()).toBeVisible()
  await expect(page.getByText('Models').first()).toBeVisible()
  expect(page.url()).not.toContain('t=')
  expect(await page.evaluate(() => document.cookie)).toBe('')
  const status = await page.evaluate(async () => (await fetch('/status')).json())
  expect(status).toMatchObject({ runningJobs: 0 })
  const [cookie] = await page.context().cookies(origin)
  expect(cookie).toMatchObject({ name: `lathe-${new URL(origin).port}`, httpOnly: true, sameSite: 'Strict' })
})

test('is isolated and runs under its content security policy', async ({ studio }) => {
  const { page } = studio
  await expect(page.getByRole('navigation').first()).toBeVisible()
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true)
  studio.expectErrors(/Content Security Policy/)
  const ran = await page.evaluate(() => {
    const script = document.createElement('script')
    script.textContent = 'window.injected = true'
    document.body.append(script)
    const image = document.createElement('img')
    image.src = 'https://example.invalid/leak.png'
    document.body.append(image)
    return 'injected' in window
  })
  expect(ran).toBe(false)
})

test('reconnects by itself when the engine dies and comes back', async ({ studio }) => {
  const { page } = studio
  await expect(page.getByRole('navigation').first()).toBeVisible()
  const marker = await page.evaluate(() => {
    const value = Math.random()
    Object.assign(window, { marker: value })
    return value
  })
  const reconnected = new Promise<void>((resolve) => page.on('websocket', (socket) => socket.once('framereceived', () => resolve())))
  await studio.restartEngine()
  await reconnected
  // Still the same document: nothing that the user had typed is lost.
  expect(await page.evaluate(() => (window as unknown as { marker: number }).marker)).toBe(marker)
})
