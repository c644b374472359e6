/**
 * `npm test`, `npm run check` and `npm run e2e`: every check in order, each with one line, and at the end one line that counts them all.
 * A failed step does not stop the later ones: one run shows everything that is wrong.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { findLavapipe, findSwiftShader } from './bootstrap/browsers.mjs'
import { NO_COUNTS, addCounts, closingLine, playwrightCounts, stepCounts, vitestCounts, type Counts } from './report.ts'
import { ROOT, runNode, toolPath } from './tools.ts'

interface Step {
  readonly title: string
  readonly group: 'check' | 'unit' | 'build' | 'e2e'
  readonly run: () => Promise<Counts>
}

const reports = join(ROOT, 'test-results', 'reports')

const STEPS: readonly Step[] = [
  { title: 'format', group: 'check', run: async () => stepCounts(await runNode(toolPath('oxfmt'), ['--check', '.'])) },
  { title: 'lint', group: 'check', run: async () => stepCounts(await runNode(toolPath('oxlint'), ['--deny-warnings'])) },
  { title: 'types', group: 'check', run: async () => stepCounts(await runNode(toolPath('typescript', 'tsc'), ['-b'])) },
  {
    title: 'third-party notices',
    group: 'check',
    run: async () => stepCounts(await runNode(join(ROOT, 'app/dev/notices.ts'), ['--check'])),
  },
  { title: 'build', group: 'build', run: async () => stepCounts(await runNode(join(ROOT, 'app/dev/build.ts'), [])) },
  { title: 'unit tests', group: 'unit', run: runVitest },
  { title: 'end-to-end tests', group: 'e2e', run: runPlaywright },
]

async function main(): Promise<void> {
  const only = process.argv.indexOf('--only')
  const group = only < 0 ? null : process.argv[only + 1]
  const steps = STEPS.filter((step) => group === null || step.group === group || (group === 'e2e' && step.group === 'build'))
  if (steps.length === 0) throw new Error(`--only takes check, unit, build or e2e, not ${group}`)
  rmSync(reports, { recursive: true, force: true })
  mkdirSync(reports, { recursive: true })
  const started = performance.now()
  let total = NO_COUNTS
  for (const { title, run } of steps) {
    const stepStarted = performance.now()
    const counts = await run()
    total = addCounts(total, counts)
    const seconds = ((performance.now() - stepStarted) / 1000).toFixed(1)
    console.error(`${counts.failed === 0 ? '✓' : '✗'} ${title}: ${closingLine(counts)} (${seconds} s)`)
  }
  console.error(`all in ${Math.round((performance.now() - started) / 1000)} s`)
  console.log(closingLine(total))
  process.exitCode = total.failed === 0 ? 0 : 1
}

async function runVitest(): Promise<Counts> {
  const file = join(reports, 'vitest.json')
  const exitCode = await runNode(
    toolPath('vitest'),
    ['run', '--config', 'app/dev/vitest.config.ts', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`],
    { loud: true, env: { ...softwareAdapters(), CI: 'true' } },
  )
  return vitestCounts(read(file), exitCode)
}

async function runPlaywright(): Promise<Counts> {
  const file = join(reports, 'playwright.json')
  const exitCode = await runNode(toolPath('@playwright/test', 'playwright'), ['test', '--config', 'e2e/playwright.config.ts'], {
    loud: true,
    env: { PLAYWRIGHT_JSON_OUTPUT_FILE: file, CI: 'true' },
  })
  return playwrightCounts(read(file), exitCode)
}

/** Both software drivers and nothing else, so that a run gives the same numbers on every machine; tests name the adapter they want. */
function softwareAdapters(): Record<string, string> {
  const manifests = [findLavapipe(), findSwiftShader()].filter((path) => path !== null)
  return manifests.length === 0 ? {} : { VK_DRIVER_FILES: manifests.join(delimiter) }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null // no report: counted as a failure
  }
}

await main()
