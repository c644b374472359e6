/**
 * `npm start`: builds the page if its sources changed, then opens the studio: the Electron window where its binary can be had, otherwise the same
 * studio in the browser, or just its address where there is no screen. Ctrl-C ends it cleanly; a crashed engine is started again.
 */
import { spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import { LatheError } from '../../engine/contract/errors.ts'
import { buildRenderer, rendererIsCurrent } from '../dev/build/renderer.ts'
import { buildShell } from '../dev/build/shell.ts'
import { ROOT } from '../dev/tools.ts'
import { Supervisor, withoutNodeOptions, type EngineAddress } from '../supervisor/supervisor.ts'
import { findElectron, hasScreen } from './electron-binary.ts'
import { openAddress } from './open-address.ts'
import { USAGE, readStartOptions, type StartOptions } from './options.ts'

/** An Electron that ends with an error this soon never showed a window: a library is missing, or there is no display server. */
const STILLBORN_MS = 10_000
const DOWNLOAD_LIMIT_MS = 600_000

async function main(): Promise<number> {
  const options = readStartOptions(process.argv.slice(2))
  if (options === 'help') {
    process.stdout.write(`${USAGE}\n`)
    return 0
  }
  if (!rendererIsCurrent()) {
    notice('building the page (a few seconds)…')
    await buildRenderer()
  }
  if (options.shell === 'auto' || options.shell === 'desktop') {
    const outcome = await runDesktop(options)
    if (typeof outcome === 'number') return outcome
    if (options.shell === 'desktop') throw new Error(`No desktop window: ${outcome.reason}.`)
    notice(`no desktop window: ${outcome.reason}; opening the studio in the browser instead`)
  }
  return runBrowser(options)
}

/** Runs the window to its end and gives its exit code, or the reason why there was none. */
async function runDesktop(options: StartOptions): Promise<number | { readonly reason: string }> {
  const found = await findElectron(
    {
      platform: process.platform,
      env: process.env,
      userId: process.getuid?.() ?? null,
      packageFolder: join(ROOT, 'node_modules', 'electron'),
      install: installElectron,
      now: Date.now,
      notice,
    },
    { insist: options.shell === 'desktop' },
  )
  if ('reason' in found) return found
  await buildShell()
  const started = performance.now()
  const code = await run(found.binary, [ROOT], {
    ...withoutNodeOptions(process.env),
    LATHE_NODE: process.execPath,
    ...(options.data === null ? {} : { LATHE_DATA: resolve(options.data) }),
    ...(options.adapter === null ? {} : { LATHE_ADAPTER: options.adapter }),
  })
  const stillborn = code !== 0 && performance.now() - started < STILLBORN_MS
  return stillborn ? { reason: `Electron ended at once with code ${code}; the lines above say why` } : code
}

/** Serves the studio until a signal; opens it in the browser unless the screen or the user is against it. */
async function runBrowser(options: StartOptions): Promise<number> {
  const headless = options.shell === 'headless'
  const ended = Promise.withResolvers<number>()
  const supervisor = new Supervisor({
    command: [process.execPath, join(ROOT, 'engine', 'main.ts'), ...engineArguments(options, headless ? 'headless' : 'browser')],
    env: process.env,
    port: options.port,
    onMessage: (line) => process.stderr.write(`${line}\n`),
    onCrash: ({ code, pauseMs }) => notice(`the engine stopped unexpectedly (code ${code}); starting it again in ${pauseMs / 1000} s`),
    onRestart: (address) => notice(`the engine is back at ${pageAddress(address)}`),
    onGiveUp: (error) => {
      complain(error)
      ended.resolve(1)
    },
  })
  // Asked for before the engine exists: a Ctrl-C during the start must end it too.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => ended.resolve(0))
  const address = await Promise.race([supervisor.start(), ended.promise])
  if (typeof address === 'number') {
    await supervisor.stop()
    return address
  }
  const url = pageAddress(address)
  const { port } = new URL(address.origin)
  if (options.port !== 0 && port !== String(options.port)) notice(`port ${options.port} is taken; using ${port}`)
  const opened = !headless && (process.platform !== 'linux' || hasScreen(process.env)) && (await openAddress(url))
  process.stdout.write(`Lathe is at ${url}\n`)
  notice(opened ? 'opened in the browser; Ctrl-C ends it' : 'open this address in a browser on this machine; Ctrl-C ends it')
  const code = await ended.promise
  await supervisor.stop()
  return code
}

function engineArguments({ data, adapter }: StartOptions, shell: string): readonly string[] {
  return ['--shell', shell, ...(data === null ? [] : ['--data', resolve(data)]), ...(adapter === null ? [] : ['--adapter', adapter])]
}

/** The token is in the fragment, which a browser never sends anywhere. */
function pageAddress({ origin, token }: EngineAddress): string {
  return `${origin}/#t=${token}`
}

function installElectron(): Promise<{ code: number; output: string }> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(ROOT, 'node_modules', 'electron', 'install.js')], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: DOWNLOAD_LIMIT_MS,
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.once('error', (error) => done({ code: 1, output: error.message }))
    child.once('close', (code) => done({ code: code ?? 1, output }))
  })
}

function run(program: string, args: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
  return new Promise((done) => {
    const child = spawn(program, args, { env, stdio: 'inherit' })
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
    child.once('error', () => done(127))
    child.once('exit', (code) => done(code ?? 0))
  })
}

function notice(text: string): void {
  process.stderr.write(`lathe: ${text}\n`)
}

function complain(error: unknown): void {
  notice(error instanceof Error ? error.message : String(error))
  if (error instanceof LatheError && error.hint) notice(error.hint)
}

try {
  process.exitCode = await main()
} catch (error) {
  complain(error)
  process.exitCode = 1
}
