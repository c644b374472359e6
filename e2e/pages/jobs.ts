/** The jobs' page. A job is an article named "model → preset". */
import type { Locator, Page } from '@playwright/test'

/** A word of the job's chip. */
export type JobWord = 'Queued' | 'Running' | 'Cancelled' | 'Failed' | 'Interrupted' | 'Done'

export class JobsPage {
  readonly page: Page

  constructor(page: Page) {
    this.page = page
  }

  job(title: string | RegExp): JobCard {
    return new JobCard(this.page.getByRole('main').getByRole('article', { name: title }))
  }
}

export class JobCard {
  readonly card: Locator
  readonly cancel: Locator
  readonly resume: Locator
  readonly compare: Locator
  readonly progress: Locator
  readonly phases: Locator

  constructor(card: Locator) {
    this.card = card
    this.cancel = card.getByRole('button', { name: 'Cancel' })
    this.resume = card.getByRole('button', { name: 'Resume' })
    this.compare = card.getByRole('link', { name: 'Compare' })
    this.progress = card.getByRole('progressbar')
    this.phases = card.getByRole('list', { name: 'Phases' })
  }

  state(word: JobWord): Locator {
    return this.card.getByText(word, { exact: true })
  }

  phase(title: string, state: 'to come' | 'running' | 'done' | 'stopped here'): Locator {
    return this.phases.getByRole('listitem').filter({ hasText: new RegExp(`^${title}, ${state}$`) })
  }
}
