/** The real engine as a child process, on a software adapter and in a data folder of its own. It can be killed and started again in its place. */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { findLavapipe } from '../app/dev/bootstrap/browsers.mjs'
import type { EngineFailed, EngineReady } from '../engine/contract/transport.ts'

export const ROOT = join(import.meta.dirname, '..')

export class EngineProcess {
  readonly #dataFolder: string
  readonly #token = randomBytes(32).toString('base64url')
  #child: ChildProcess | null = null
  #port = 0
  /** Everything that the engine wrote to stderr, for the report of a failed test. */
  log = ''

  constructor(dataFolder: string) {
    this.#dataFolder = dataFolder
  }

  /** Starts it, on the same port as before, and resolves with the address that a user would open. */
  async start(): Promise<{ readonly origin: string; readonly url: string }> {
    const child = spawn(
      process.execPath,
      [join(ROOT, 'engine/main.ts'), '--shell', 'browser', '--data', this.#dataFolder, '--port', String(this.#port)],
      { env: { ...process.env, ...softwareAdapter(), LATHE_TOKEN: this.#token }, stdio: ['pipe', 'pipe', 'pipe'] },
    )
    this.#child = child
    child.stderr.on('data', (chunk: Buffer) => (this.log += chunk.toString()))
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const said = JSON.parse(line) as EngineReady | EngineFailed
    if ('error' in said) throw new Error(`The engine does not start: ${said.error.message}\n${this.log}`)
    this.#port = Number(new URL(said.origin).port)
    return { origin: said.origin, url: `${said.origin}/#t=${this.#token}` }
  }

  /** As a crash would end it: without any chance to clean up. */
  async kill(): Promise<void> {
    await this.#end((child) => child.kill('SIGKILL'))
  }

  /** As a shell ends it. */
  async stop(): Promise<void> {
    await this.#end((child) => child.stdin?.end())
  }

  async #end(how: (child: ChildProcess) => unknown): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    how(child)
    await gone
  }
}

/** lavapipe alone, so that a test never depends on the GPU of the machine; the system's own choice where there is no lavapipe (macOS, Windows). */
export function softwareAdapter(): Record<string, string> {
  const manifest = findLavapipe()
  return manifest === null ? {} : { VK_DRIVER_FILES: manifest }
}
