/** First run, the library table and its drawer. */
import type { Locator, Page } from '@playwright/test'
import { FolderDialog } from './shell.ts'

export class ModelsPage {
  readonly page: Page
  readonly trySample: Locator
  readonly chooseFolder: Locator
  readonly table: Locator

  constructor(page: Page) {
    this.page = page
    this.trySample = page.getByRole('button', { name: 'Try the sample' })
    this.chooseFolder = page.getByRole('button', { name: 'Choose folder…' })
    this.table = page.getByRole('table', { name: 'Models' })
  }

  row(name: string): Locator {
    return this.table.getByRole('row', { name, exact: true })
  }

  /** The details beside the table, of the selected model. */
  drawer(name: string): Locator {
    return this.page.getByRole('complementary', { name, exact: true })
  }

  /** Through the dialog of the first run, or that of the library once it has a model. */
  async importFolder(folder: string): Promise<void> {
    await this.openFolderDialog()
    await new FolderDialog(this.page).import(folder)
  }

  async openFolderDialog(): Promise<void> {
    await this.chooseFolder.or(this.page.getByRole('button', { name: 'Import…', exact: true })).click()
  }
}
