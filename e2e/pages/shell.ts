/** What surrounds every screen: the rail, the connection banner, the folder dialog, the title. Everything is found by role and name, as a user finds it. */
import type { Locator, Page } from '@playwright/test'

export type Place = 'Models' | 'Optimize' | 'Compare' | 'Chat' | 'Jobs' | 'Settings'

export class ShellPage {
  readonly page: Page
  readonly rail: Locator
  readonly title: Locator
  readonly lostBanner: Locator

  constructor(page: Page) {
    this.page = page
    this.rail = page.getByRole('navigation', { name: 'Main' })
    this.title = page.getByRole('heading', { level: 1 })
    this.lostBanner = page.getByText(/The engine (stopped and is restarting|is still not answering)/)
  }

  async go(place: Place): Promise<void> {
    // Jobs counts the active ones in its name.
    await this.rail.getByRole('link', { name: new RegExp(`^${place}`) }).click()
  }

  async goToHardware(): Promise<void> {
    // Named after the adapter, whatever that is.
    await this.rail.locator('a[href="/hardware"]').click()
  }

  /** Chooses in a model picker: the button named `label`, then the model. */
  async pickModel(label: string | RegExp, model: string): Promise<void> {
    await this.page.getByRole('button', { name: label }).click()
    await this.page.getByRole('option', { name: model }).first().click()
  }

  toast(text: string | RegExp): Locator {
    return this.page.getByRole('dialog').or(this.page.getByRole('alertdialog')).filter({ hasText: text })
  }
}

/** The engine's folder browser, which a browser tab uses instead of a native dialog. */
export class FolderDialog {
  readonly dialog: Locator
  readonly path: Locator
  readonly importButton: Locator

  constructor(page: Page) {
    this.dialog = page.getByRole('dialog', { name: 'Choose a model folder' })
    this.path = this.dialog.getByRole('textbox', { name: 'Folder path' })
    this.importButton = this.dialog.getByRole('button', { name: 'Import this folder' })
  }

  async import(folder: string): Promise<void> {
    await this.path.fill(folder)
    await this.importButton.click()
  }
}
