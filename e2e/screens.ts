/** Every screen of a library that has been used, with how to get there and what must be on it before it counts as shown. */
import type { Page } from '@playwright/test'
import type { Measured } from './fixtures.ts'
import { ChatPage } from './pages/chat.ts'
import { ComparePage } from './pages/compare.ts'
import { HardwarePage } from './pages/hardware.ts'
import { InspectorPage } from './pages/inspector.ts'
import { ModelsPage } from './pages/models.ts'
import { OptimizePage } from './pages/optimize.ts'
import { Palette } from './pages/palette.ts'
import { SETTINGS_SECTIONS, SettingsPage } from './pages/settings.ts'
import { FolderDialog } from './pages/shell.ts'

/** Something that only this section says. */
const SECTION_TEXT: Readonly<Record<(typeof SETTINGS_SECTIONS)[number], string | RegExp>> = {
  General: 'Appearance',
  Models: 'Where Lathe writes compressed models.',
  Evaluation: 'Perplexity and drift',
  Shortcuts: 'Search',
  Privacy: /./,
  About: /\d+\.\d+\.\d+/,
}

export interface Screen {
  readonly name: string
  readonly open: (page: Page) => Promise<void>
}

export function screensOf({ origin, sampleId, sampleName, variantNames }: Measured): readonly Screen[] {
  const at = async (page: Page, path: string): Promise<void> => void (await page.goto(`${origin}${path}`))
  return [
    {
      name: 'models',
      open: async (page) => {
        await at(page, '/models')
        await new ModelsPage(page).row(sampleName).waitFor()
      },
    },
    {
      name: 'models-drawer',
      open: async (page) => {
        const models = new ModelsPage(page)
        const variant = variantNames.at(-1) ?? sampleName
        await models.row(variant).click()
        await models.drawer(variant).getByText('Measured speed').waitFor()
      },
    },
    {
      name: 'inspector-overview',
      open: async (page) => {
        await at(page, `/models/${sampleId}`)
        await page.getByRole('heading', { name: 'Architecture' }).waitFor()
      },
    },
    {
      name: 'inspector-tensors',
      open: async (page) => {
        const inspector = new InspectorPage(page)
        await inspector.open('Tensors')
        await inspector.tensors
          .getByRole('row', { name: /q_proj/ })
          .first()
          .click()
        await inspector.histogram.waitFor()
      },
    },
    {
      name: 'inspector-tokenizer',
      open: async (page) => {
        const inspector = new InspectorPage(page)
        await inspector.open('Tokenizer')
        await page.getByLabel('Rendered conversation').waitFor()
        await inspector.tokens.waitFor()
      },
    },
    {
      name: 'inspector-files',
      open: async (page) => {
        await new InspectorPage(page).open('Files')
        await page.getByText('model.safetensors').first().waitFor()
      },
    },
    {
      name: 'optimize',
      open: async (page) => {
        await at(page, `/optimize/${sampleId}?presets=fine-4bit,near-lossless-8bit`)
        await new OptimizePage(page).start.waitFor()
        await page.getByText(/^Needs .* free$/).waitFor()
      },
    },
    {
      name: 'compare',
      open: async (page) => {
        await at(page, `/compare/${sampleId}`)
        const compare = new ComparePage(page)
        await compare.point('Original').waitFor()
        await compare.heatmap.waitFor()
      },
    },
    {
      name: 'jobs',
      open: async (page) => {
        await at(page, '/jobs')
        await page.getByRole('article').first().getByRole('link', { name: 'Log' }).click()
        await page
          .getByRole('complementary')
          .getByText(/^.*Wrote \d+ bytes/)
          .first()
          .waitFor()
      },
    },
    {
      name: 'chat',
      open: async (page) => {
        await at(page, `/chat?model=${sampleId}`)
        await new ChatPage(page).composer.waitFor()
      },
    },
    {
      name: 'capacity',
      open: async (page) => {
        await at(page, `/capacity?model=${sampleId}&gpu=rtx-4090`)
        await page.getByRole('heading', { name: 'Under load' }).waitFor()
      },
    },
    {
      name: 'monitor',
      open: async (page) => {
        await at(page, '/monitor')
        await page.getByRole('heading', { name: 'Which server?' }).waitFor()
      },
    },
    {
      name: 'chat-side-by-side',
      open: async (page) => {
        await at(page, '/arena')
        await page.getByRole('textbox', { name: 'Message to all' }).waitFor()
      },
    },
    {
      name: 'server',
      open: async (page) => {
        await at(page, '/server')
        await page.getByRole('button', { name: 'Start server' }).waitFor()
      },
    },
    {
      name: 'hardware',
      open: async (page) => {
        await at(page, '/hardware')
        await new HardwarePage(page).adapters.getByRole('heading').first().waitFor()
      },
    },
    ...SETTINGS_SECTIONS.map((section) => ({
      name: `settings-${section.toLowerCase()}`,
      open: async (page: Page) => {
        await at(page, '/settings')
        await new SettingsPage(page).open(section)
        await page.getByRole('main').getByText(SECTION_TEXT[section]).first().waitFor()
      },
    })),
    {
      name: 'palette',
      open: async (page) => {
        await at(page, '/models')
        await new ModelsPage(page).row(sampleName).waitFor()
        await new Palette(page).open()
      },
    },
    {
      name: 'folder-dialog',
      open: async (page) => {
        await at(page, '/models')
        await new ModelsPage(page).openFolderDialog()
        await new FolderDialog(page).dialog.getByText('free on this disk').waitFor()
      },
    },
  ]
}
