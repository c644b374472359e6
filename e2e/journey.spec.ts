/**
 * The main job, as somebody does it on the first day: try the sample, compress it, look at it while that runs, compare, chat, close Lathe and open it
 * again. Everything is real: the engine, the model, the measurements on the software adapter.
 */
import { loadavg } from 'node:os'
import { expect, test } from './fixtures.ts'
import { ChatPage } from './pages/chat.ts'
import { ComparePage } from './pages/compare.ts'
import { InspectorPage } from './pages/inspector.ts'
import { JobsPage } from './pages/jobs.ts'
import { ModelsPage } from './pages/models.ts'
import { OptimizePage } from './pages/optimize.ts'
import { ShellPage } from './pages/shell.ts'

/** What two idle cores should manage (issue 2); printed beside the measured time. */
const FIRST_CHART_BUDGET_SECONDS = 90
/** Shared machines are slower than idle ones by a factor that no test controls; beyond this something is wrong. */
const FIRST_CHART_LIMIT_MS = 240_000
/** Tasks and speed of two models on a software adapter. */
const MEASURED_LIMIT_MS = 400_000

const SAMPLE = 'Pebble-Tidewater 4.7M'
const PRESET = 'Quick 4-bit'
const VARIANT = `${SAMPLE} · ${PRESET}`
// Long enough to be seen while it is written: a line is over before anyone looks.
const PROMPT = 'Tell me a long story about Tidewater.'

test('from the first run to a compared model, and all of it again after a restart', async ({ studio }) => {
  test.setTimeout(900_000)
  const { page } = studio
  const shell = new ShellPage(page)
  const models = new ModelsPage(page)
  const inspector = new InspectorPage(page)
  const optimize = new OptimizePage(page)
  const job = new JobsPage(page).job(/Quick 4-bit$/)
  const compare = new ComparePage(page)
  const chat = new ChatPage(page)

  await models.trySample.click()
  const started = performance.now()

  await test.step('the card of the sample is there at once', async () => {
    await expect(inspector.title).toContainText(SAMPLE, { timeout: 5000 })
    await expect(inspector.fact('Parameters').first()).toHaveText(/^4\.\d+ M$/)
    await expect(inspector.fact('Format').first()).toHaveText('BF16')
  })

  await test.step('Optimize predicts the size of a preset and starts it', async () => {
    await inspector.optimize.click()
    await optimize.choose(PRESET)
    const preset = optimize.preset(PRESET)
    await expect(preset).toContainText(/≈\s?3\.\d+ MB/)
    await expect(preset).toContainText(/−6\d\s?%/)
    await optimize.start.click()
  })

  await test.step('Jobs shows its phases and progress', async () => {
    await shell.go('Jobs')
    await expect(job.phases).toContainText(/Read.*Quantize.*Write.*Verify.*Perplexity and drift.*Tasks.*Throughput/)
    await expect(job.progress).toBeVisible()
    // The variant is in the library before anything is measured.
    await expect(job.phase('Verify', 'done')).toBeVisible({ timeout: 60_000 })
  })

  await test.step('Compare draws its first chart while measuring goes on', async () => {
    await shell.go('Compare')
    await expect(compare.point(PRESET)).toBeVisible({ timeout: FIRST_CHART_LIMIT_MS })
    await expect(compare.point('Original')).toBeVisible()
    const seconds = (performance.now() - started) / 1000
    const load = loadavg()[0]?.toFixed(1)
    const line = `Try the sample → first Compare chart: ${seconds.toFixed(1)} s (budget ${FIRST_CHART_BUDGET_SECONDS} s on two idle cores; load ${load})`
    report(line)
    expect(seconds * 1000).toBeLessThan(FIRST_CHART_LIMIT_MS)
  })

  await test.step('the inspector answers while the job goes on', async () => {
    await shell.go('Models')
    await models.row(SAMPLE).click()
    await models.drawer(SAMPLE).getByRole('link', { name: 'Inspect' }).click()
    await inspector.open('Tensors')
    await inspector.tensors
      .getByRole('row', { name: /q_proj/ })
      .first()
      .click()
    await expect(inspector.histogram).toBeVisible({ timeout: 30_000 })
    await inspector.open('Tokenizer')
    await inspector.text.fill('<|im_start|>')
    await expect(inspector.tokens).toHaveText('<|im_start|>')
    await inspector.text.fill('lighthouse keeper')
    await expect(inspector.tokens).toHaveText('lighthouse keeper')
    await inspector.open('Overview')
    await expect(page.getByRole('heading', { name: 'Architecture' })).toBeVisible()
  })

  await test.step('the job ends and its card leads to Compare', async () => {
    await shell.go('Jobs')
    await expect(job.state('Done')).toBeVisible({ timeout: MEASURED_LIMIT_MS })
    await job.compare.click()
  })

  await expectComparison(compare)

  const answer = chat.answers.last()
  const figures = /TTFT.*decode.*tok\/s.*\d+ tokens?.*seed \d+.*software adapter/

  await test.step('chat with the variant streams an answer and ends with its figures', async () => {
    await shell.go('Models')
    await models.row(VARIANT).click()
    await models.drawer(VARIANT).getByRole('link', { name: 'Chat' }).click()
    await chat.send(PROMPT)
    await expect(answer).toHaveAccessibleName(`Answer of ${VARIANT}`)
    // Words are on the page while the engine still writes.
    await expect(chat.stop).toBeVisible()
    await expect(answer).toContainText(/\w+ \w+/, { timeout: 60_000 })
    await expect(answer).toHaveAttribute('aria-busy', 'false', { timeout: 120_000 })
    await expect(answer).toContainText(figures)
  })
  const said = await answer.innerText()
  const [decode] = /[\d.]+ tok\/s/.exec(said.slice(said.indexOf('decode'))) ?? ['?']
  report(`Chat with ${VARIANT}: ${decode} (load ${loadavg()[0]?.toFixed(1)})`)

  await test.step('after a restart everything is there again', async () => {
    await studio.restartEngine()
    await expect(shell.lostBanner).toHaveCount(0)
    await page.reload()
    await expect(chat.prompts).toContainText(PROMPT)
    await expect(answer).toHaveText(said, { useInnerText: true })
    await shell.go('Compare')
    await expectComparison(compare)
    await shell.go('Jobs')
    await expect(job.state('Done')).toBeVisible()
    await shell.go('Models')
    await expect(models.row(SAMPLE)).toBeVisible()
    await expect(models.row(VARIANT)).toBeVisible()
  })
})

async function expectComparison(compare: ComparePage): Promise<void> {
  await test.step('Compare shows size, quality, tasks, speed with its label, and every layer', async () => {
    await expect(compare.point(PRESET)).toBeVisible()
    for (const metric of [
      'Perplexity',
      'KL divergence, mean',
      'Top-1 agreement',
      'Reading',
      'Arithmetic',
      'Decode',
      'Prefill',
      'Time to first token',
    ]) {
      const [original, variant] = [compare.row(metric).getByRole('cell').first(), compare.row(metric).getByRole('cell').nth(1)]
      await expect(original, `${metric} of the original`).toHaveText(/\d/)
      await expect(variant, `${metric} of the variant`).toHaveText(/\d/)
    }
    await expect(compare.softwareLabel.first()).toBeVisible()
    await expect(compare.heatmap).toBeVisible()
  })
}

/** A figure for people: in the run's output and in its report. */
function report(line: string): void {
  process.stdout.write(`${line}\n`)
  test.info().annotations.push({ type: 'measured', description: line })
}
