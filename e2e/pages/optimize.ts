/** Presets with their predictions, and the start. */
import type { Locator, Page } from '@playwright/test'

export class OptimizePage {
  readonly page: Page
  readonly presets: Locator
  readonly start: Locator
  readonly recipe: Locator

  constructor(page: Page) {
    this.page = page
    this.presets = page.getByRole('region', { name: 'Presets' })
    this.recipe = page.getByRole('textbox', { name: 'Recipe as YAML' })
    this.start = page.getByRole('button', { name: /^(Run( \d+)? and compare|Start( \d+)?)$/ })
  }

  preset(title: string): Locator {
    return this.presets.getByRole('listitem', { name: title })
  }

  checkbox(title: string): Locator {
    return this.presets.getByRole('checkbox', { name: title })
  }

  /** Exactly these presets, whatever was chosen before. */
  async choose(...titles: readonly string[]): Promise<void> {
    // The list comes whole, so once one is there all are.
    await this.presets.getByRole('checkbox').first().waitFor()
    for (const checkbox of await this.presets.getByRole('checkbox').all()) {
      const title = (await checkbox.getAttribute('aria-label')) ?? ''
      if (((await checkbox.getAttribute('aria-checked')) === 'true') !== titles.includes(title)) await checkbox.click()
    }
  }

  /** Exactly this recipe of one's own, begun from a preset unless one is being written. */
  async writeRecipe(yaml: string): Promise<void> {
    if (!(await this.recipe.isVisible())) {
      await this.page.getByRole('combobox', { name: 'Start from a preset' }).click()
      await this.page.getByRole('option', { name: 'Quick 4-bit' }).click()
    }
    await this.recipe.fill(yaml)
  }

  async measure(what: 'Perplexity and drift' | 'Tasks' | 'Throughput', on: boolean): Promise<void> {
    await this.page.getByRole('switch', { name: what }).setChecked(on)
  }
}
