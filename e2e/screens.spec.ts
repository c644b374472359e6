/**
 * Pictures of every screen in both themes and at two sizes, in test-results/screens for people to look at; and what a machine can say about them:
 * nothing is wider than the window, and no button cuts off its words. LATHE_SAVE_SCREENSHOTS=1 renews the picture of the README as well.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from '@playwright/test'
import { ROOT } from './engine-process.ts'
import { expect, test } from './fixtures.ts'
import { ModelsPage } from './pages/models.ts'
import { screensOf } from './screens.ts'

const SIZES = [
  { width: 1280, height: 800 },
  { width: 1000, height: 700 },
] as const
const THEMES = ['dark', 'light'] as const
const PICTURES = join(ROOT, 'test-results/screens')
const README_PICTURES: Readonly<Record<string, string>> = { compare: 'compare.png' }

for (const { width, height } of SIZES) {
  for (const theme of THEMES) {
    const folder = join(PICTURES, `${width}x${height}-${theme}`)

    test(`every screen fits ${width} × ${height}, ${theme}`, async ({ measured }) => {
      test.setTimeout(300_000)
      mkdirSync(folder, { recursive: true })
      const { page } = measured
      await page.setViewportSize({ width, height })
      await page.emulateMedia({ colorScheme: theme })
      const found: string[] = []
      for (const screen of screensOf(measured)) {
        await test.step(screen.name, async () => {
          await screen.open(page)
          await page.screenshot({ path: join(folder, `${screen.name}.png`), fullPage: true })
          found.push(...(await misfits(page, screen.name)))
          const picture = README_PICTURES[screen.name]
          if (process.env['LATHE_SAVE_SCREENSHOTS'] === '1' && picture !== undefined && width === 1280 && theme === 'dark') {
            await page.screenshot({ path: join(ROOT, 'assets/screenshots', picture) })
          }
        })
      }
      expect(found).toEqual([])
    })

    test(`the first run fits ${width} × ${height}, ${theme}`, async ({ studio, shell }) => {
      test.skip(shell === 'electron', 'the same pages as in the browser')
      mkdirSync(folder, { recursive: true })
      const { page } = studio
      await page.setViewportSize({ width, height })
      await page.emulateMedia({ colorScheme: theme })
      await new ModelsPage(page).trySample.waitFor()
      await page.getByText(/for models|of system memory free/).waitFor()
      await page.screenshot({ path: join(folder, 'first-run.png'), fullPage: true })
      expect(await misfits(page, 'first run')).toEqual([])
    })
  }
}

/** What sticks out: the page to the side, or the words of a button out of their button. */
async function misfits(page: Page, screen: string): Promise<readonly string[]> {
  return page.evaluate((name) => {
    const found: string[] = []
    const { scrollWidth, clientWidth } = document.documentElement
    if (scrollWidth > clientWidth) found.push(`${name}: the page is ${scrollWidth - clientWidth} px wider than the window`)
    const main = document.querySelector('main')
    if (main !== null && main.scrollWidth > main.clientWidth)
      found.push(`${name}: the screen is ${main.scrollWidth - main.clientWidth} px too wide`)
    for (const button of document.querySelectorAll<HTMLElement>('button, a[class*="button"]')) {
      // Names of models may be shortened with an ellipsis; words of ours may not.
      const ellipsis = [button, ...button.querySelectorAll('*')].some((element) => getComputedStyle(element).textOverflow === 'ellipsis')
      if (ellipsis || button.clientWidth === 0) continue
      if (button.scrollWidth > button.clientWidth + 1) {
        found.push(`${name}: "${button.textContent}" is cut off by ${button.scrollWidth - button.clientWidth} px`)
      }
    }
    return found
  }, screen)
}
