/** Folders that are not what they seem: each is refused with what happened and what to do, where it was chosen, and nothing typed is lost. */
import { mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test as base } from './fixtures.ts'
import { SMALL, writeLlamaFolder } from './fixtures/llama-folder.ts'
import { InspectorPage } from './pages/inspector.ts'
import { ModelsPage } from './pages/models.ts'
import { OptimizePage } from './pages/optimize.ts'
import { FolderDialog } from './pages/shell.ts'

const test = base.extend<{ parent: string }>({
  parent: async ({ shell }, use) => {
    base.skip(shell === 'electron', 'the window has a native folder dialog, which no test can fill in')
    const parent = mkdtempSync(join(tmpdir(), 'lathe-e2e-folders-'))
    await use(parent)
    rmSync(parent, { recursive: true, force: true })
  },
})

const REFUSED = [
  {
    what: 'without config.json',
    make: (folder: string) => {
      writeLlamaFolder(folder, SMALL)
      rmSync(join(folder, 'config.json'))
    },
    message: /config\.json/,
    code: 'checkpoint.not-a-model',
  },
  {
    what: 'with nothing but a GGUF file',
    make: (folder: string) => {
      mkdirSync(folder)
      writeFileSync(join(folder, 'model-q4_k_m.gguf'), Buffer.concat([Buffer.from('GGUF'), Buffer.alloc(1020)]))
    },
    message: /GGUF/,
    code: /^checkpoint\.(unsupported-file|not-a-model)$/,
  },
  {
    what: 'with a safetensors file that was cut off',
    make: (folder: string) => {
      const file = join(writeLlamaFolder(folder, SMALL), 'model.safetensors')
      truncateSync(file, statSync(file).size - 4096)
    },
    message: /model\.safetensors/,
    code: 'checkpoint.invalid-header',
  },
] as const

for (const { what, make, message, code } of REFUSED) {
  test(`a folder ${what} is refused where it was chosen`, async ({ studio, parent }) => {
    const { page } = studio
    const folder = join(parent, 'wrong-one')
    make(folder)
    const models = new ModelsPage(page)
    const { dialog, path, importButton } = new FolderDialog(page)
    await models.importFolder(folder)

    const alert = dialog.getByRole('alert')
    await expect(alert).toContainText(message)
    await expect(alert.getByText(code)).toBeVisible()
    // Message, hint, code: what happened, what to do, what to quote.
    const [said = '', hint = ''] = await alert.getByRole('paragraph').allInnerTexts()
    expect(said).toMatch(message)
    expect(hint.length).toBeGreaterThan(10)
    await expect(path).toHaveValue(folder)

    // Repaired on disk, the same path goes through without being typed again.
    rmSync(folder, { recursive: true })
    writeLlamaFolder(folder, SMALL)
    await importButton.click()
    await expect(new InspectorPage(page).title).toContainText('wrong-one')
  })
}

test('a folder that is not there is refused, and its path can be corrected', async ({ studio, parent }) => {
  const { page } = studio
  writeLlamaFolder(join(parent, 'tiny'), SMALL)
  await new ModelsPage(page).importFolder(join(parent, 'tyni'))
  const { dialog, path, importButton } = new FolderDialog(page)
  await expect(dialog.getByRole('alert')).toContainText('tyni')
  await expect(path).toHaveValue(join(parent, 'tyni'))
  // The folder around it is listed, so that the right one can be clicked.
  await dialog.getByRole('button', { name: 'tiny' }).click()
  await expect(dialog.getByRole('alert')).toHaveCount(0)
  await importButton.click()
  await expect(new InspectorPage(page).title).toContainText('tiny')
})

test('an architecture that Lathe does not run can be inspected, and says why it goes no further', async ({ studio, parent }) => {
  const { page } = studio
  // A model type of nobody: architectures that Lathe learns later would end this test.
  const folder = writeLlamaFolder(join(parent, 'foreign'), { ...SMALL, modelType: 'gondola2', className: 'Gondola2ForCausalLM' })
  await new ModelsPage(page).importFolder(folder)
  const inspector = new InspectorPage(page)
  await expect(inspector.title).toContainText('foreign')
  await expect(inspector.title).toContainText('Inspect only')
  const reason = page.getByRole('alert').filter({ hasText: 'gondola2' })
  await expect(reason).toContainText('model.unsupported-architecture')
  await expect(inspector.optimize).toHaveCount(0)

  await inspector.open('Tensors')
  await inspector.tensors
    .getByRole('row', { name: /q_proj/ })
    .first()
    .click()
  await expect(inspector.histogram).toBeVisible()

  await page.getByRole('button', { name: 'Actions for foreign' }).click()
  await expect(page.getByRole('menuitem', { name: 'Optimize' })).toHaveAttribute('aria-disabled', 'true')
  await page.keyboard.press('Escape')
  await page.goto(`${studio.origin}${new URL(page.url()).pathname.replace(/^\/models\/([\w-]+).*/, '/optimize/$1')}`)
  await expect(page.getByRole('heading', { name: 'foreign can’t be optimized' })).toBeVisible()
  await expect(page.getByRole('main')).toContainText('gondola2')
  await expect(new OptimizePage(page).start).toHaveCount(0)
})
