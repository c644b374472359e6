/**
 * The engine process: opens the studio, serves it on loopback, and says where. A shell starts it with a pipe as stdin and keeps that open: when the
 * pipe closes, or the parent is gone, the engine stops its jobs so that they can be resumed, and exits. It cannot outlive its shell.
 *
 * stdout carries exactly one line, `EngineReady` or `EngineFailed` of the contract as JSON; everything else goes to stderr.
 *
 *   node engine/main.ts [--port N] [--data FOLDER] [--shell desktop|browser|headless] [--adapter ID]
 *
 * LATHE_TOKEN hands in the session token (a restarted engine keeps the page's cookie valid); LATHE_DATA and LATHE_ADAPTER stand in for the options.
 */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { LatheError, toErrorShape } from './contract/index.ts'
import type { EngineFailed, EngineReady } from './contract/index.ts'
import { defaultDataFolder, rootPolicy } from './studio/host/process-policy.ts'
import type { ProcessFacts } from './studio/host/process-policy.ts'
import { startHost } from './studio/host/server.ts'
import { wrappingKeyOf } from './studio/store/key-file.ts'
import { createStudio } from './studio/studio.ts'

/** How long jobs and streams may take to stop before the process ends anyway. Jobs journal their work, so nothing is lost but time. */
const SHUTDOWN_LIMIT_MS = 10_000
/** A parent that was killed closes no pipe that somebody else inherited; this notices it all the same. */
const PARENT_CHECK_MS = 2000

const SHELLS = ['desktop', 'browser', 'headless'] as const

const facts: ProcessFacts = {
  platform: process.platform,
  env: process.env,
  homeFolder: homedir(),
  userId: process.getuid?.() ?? null,
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2))
  // Read once and forgotten: nothing that the engine ever starts should inherit it.
  const token = process.env['LATHE_TOKEN']
  delete process.env['LATHE_TOKEN']
  const wrappingKey = wrappingKeyOf(process.env['LATHE_WRAPPING_KEY'])
  delete process.env['LATHE_WRAPPING_KEY']
  const policy = rootPolicy(facts)
  if (policy === 'refuse') {
    throw new LatheError(
      'host.refused-root',
      'Lathe was started with sudo. As root it would leave files in your data folder that you could not change later.',
      'Start it without sudo, or set LATHE_ALLOW_ROOT=1 if you mean it.',
    )
  }
  if (policy === 'warn') log('warn', 'running as root; a user of its own is safer (LATHE_ALLOW_ROOT=1 silences this)')
  const home = homeOf(import.meta.filename)
  const studio = await createStudio({
    dataFolder: options.data,
    assetsFolder: home.assets,
    shell: options.shell,
    version: home.version,
    wrappingKey,
    log,
    ...(options.adapter === null ? {} : { adapterId: options.adapter }),
  })
  const host = await startHost({
    router: studio.router,
    pageFolder: home.page,
    port: options.port,
    ...(token === undefined ? {} : { token }),
    status: () => ({ version: home.version, pid: process.pid, ...studio.status() }),
    log,
  })
  stopWithShell(async () => {
    await host.close()
    await studio.close()
  })
  print({ origin: host.origin, cookie: host.cookie, ...(token === undefined ? { token: host.token } : {}) })
}

interface Options {
  readonly port: number
  readonly data: string
  readonly shell: (typeof SHELLS)[number]
  readonly adapter: string | null
}

function readOptions(args: readonly string[]): Options {
  const text = { type: 'string' } as const
  const { values } = parse(() => parseArgs({ args: [...args], options: { port: text, data: text, shell: text, adapter: text } }))
  const port = Number(values.port ?? 0)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new LatheError('request.invalid', `${values.port} is not a port.`, 'Use a number from 1 to 65535, or leave it out.')
  }
  const shell = SHELLS.find((name) => name === (values.shell ?? 'headless'))
  if (shell === undefined) throw new LatheError('request.invalid', `There is no shell "${values.shell}".`, `Use ${SHELLS.join(', ')}.`)
  return {
    port,
    shell,
    data: resolve(values.data ?? defaultDataFolder(facts)),
    adapter: values.adapter ?? process.env['LATHE_ADAPTER'] ?? null,
  }
}

function parse<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw new LatheError('request.invalid', error instanceof Error ? error.message : String(error), 'See the header of engine/main.ts.')
  }
}

/** Where the rest of Lathe lies. A checkout has the built page in dist; a build has everything side by side. */
function homeOf(filename: string): { readonly page: string; readonly assets: string; readonly version: string } {
  const root = join(filename, '..', '..')
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly version: string }
  return { page: join(root, filename.endsWith('.ts') ? 'dist/renderer' : 'renderer'), assets: join(root, 'assets'), version }
}

/** Runs `close` once, when the shell is gone or asks, and ends the process. */
function stopWithShell(close: () => Promise<void>): void {
  let stopping = false
  const stop = (): void => {
    if (stopping) return
    stopping = true
    setTimeout(() => process.exit(1), SHUTDOWN_LIMIT_MS).unref()
    close().then(
      () => process.exit(0),
      (error: unknown) => {
        log('error', `while stopping: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
        process.exit(1)
      },
    )
  }
  process.stdin.on('end', stop).on('close', stop).on('error', stop).resume()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
  const parent = process.ppid
  setInterval(() => {
    if (process.ppid !== parent || !isAlive(parent)) stop()
  }, PARENT_CHECK_MS).unref()
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' // it exists but belongs to somebody else
  }
}

function log(level: 'info' | 'warn' | 'error', text: string): void {
  process.stderr.write(`engine ${level}: ${text}\n`)
}

function print(line: EngineReady | EngineFailed): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

try {
  await main()
} catch (error) {
  const shape = toErrorShape(error)
  if (shape.code === 'internal' && error instanceof Error) log('error', error.stack ?? error.message)
  print({ error: { code: shape.code, message: shape.message, hint: shape.hint } })
  // Not process.exit: stdout is a pipe, and the line above must reach the other end first.
  process.exitCode = 1
  process.stdin.pause()
}
