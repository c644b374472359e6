/** The Server screen. */
import { expect } from '@playwright/test'
import type { Page } from '@playwright/test'

export class ServerPage {
  readonly #page: Page

  constructor(page: Page) {
    this.#page = page
  }

  /** Serves the model of that name on a free port, and resolves when it answers: to its address, with /v1, and its key. */
  async start(model: RegExp): Promise<{ readonly url: string; readonly key: string }> {
    const page = this.#page
    await page.getByRole('link', { name: 'Server', exact: true }).click()
    await page.getByRole('button', { name: /^Model to serve/ }).click()
    await page.getByRole('option', { name: model }).first().click()
    await page.getByRole('textbox', { name: 'Port' }).fill('0')
    const key = await page.getByLabel('API key').inputValue()
    await page.getByRole('button', { name: 'Start server' }).click()
    const address = page.getByText(/^http:\/\/127\.0\.0\.1:\d+\/v1$/)
    await expect(address).toBeVisible({ timeout: 60_000 })
    return { url: await address.innerText(), key }
  }
}
