/** Settings, section by section. */
import { expect, type Locator, type Page } from '@playwright/test'

export const SETTINGS_SECTIONS = ['General', 'Models', 'Evaluation', 'Shortcuts', 'Privacy', 'About'] as const

export class SettingsPage {
  readonly page: Page
  readonly sections: Locator

  constructor(page: Page) {
    this.page = page
    this.sections = page.getByRole('navigation', { name: 'Settings' })
  }

  /** The section that says so must be open. */
  async measureAfterwards(what: 'Perplexity and drift' | 'Tasks' | 'Throughput', on: boolean): Promise<void> {
    const found = this.page.getByRole('switch', { name: what })
    if (((await found.getAttribute('aria-checked')) === 'true') !== on) await found.click()
    // It moves once the engine has kept it.
    await expect(found).toHaveAttribute('aria-checked', String(on))
  }

  async open(section: (typeof SETTINGS_SECTIONS)[number]): Promise<void> {
    await this.sections.getByRole('link', { name: section, exact: true }).click()
  }
}
