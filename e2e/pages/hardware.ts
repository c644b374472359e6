/** What this machine offers. */
import type { Locator, Page } from '@playwright/test'

export class HardwarePage {
  readonly adapters: Locator
  readonly copyDiagnostics: Locator

  constructor(page: Page) {
    this.adapters = page.getByRole('region', { name: 'Adapters' })
    this.copyDiagnostics = page.getByRole('button', { name: 'Copy diagnostics' })
  }
}
