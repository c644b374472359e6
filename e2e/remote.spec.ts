/** A server on the board: Lathe's own, as if it were somebody else's, added by address and key beside the original that it serves. */
import { expect, test } from './fixtures.ts'
import { ComparePage } from './pages/compare.ts'
import { JobsPage } from './pages/jobs.ts'
import { ModelsPage } from './pages/models.ts'
import { ServerPage } from './pages/server.ts'
import { SettingsPage } from './pages/settings.ts'
import { ShellPage } from './pages/shell.ts'

test('a server’s perplexity and drift stand in the rows of its original', async ({ studio, shell }) => {
  test.skip(shell === 'electron', 'the same page as in the browser')
  const { page } = studio
  const rail = new ShellPage(page)
  const compare = new ComparePage(page)
  const settings = new SettingsPage(page)
  await rail.go('Settings')
  await settings.open('Evaluation')
  await settings.measureAfterwards('Tasks', false)
  await settings.measureAfterwards('Throughput', false)
  await rail.go('Models')
  await new ModelsPage(page).trySample.click()
  await page.waitForURL(/\/models\/[\w-]+$/)
  const sampleId = new URL(page.url()).pathname.split('/').at(-1) ?? ''

  const { url, key } = await new ServerPage(page).start(/Pebble/)

  await page.goto(`${studio.origin}/compare/${sampleId}`)
  await compare.addServer(url, key)
  // Only the server: its original is measured along with it.
  await page.getByRole('button', { name: /^Use .* at 127\.0\.0\.1.* as the baseline$/ }).click()
  await page.getByRole('button', { name: 'Original', exact: true }).click()
  await page.getByRole('button', { name: 'Measure again' }).click()
  await page.getByRole('button', { name: 'Original', exact: true }).click()
  await page.getByRole('button', { name: 'Use Original as the baseline' }).click()

  const kld = compare.row('KL divergence, mean').getByRole('cell')
  await expect(kld).toHaveText(['0', /^≥ 0/], { timeout: 90_000 })
  const perplexity = await compare.row('Perplexity').getByRole('cell').allInnerTexts()
  expect(perplexity[0]).toBe(perplexity[1])
  await expect(compare.row('Top-1 agreement').getByRole('cell')).toHaveText([/^100/, /^100/])
  await compare.row('Perplexity').getByRole('cell').nth(1).getByText(/^1\./).hover()
  await expect(page.getByText(url, { exact: true })).toBeVisible()

  // The job of a model that is no folder leads to the board of its original.
  await rail.go('Jobs')
  await new JobsPage(page).job(/^Evaluate .* at 127/).compare.click()
  await expect(compare.row('Top-1 agreement').getByRole('cell')).toHaveCount(2)
})
