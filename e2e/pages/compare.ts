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

  constructor(page: Page) {
    this.page = page
    this.main = page.getByRole('main')
    this.scatter = this.card('What it costs to be smaller')
    this.bars = page.getByRole('region', { name: 'Side by side' })
    this.figures = page.getByRole('table', { name: 'All figures' })
    this.heatmap = page.getByLabel(/^Error by layer and kind of tensor/)
    this.softwareLabel = page.getByText('software adapter', { exact: true })
  }

  /** A point of the chart, by the name that is drawn beside it. */
  point(title: string): Locator {
    return this.scatter.locator('svg text', { hasText: title })
  }

  row(metric: string): Locator {
    return this.figures.getByRole('row').filter({ has: this.page.getByRole('rowheader', { name: metric }) })
  }

  card(title: string): Locator {
    return this.page.locator('section', { has: this.page.getByRole('heading', { name: title, level: 2 }) })
  }
}
