/** A recipe of one's own: written as text, refused with the nearest key where one is misspelled, run on calibration text, and compared. */
import { expect, test } from './fixtures.ts'
import { ComparePage } from './pages/compare.ts'
import { InspectorPage } from './pages/inspector.ts'
import { JobsPage } from './pages/jobs.ts'
import { ModelsPage } from './pages/models.ts'
import { OptimizePage } from './pages/optimize.ts'
import { ShellPage } from './pages/shell.ts'

const RECIPE = 'GPTQModifier:\n  targets: [Linear]\n  ignore: [lm_head]\n  scheme: W4A16\n  block_size: 64\n'
/** Calibration and one look at two models on a software adapter. */
const LIMIT_MS = 120_000

test('a misspelled key is refused with the nearest one, and the corrected recipe becomes a variant', async ({ studio, shell }) => {
  test.skip(shell === 'electron', 'the same pages as in the browser')
  test.setTimeout(300_000)
  const { page } = studio
  const optimize = new OptimizePage(page)
  await new ModelsPage(page).trySample.click()
  await new InspectorPage(page).optimize.click()
  await optimize.choose()
  await optimize.writeRecipe(RECIPE.replace('scheme', 'sheme'))
  await expect(page.getByText(/^Line 4: .*"sheme" is not known/)).toBeVisible()
  await expect(page.getByText(/Did you mean "scheme"\?/)).toBeVisible()
  await expect(optimize.start).toBeDisabled()

  await optimize.writeRecipe(RECIPE)
  await page.getByRole('textbox', { name: 'Name' }).fill('Small blocks')
  await page.getByRole('textbox', { name: 'Samples' }).fill('16')
  await optimize.measure('Tasks', false)
  await optimize.measure('Throughput', false)
  await optimize.start.click()

  const rail = new ShellPage(page)
  await rail.go('Jobs')
  const job = new JobsPage(page).job(/ → Small blocks$/)
  await expect(job.card.getByText('Output error of each layer')).toBeVisible({ timeout: LIMIT_MS })
  await expect(job.state('Done')).toBeVisible({ timeout: LIMIT_MS })
  await expect(job.card.getByRole('img', { name: /6 of 6 layers finished, worst layer \d/ })).toBeVisible()
  await job.compare.click()
  const compare = new ComparePage(page)
  await expect(compare.point('Small blocks')).toBeVisible()
  await expect(compare.row('KL divergence, mean').getByRole('cell').nth(1)).toHaveText(/\d/)
  await expect(compare.heatmap).toBeVisible()
})
