/** One model in full. */
import type { Locator, Page } from '@playwright/test'

export class InspectorPage {
  readonly page: Page
  readonly title: Locator
  readonly optimize: Locator
  readonly tensors: Locator
  readonly histogram: Locator
  readonly text: Locator
  readonly tokens: Locator

  constructor(page: Page) {
    this.page = page
    this.title = page.getByRole('heading', { level: 1 })
    // The link of the header, not that of the rail.
    this.optimize = page.getByRole('main').getByRole('link', { name: 'Optimize' })
    this.tensors = page.getByRole('treegrid', { name: 'Tensors by layer' })
    this.histogram = page.getByRole('img', { name: /^Distribution of the values/ })
    this.text = page.getByRole('textbox', { name: 'Text' })
    this.tokens = page.getByLabel('Tokens', { exact: true })
  }

  async open(tab: 'Overview' | 'Tensors' | 'Tokenizer' | 'Files'): Promise<void> {
    await this.page.getByRole('tab', { name: tab }).click()
  }

  /** A fact by its name: the value that stands beside it. */
  fact(name: string): Locator {
    return this.page.locator('dl > div', { has: this.page.locator('dt', { hasText: name }) }).locator('dd')
  }
}
