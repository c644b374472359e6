/** Chat: the threads at the left, the conversation, the composer. */
import type { Locator, Page } from '@playwright/test'

export class ChatPage {
  readonly threads: Locator
  readonly composer: Locator
  readonly stop: Locator
  readonly prompts: Locator
  readonly answers: Locator

  constructor(page: Page) {
    this.threads = page.getByRole('navigation', { name: 'Chats' })
    this.composer = page.getByRole('textbox', { name: 'Message' })
    this.stop = page.getByRole('button', { name: 'Stop' })
    this.prompts = page.getByRole('article', { name: 'You' })
    this.answers = page.getByRole('article', { name: /^Answer of / })
  }

  async send(text: string): Promise<void> {
    await this.composer.fill(text)
    await this.composer.press('Enter')
  }
}
