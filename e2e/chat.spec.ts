/** Chat with the sample model on the real engine: an answer with its figures, Stop, and an engine that dies in the middle of a sentence. */
import { expect, test } from './fixtures.ts'

test('answers, stops, and loses nothing when the engine dies', async ({ studio }) => {
  const { page } = studio
  await page.getByRole('button', { name: 'Try the sample' }).click()
  await expect(page.getByRole('heading', { level: 1 })).toContainText('Pebble')
  await page.getByRole('link', { name: 'Chat', exact: true }).first().click()
  const composer = page.getByRole('textbox', { name: 'Message' })
  const answers = page.getByRole('article', { name: /^Answer of/ })
  await composer.fill('What kind of pet does Gus have? Answer briefly.')
  await composer.press('Enter')
  await expect(answers.first()).toContainText(/TTFT .*prefill .*decode .*finished.*seed \d+.*software adapter/s, { timeout: 60_000 })
  await expect(composer).toHaveValue('')

  await composer.fill('Tell me a long story about Tidewater.')
  await composer.press('Enter')
  await expect(answers.nth(1)).toContainText(/\d+ tokens/)
  await page.keyboard.press('Escape')
  await expect(answers.nth(1)).toContainText('stopped early')

  await page.getByRole('button', { name: 'Regenerate answer' }).last().click()
  await expect(answers.nth(1)).toContainText(/\d+ tokens/)
  studio.expectErrors(/WebSocket|Failed to load/)
  await studio.restartEngine()
  await expect(answers.nth(1)).toContainText(/kept above|Lathe closed while/)
  await page.getByRole('button', { name: 'Try again' }).click()
  await expect(answers.nth(1)).toContainText(/seed \d+/, { timeout: 60_000 })
  await expect(page.getByRole('article', { name: 'You' })).toHaveCount(2)
  await page.reload()
  await expect(answers.nth(1)).toContainText(/seed \d+/)
})
