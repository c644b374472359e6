/** axe on every screen in both themes, and the ways that a keyboard must be able to go. */
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from '@playwright/test'
import { expect, test } from './fixtures.ts'
import { ChatPage } from './pages/chat.ts'
import { InspectorPage } from './pages/inspector.ts'
import { ModelsPage } from './pages/models.ts'
import { Palette } from './pages/palette.ts'
import { FolderDialog, ShellPage } from './pages/shell.ts'
import { screensOf } from './screens.ts'

const THEMES = ['dark', 'light'] as const

/** Serious and critical violations as "screen: rule, where", so that a failure says everything at once. */
async function violations(page: Page, screen: string): Promise<readonly string[]> {
  const { violations: found } = await new AxeBuilder({ page }).analyze()
  return found
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) =>
      nodes.map((node) => `${screen}: ${id} at ${node.target.join(' ')} (${node.any.map((check) => check.message).join('; ')})`),
    )
}

for (const theme of THEMES) {
  test(`axe finds nothing serious on any screen of a used library, ${theme}`, async ({ measured }) => {
    test.setTimeout(300_000)
    const { page } = measured
    await page.emulateMedia({ colorScheme: theme })
    const found: string[] = []
    for (const screen of screensOf(measured)) {
      await test.step(screen.name, async () => {
        await screen.open(page)
        found.push(...(await violations(page, screen.name)))
      })
    }
    expect(found).toEqual([])
  })

  test(`axe finds nothing serious on the screens of an empty library, ${theme}`, async ({ studio, shell }) => {
    test.skip(shell === 'electron', 'the same pages as in the browser')
    const { page } = studio
    await page.emulateMedia({ colorScheme: theme })
    await new ModelsPage(page).trySample.waitFor()
    const found = [...(await violations(page, 'first run'))]
    const rail = new ShellPage(page)
    for (const place of ['Optimize', 'Compare', 'Chat', 'Jobs'] as const) {
      await rail.go(place)
      await page.getByRole('heading', { level: 1, name: place }).waitFor()
      found.push(...(await violations(page, `${place}, empty`)))
    }
    await rail.go('Models')
    await new ModelsPage(page).openFolderDialog()
    await new FolderDialog(page).import('/no/such/folder')
    await new FolderDialog(page).dialog.getByRole('alert').first().waitFor()
    found.push(...(await violations(page, 'folder dialog with an error')))
    expect(found).toEqual([])
  })
}

test('the keyboard alone opens the palette, finds, goes, and gets out again', async ({ measured }) => {
  const { page, sampleName } = measured
  const palette = new Palette(page)
  await palette.open()
  await expect(palette.input).toBeFocused()
  await page.keyboard.press('Escape')
  await expect(palette.dialog).toBeHidden()

  await palette.open()
  await page.keyboard.type('hardware')
  await expect(palette.options.first()).toHaveText(/Hardware/)
  await page.keyboard.press('Enter')
  await expect(page).toHaveURL(/\/hardware$/)

  await palette.open()
  await page.keyboard.type(sampleName)
  await page.keyboard.press('Enter')
  await expect(new InspectorPage(page).title).toContainText(sampleName)

  await page.keyboard.press('ControlOrMeta+4')
  await expect(page).toHaveURL(/\/chat/)
  await expect(new ChatPage(page).composer).toBeFocused()
})

test('Tab reaches the content, and shows where it is', async ({ measured }) => {
  const { page, origin, sampleName } = measured
  const models = new ModelsPage(page)
  await page.goto(`${origin}/models`)
  await models.row(sampleName).waitFor()
  await page.keyboard.press('Tab')
  await expect(page.getByRole('link', { name: 'Skip to content' })).toBeFocused()
  const reached = new Set<string>()
  // The rail, the tools, the table's headers: the row is far, but it must come.
  for (let step = 0; step < 40 && !reached.has(sampleName); step++) {
    await page.keyboard.press('Tab')
    const { name, shown } = await page.evaluate(() => {
      const element = document.activeElement
      if (element === null) return { name: '', shown: false }
      const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element)
      return {
        name: element.getAttribute('aria-label') ?? element.textContent ?? '',
        shown: (outlineStyle !== 'none' && outlineWidth !== '0px') || boxShadow !== 'none',
      }
    })
    expect(shown, `focus can be seen on "${name}"`).toBe(true)
    reached.add(name)
  }
  await expect(models.row(sampleName)).toBeFocused()
  await page.keyboard.press('ArrowDown')
  await expect(models.row(`${sampleName} · Quick 4-bit`)).toBeFocused()
  await page.keyboard.press('Enter')
  await expect(new InspectorPage(page).title).toContainText('Quick 4-bit')
})
