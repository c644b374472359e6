/** Settings, section by section. */
import type { Locator, Page } from '@playwright/test'

export const SETTINGS_SECTIONS = ['General', 'Models', 'Evaluation', 'Shortcuts', 'Privacy', 'About'] as const

export class SettingsPage {
  readonly sections: Locator

  constructor(page: Page) {
    this.sections = page.getByRole('navigation', { name: 'Settings' })
  }

  async open(section: (typeof SETTINGS_SECTIONS)[number]): Promise<void> {
    await this.sections.getByRole('link', { name: section, exact: true }).click()
  }
}
