/** The original and its variants side by side. */
import type { Locator, Page } from '@playwright/test'

export class ComparePage {
  readonly page: Page
  readonly main: Locator
  readonly scatter: Locator
  readonly bars: Locator
  readonly figures: Locator
  readonly heatmap: Locator
  readonly softwareLabel: Locator
  readonly layers: Locator

  constructor(page: Page) {
    this.page = page
    this.main = page.getByRole('main')
    this.scatter = this.card('What it costs to be smaller')
    this.bars = page.getByRole('region', { name: 'Side by side' })
    this.figures = page.getByRole('table', { name: 'All figures' })
    this.heatmap = page.getByLabel(/^Error by layer and kind of tensor/)
    this.layers = this.card('Error of every layer')
    this.softwareLabel = page.getByText('software adapter', { exact: true })
  }

  /** A point of the chart, by the name that is drawn beside it. */
  point(title: string): Locator {
    return this.scatter.locator('svg text', { hasText: title })
  }

  row(metric: string): Locator {
    return this.figures.getByRole('row').filter({ has: this.page.getByRole('rowheader', { name: metric }) })
  }

  /** Opens the tensor of the largest error; resolves with its name. */
  async openWorstTensor(): Promise<string> {
    await this.layers.getByText('The same as a table').click()
    const worst = this.layers.getByRole('table', { name: 'Errors, worst first' }).getByRole('button').first()
    const name = await worst.innerText()
    // by keyboard: the jobs tray may lie over it
    await worst.press('Enter')
    return name
  }

  /** The two histograms of an opened tensor. */
  distribution(of: 'Original' | 'Compressed, read back'): Locator {
    return this.page.getByRole('img', { name: `${of}: distribution of the values` })
  }

  /** Of the opened tensor. */
  get raise(): Locator {
    return this.page.getByRole('button', { name: 'Raise this layer and re-run' })
  }

  /** Puts the only model of a server on the board. */
  async addServer(address: string, key: string): Promise<void> {
    await this.page.getByRole('button', { name: 'Add', exact: true }).click()
    await this.page.getByRole('menuitem', { name: /on a server/ }).click()
    await this.page.getByLabel('Address').fill(address)
    await this.page.getByLabel('API key').fill(key)
    await this.page.getByRole('button', { name: 'Add it' }).click()
  }

  /** Saves the report there. */
  async exportPage(path: string): Promise<void> {
    await this.page.getByRole('button', { name: 'Export' }).click()
    const download = this.page.waitForEvent('download')
    await this.page.getByRole('menuitem', { name: /web page/ }).click()
    await (await download).saveAs(path)
  }

  card(title: string): Locator {
    return this.page.locator('section', { has: this.page.getByRole('heading', { name: title, level: 2 }) })
  }
}
