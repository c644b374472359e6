/** A compression that is stopped, by its user or by the death of the engine, costs time and nothing else. */
import { createHash } from 'node:crypto'
import { createReadStream, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { expect, test as base, type Studio } from './fixtures.ts'
import { writeLlamaFolder } from './fixtures/llama-folder.ts'
import { InspectorPage } from './pages/inspector.ts'
import { JobsPage, type JobCard } from './pages/jobs.ts'
import { ModelsPage } from './pages/models.ts'
import { OptimizePage } from './pages/optimize.ts'
import { ShellPage } from './pages/shell.ts'

/** 500 MB: seconds of work for any machine, long enough to be met in the middle; 190 MB were done before Cancel could be pressed. */
const LARGE = { hiddenSize: 1024, intermediateSize: 2816, layers: 19, vocabularySize: 4096 }
const NAME = 'random-llama'
const FINISH_LIMIT_MS = 240_000

interface Large {
  readonly folder: string
  /** Name and digest of every file, to see that none changed. */
  digests(): Promise<Record<string, string>>
}

const test = base.extend<{ large: Large }>({
  large: async ({ studio: _studio }, use) => {
    const parent = mkdtempSync(join(tmpdir(), 'lathe-e2e-large-'))
    const folder = writeLlamaFolder(join(parent, NAME), LARGE)
    await use({ folder, digests: () => digestsOf(folder) })
    rmSync(parent, { recursive: true, force: true })
  },
})

test('a cancelled compression stops, leaves its source untouched, and resumes to the end', async ({ studio, large, shell }) => {
  test.skip(shell === 'electron', 'the window has a native folder dialog, which no test can fill in')
  test.setTimeout(400_000)
  const before = await large.digests()
  const job = await startCompression(studio, large)
  await job.cancel.click()
  await expect(job.state('Cancelled')).toBeVisible({ timeout: 60_000 })
  expect(await large.digests()).toEqual(before)
  await expectVariants(studio, 0)

  await new ShellPage(studio.page).go('Jobs')
  await job.resume.click()
  await expect(job.state('Done')).toBeVisible({ timeout: FINISH_LIMIT_MS })
  expect(await large.digests()).toEqual(before)
  await expectVariants(studio, 1)
})

test('a killed engine is announced, and its job resumes to the end once it is back', async ({ studio, large, shell }) => {
  test.skip(shell === 'electron', 'the window has a native folder dialog, which no test can fill in')
  test.setTimeout(400_000)
  const before = await large.digests()
  const job = await startCompression(studio, large)
  const { lostBanner } = new ShellPage(studio.page)
  await studio.killEngine()
  await expect(lostBanner).toBeVisible()
  // What was known stays on the page.
  await expect(job.card).toBeVisible()
  expect(await large.digests()).toEqual(before)

  await studio.restartEngine()
  await expect(lostBanner).toBeHidden({ timeout: 60_000 })
  await expect(job.state('Interrupted')).toBeVisible()
  await expectVariants(studio, 0)
  await new ShellPage(studio.page).go('Jobs')
  await job.resume.click()
  await expect(job.state('Done')).toBeVisible({ timeout: FINISH_LIMIT_MS })
  expect(await large.digests()).toEqual(before)
  await expectVariants(studio, 1)
})

/** Imports the model, starts Quick 4-bit, and returns its job once tensors are being quantized. */
async function startCompression({ page }: Studio, { folder }: Large): Promise<JobCard> {
  await new ModelsPage(page).importFolder(folder)
  const inspector = new InspectorPage(page)
  await expect(inspector.title).toContainText(NAME)
  await inspector.optimize.click()
  const optimize = new OptimizePage(page)
  await optimize.choose('Quick 4-bit')
  await optimize.measure('Throughput', false)
  await optimize.start.click()
  await new ShellPage(page).go('Jobs')
  const job = new JobsPage(page).job(`${NAME} → Quick 4-bit`)
  await expect(job.phase('Quantize', 'running')).toBeVisible({ timeout: 60_000 })
  return job
}

async function expectVariants({ page }: Studio, count: 0 | 1): Promise<void> {
  await new ShellPage(page).go('Models')
  const models = new ModelsPage(page)
  await expect(models.row(NAME)).toBeVisible()
  await expect(models.row(`${NAME} · Quick 4-bit`)).toHaveCount(count)
}

async function digestsOf(folder: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {}
  for (const name of readdirSync(folder).sort()) {
    const hash = createHash('sha256')
    await pipeline(createReadStream(join(folder, name)), hash)
    digests[name] = hash.digest('hex')
  }
  return digests
}
