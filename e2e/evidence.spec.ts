/**
 * From several presets at once to a report that can be sent: the chart fills point by point, the worst layer opens and is raised, and the exported
 * page shows the same from disk with the network off. Measuring is stopped once a preset has its point: the figures are another test's business.
 */
import { pathToFileURL } from 'node:url'
import { expect, test } from './fixtures.ts'
import { ComparePage } from './pages/compare.ts'
import { InspectorPage } from './pages/inspector.ts'
import { JobsPage } from './pages/jobs.ts'
import { ModelsPage } from './pages/models.ts'
import { OptimizePage } from './pages/optimize.ts'
import { SettingsPage } from './pages/settings.ts'
import { ShellPage } from './pages/shell.ts'

const SAMPLE = 'Pebble-Tidewater 4.7M'
const PRESETS = ['Near-lossless 8-bit', 'Fine 4-bit', 'Quick 4-bit'] as const
/** The first look at a variant takes seconds; on a shared machine, a minute. */
const POINT_LIMIT_MS = 120_000

test('three presets at once fill the chart, and the report opens without a network', async ({ studio, shell, chromiumBrowser }, info) => {
  test.skip(shell === 'electron', 'a window of its own asks where to save; the page is the same')
  test.setTimeout(500_000)
  const { page } = studio
  const rail = new ShellPage(page)
  const optimize = new OptimizePage(page)
  const compare = new ComparePage(page)
  const jobs = new JobsPage(page)

  // A layer that is raised is measured as the settings say.
  const settings = new SettingsPage(page)
  await rail.go('Settings')
  await settings.open('Evaluation')
  await settings.measureAfterwards('Tasks', false)
  await settings.measureAfterwards('Throughput', false)
  await rail.go('Models')
  await new ModelsPage(page).trySample.click()
  await new InspectorPage(page).optimize.click()
  await optimize.choose(...PRESETS)
  await optimize.start.click()

  for (const [index, preset] of PRESETS.entries()) {
    await test.step(`${preset} gets its point`, async () => {
      await rail.go('Compare')
      await expect(compare.point(preset)).toBeVisible({ timeout: POINT_LIMIT_MS })
      await expect(compare.scatter.locator('svg .recharts-scatter-symbol')).toHaveCount(index + 2)
      await rail.go('Jobs')
      const job = jobs.job(new RegExp(`${preset}$`))
      // it may have ended in the meantime
      await job.cancel.click({ timeout: 3000 }).catch(() => {})
      await expect(job.state('Cancelled').or(job.state('Done'))).toBeVisible({ timeout: 60_000 })
    })
  }

  await test.step('the worst layer shows both distributions', async () => {
    await rail.go('Compare')
    expect(await compare.openWorstTensor()).toMatch(/^model\.layers\.\d+\./)
    await expect(compare.distribution('Original')).toBeVisible()
    await expect(compare.distribution('Compressed, read back')).toBeVisible()
  })

  await test.step('raised and run again, only that layer is made anew', async () => {
    await expect(page.getByText(/: W4A16 .* → W8A16 .* 5 of 6 layers are taken over/)).toBeVisible()
    await compare.raise.click()
    await rail.go('Jobs')
    const raised = jobs.job(/ as W8A16/)
    await expect(raised.card.getByText(`5 of 6 layers taken over from ${SAMPLE} · ${PRESETS[2]}`, { exact: true })).toBeVisible({
      timeout: 60_000,
    })
    await expect(raised.state('Done')).toBeVisible({ timeout: POINT_LIMIT_MS })
    await raised.compare.click()
    await expect(compare.scatter.locator('svg .recharts-scatter-symbol')).toHaveCount(PRESETS.length + 2)
  })

  await test.step('the report shows the same from disk with the network off', async () => {
    const path = info.outputPath('report.html')
    await compare.exportPage(path)
    const offline = await chromiumBrowser.newContext({ offline: true, javaScriptEnabled: false })
    try {
      const reader = await offline.newPage()
      const asked: string[] = []
      reader.on('request', (request) => asked.push(request.url()))
      await reader.goto(pathToFileURL(path).href)
      await expect(reader.getByRole('heading', { level: 1 })).toHaveText(/: comparison$/)
      const labels = reader.locator('figure svg text.label')
      for (const title of ['Original', ...PRESETS]) await expect(labels.filter({ hasText: new RegExp(`^${title}$`) })).toBeVisible()
      await expect(labels.filter({ hasText: new RegExp(`^${PRESETS[2]}, layer \\d`) })).toBeVisible()
      await expect(reader.getByRole('rowheader', { name: 'KL divergence, mean' })).toBeVisible()
      await expect(reader.getByRole('img', { name: /^Error of every layer as SQNR/ })).toHaveCount(PRESETS.length + 1)
      expect(asked).toEqual([pathToFileURL(path).href])
    } finally {
      await offline.close()
    }
  })
})
