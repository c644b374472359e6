/**
 * The `studio` fixture: the real engine with an empty library, and a page that has logged in the way a user does. Each test gets its own.
 * The `measured` fixture: a page on one engine per worker whose library has the sample with measured variants, for tests that only look.
 * A test fails when the page throws, breaks its content security policy or logs an error, unless it says that it expects that.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { _electron, test as base, expect, type Browser, type Page } from '@playwright/test'
import { findChromium } from '../app/dev/bootstrap/browsers.mjs'
import { EngineProcess, ROOT, softwareAdapter } from './engine-process.ts'
import { measureSample, type MeasuredLibrary } from './fixtures/measured-library.ts'
import { ModelsPage } from './pages/models.ts'

export interface StudioOptions {
  shell: 'browser' | 'electron'
}

export interface Studio {
  readonly page: Page
  readonly origin: string
  /** Kills the engine without warning and brings it back at the same address; resolves when it answers again. The page is left alone. */
  restartEngine(): Promise<void>
  /** Kills the engine and leaves it dead. */
  killEngine(): Promise<void>
  /** Errors whose text matches are expected in this test. */
  expectErrors(pattern: RegExp): void
}

/** A page on the engine that all read-only tests of a worker share. They change nothing in it: no jobs, no settings, no imports. */
export interface Measured extends MeasuredLibrary {
  readonly page: Page
  readonly origin: string
}

interface MeasuredEngine {
  readonly origin: string
  readonly url: string
  readonly library: MeasuredLibrary
}

/** A page whose engine is gone can't reach it, nor finish what it was loading; Chromium logs each attempt. */
const WHILE_AWAY =
  /WebSocket connection to .* failed|net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|EMPTY_RESPONSE|INCOMPLETE_CHUNKED_ENCODING)/

export const test = base.extend<
  StudioOptions & { studio: Studio; measured: Measured },
  { chromiumBrowser: Browser; measuredEngine: MeasuredEngine }
>({
  shell: ['browser', { option: true }],

  chromiumBrowser: [
    async ({ playwright }, use) => {
      const executablePath = findChromium()
      if (executablePath === null) throw new Error('There is no Chromium: run `npm test`, which brings it, or set LATHE_CHROMIUM.')
      const browser = await playwright.chromium.launch({
        executablePath,
        args: [
          // Chromium's sandbox refuses to run as root, and containers are root.
          ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
          '--disable-gpu',
          '--disable-background-networking',
          '--disable-component-update',
          '--disable-quic',
          // For the DNS rebinding test.
          '--host-resolver-rules=MAP rebound.test 127.0.0.1',
        ],
      })
      await use(browser)
      await browser.close()
    },
    { scope: 'worker' },
  ],

  studio: async ({ shell, chromiumBrowser, viewport }, use, testInfo) => {
    const electronBinary = shell === 'electron' ? installedElectron() : null
    testInfo.skip(shell === 'electron' && electronBinary === null, 'the Electron binary is not installed here (npx install-electron)')
    const dataFolder = mkdtempSync(join(tmpdir(), 'lathe-e2e-'))
    const watch = new PageErrors()
    const { studio, close, log } =
      electronBinary === null
        ? await openBrowser({ browser: chromiumBrowser, dataFolder, viewport, errors: watch })
        : await openElectron({ binary: electronBinary, dataFolder, errors: watch })
    await use(studio)
    await close()
    rmSync(dataFolder, { recursive: true, force: true })
    if (log()) await testInfo.attach('engine.log', { body: log(), contentType: 'text/plain' })
    watch.expectNone()
  },

  measuredEngine: [
    async ({ chromiumBrowser }, use, { project }) => {
      // A failed test ends its worker: the next one finds the library here instead of measuring it again. Each run starts with an empty folder.
      const dataFolder = process.env['LATHE_E2E_LIBRARY'] ?? join(project.outputDir, '.measured-library')
      const stamp = join(dataFolder, 'measured.json')
      // Without its stamp it is what an attempt that failed has left. A folder that somebody named is never cleared.
      if (process.env['LATHE_E2E_LIBRARY'] === undefined && !existsSync(stamp)) rmSync(dataFolder, { recursive: true, force: true })
      mkdirSync(dataFolder, { recursive: true })
      const engine = new EngineProcess(dataFolder)
      const { origin, url } = await engine.start()
      if (!existsSync(stamp)) {
        const context = await chromiumBrowser.newContext()
        const page = await context.newPage()
        await page.goto(url)
        writeFileSync(stamp, JSON.stringify(await measureSample(page)))
        await context.close()
      }
      await use({ origin, url, library: JSON.parse(readFileSync(stamp, 'utf8')) as MeasuredLibrary })
      await engine.stop()
    },
    { scope: 'worker', timeout: 900_000 },
  ],

  measured: async ({ shell, chromiumBrowser, viewport, measuredEngine }, use, testInfo) => {
    testInfo.skip(shell === 'electron', 'the same pages as in the browser')
    const watch = new PageErrors()
    const context = await chromiumBrowser.newContext({ viewport, reducedMotion: 'reduce' })
    const page = await context.newPage()
    watch.follow(page)
    await page.goto(measuredEngine.url)
    await new ModelsPage(page).row(measuredEngine.library.sampleName).waitFor()
    await use({ page, origin: measuredEngine.origin, ...measuredEngine.library })
    await context.close()
    watch.expectNone()
  },
})

/** What a page threw or logged as an error, less what a test said it expects. */
class PageErrors {
  readonly #seen: string[] = []
  readonly #expected: RegExp[] = []

  follow(page: Page): void {
    page.on('pageerror', (error) => this.#seen.push(`thrown: ${error.message}`))
    page.on('console', (message) => {
      if (message.type() === 'error') this.#seen.push(`console: ${message.text()}`)
    })
  }

  expect(pattern: RegExp): void {
    this.#expected.push(pattern)
  }

  expectNone(): void {
    expect(this.#seen.filter((error) => !this.#expected.some((pattern) => pattern.test(error)))).toEqual([])
  }
}

interface Opened {
  readonly studio: Studio
  readonly close: () => Promise<void>
  readonly log: () => string
}

async function openBrowser(options: {
  readonly browser: Browser
  readonly dataFolder: string
  readonly viewport: { width: number; height: number } | null
  readonly errors: PageErrors
}): Promise<Opened> {
  const engine = new EngineProcess(options.dataFolder)
  const { origin, url } = await engine.start()
  const context = await options.browser.newContext({ viewport: options.viewport })
  const page = await context.newPage()
  options.errors.follow(page)
  await page.goto(url)
  const killEngine = async (): Promise<void> => {
    options.errors.expect(WHILE_AWAY)
    await engine.kill()
  }
  const restartEngine = async (): Promise<void> => {
    await killEngine()
    await engine.start()
  }
  const close = async (): Promise<void> => {
    await context.close()
    await engine.stop()
  }
  return {
    studio: { page, origin, restartEngine, killEngine, expectErrors: (pattern) => options.errors.expect(pattern) },
    close,
    log: () => engine.log,
  }
}

async function openElectron(options: {
  readonly binary: string
  readonly dataFolder: string
  readonly errors: PageErrors
}): Promise<Opened> {
  const app = await _electron.launch({
    executablePath: options.binary,
    args: [ROOT, `--user-data-dir=${join(options.dataFolder, 'electron')}`],
    env: { ...environment(), ...softwareAdapter(), LATHE_DATA: options.dataFolder, LATHE_NODE: process.execPath },
  })
  const page = await app.firstWindow()
  options.errors.follow(page)
  await page.waitForURL(/^http:\/\/127\.0\.0\.1:/)
  const { origin } = new URL(page.url())
  const status = async (): Promise<{ readonly pid: number } | null> => {
    const response = await page.request.get(`${origin}/status`).catch(() => null)
    return response?.ok() ? ((await response.json()) as { pid: number }) : null
  }
  const killEngine = async (): Promise<void> => {
    options.errors.expect(WHILE_AWAY)
    const running = await status()
    if (running) process.kill(running.pid, 'SIGKILL')
  }
  const restartEngine = async (): Promise<void> => {
    const before = await status()
    await killEngine()
    // The shell itself starts it again.
    await expect.poll(async () => (await status())?.pid ?? before?.pid, { timeout: 30_000 }).not.toBe(before?.pid)
  }
  return {
    studio: { page, origin, restartEngine, killEngine, expectErrors: (pattern) => options.errors.expect(pattern) },
    close: () => app.close(),
    log: () => '',
  }
}

function installedElectron(): string | null {
  const folder = join(ROOT, 'node_modules/electron')
  const pathFile = join(folder, 'path.txt')
  if (!existsSync(pathFile)) return null
  const binary = join(folder, 'dist', readFileSync(pathFile, 'utf8').trim())
  return existsSync(binary) ? binary : null
}

function environment(): Record<string, string> {
  return Object.fromEntries(Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

export { expect } from '@playwright/test'
