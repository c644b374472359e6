/**
 * Owns the engine process for a shell: starts it, learns its address from its first line, starts it again when it dies, and closes it by closing
 * its stdin. A restarted engine keeps token and port, so an open page reconnects by itself. Both shells use it; it knows neither windows nor browsers.
 */
import { spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { LatheError } from '../../engine/contract/errors.ts'
import type { ErrorCode } from '../../engine/contract/errors.ts'
import { STATUS_PATH } from '../../engine/contract/transport.ts'
import type { EngineFailed, EngineReady } from '../../engine/contract/transport.ts'

export interface EngineAddress {
  readonly origin: string
  readonly cookie: string
  readonly token: string
}

export interface SupervisorOptions {
  /** Program and arguments of the engine, e.g. `[node, "engine/main.ts", "--shell", "desktop"]`. The supervisor appends `--port`. */
  readonly command: readonly string[]
  readonly cwd?: string
  /** Environment of the shell; what would change how Node runs is taken out. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** 0 or absent = any free port for the first start. */
  readonly port?: number
  /** A line that the engine wrote for people: warnings and errors. */
  readonly onMessage: (line: string) => void
  /** The engine died by itself and will be started again after the pause. */
  readonly onCrash?: (crash: { readonly code: number | null; readonly attempt: number; readonly pauseMs: number }) => void
  /** It is back; the address is a new one only if the old port was lost meanwhile. */
  readonly onRestart?: (address: EngineAddress) => void
  /** It could not be started again; nothing more happens until `start`. */
  readonly onGiveUp?: (error: LatheError) => void
}

/** First pause before a restart; doubles with every crash that follows within STABLE_MS of a start. */
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 10_000
/** An engine that ran this long was healthy: its crash is a new one. */
const STABLE_MS = 60_000
/** About half a minute of trying; then something is wrong that a further start will not mend. */
const MAX_ATTEMPTS = 6
/** The engine itself stops within 10 s; after that it hangs. */
const STOP_LIMIT_MS = 12_000
/** Opening the library of a large data folder on a slow disk takes seconds, not minutes. */
const START_LIMIT_MS = 60_000

/**
 * Dawn prints these on every start with Mesa's software driver: it lowers two limits of its own accord, to values far above what any kernel uses.
 * Everything else that the engine says passes through.
 */
const HARMLESS = /^Warning: maxDynamic\w+ artificially reduced from \d+ to \d+ to fit dynamic offset allocation limit\.$/

type Engine = ChildProcessByStdio<Writable, Readable, Readable>

export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #token = randomBytes(32).toString('base64url')
  #engine: Engine | null = null
  #address: EngineAddress | null = null
  #stopping = false
  #attempt = 0
  #readyAt = 0
  #pause: NodeJS.Timeout | undefined

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  get address(): EngineAddress | null {
    return this.#address
  }

  /** Starts the engine. Throws the engine's own error, or `internal` when it ends without one. */
  async start(): Promise<EngineAddress> {
    this.#stopping = false
    this.#attempt = 0
    return this.#launch(this.#options.port ?? 0)
  }

  /** Jobs running or waiting, so that a shell can ask before it quits; 0 when the engine doesn't answer. */
  async runningJobs(): Promise<number> {
    if (this.#address === null) return 0
    try {
      const response = await fetch(this.#address.origin + STATUS_PATH, {
        headers: { Authorization: `Bearer ${this.#address.token}` },
        signal: AbortSignal.timeout(1000),
      })
      const status = (await response.json()) as { readonly runningJobs?: number }
      return status.runningJobs ?? 0
    } catch {
      return 0 // restarting or hung: there is nothing worth asking about
    }
  }

  /** Closes the engine's stdin and waits for it to end; kills it when it hangs. */
  async stop(): Promise<void> {
    this.#stopping = true
    clearTimeout(this.#pause)
    const engine = this.#engine
    if (engine === null) return
    const ended = new Promise<void>((resolve) => engine.once('exit', () => resolve()))
    const limit = setTimeout(() => engine.kill('SIGKILL'), STOP_LIMIT_MS)
    engine.stdin.end()
    await ended
    clearTimeout(limit)
  }

  async #launch(port: number): Promise<EngineAddress> {
    const [program = '', ...args] = this.#options.command
    const engine = spawn(program, [...args, '--port', String(port)], {
      cwd: this.#options.cwd,
      env: { ...withoutNodeOptions(this.#options.env), LATHE_TOKEN: this.#token },
      stdio: ['pipe', 'pipe', 'pipe'],
      windowsHide: true,
    })
    createInterface({ input: engine.stderr }).on('line', (line) => {
      if (!HARMLESS.test(line)) this.#options.onMessage(line)
    })
    this.#engine = engine
    engine.stdin.on('error', () => {}) // it died while we closed it: its exit tells
    const limit = setTimeout(() => engine.kill('SIGKILL'), START_LIMIT_MS)
    try {
      const ready = await firstLine(engine)
      this.#address = { origin: ready.origin, cookie: ready.cookie, token: ready.token ?? this.#token }
    } catch (error) {
      this.#engine = null
      if (error instanceof LatheError && error.code === 'host.port-in-use' && port !== 0) return this.#launch(0)
      throw error
    } finally {
      clearTimeout(limit)
    }
    this.#readyAt = performance.now()
    // It may have died between its line and this one; then the event has passed.
    if (engine.exitCode !== null || engine.signalCode !== null) this.#afterExit(engine.exitCode)
    else engine.once('exit', (code) => this.#afterExit(code))
    return this.#address
  }

  #afterExit(code: number | null): void {
    this.#engine = null
    if (this.#stopping) return
    if (performance.now() - this.#readyAt > STABLE_MS) this.#attempt = 0
    this.#scheduleRestart(code, new LatheError('internal', `The engine stopped (code ${code}).`, 'Start Lathe again; jobs can be resumed.'))
  }

  #scheduleRestart(code: number | null, reason: LatheError): void {
    this.#attempt += 1
    if (this.#attempt > MAX_ATTEMPTS) {
      this.#options.onGiveUp?.(reason)
      return
    }
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#attempt - 1))
    this.#options.onCrash?.({ code, attempt: this.#attempt, pauseMs })
    this.#pause = setTimeout(() => void this.#restart(), pauseMs)
  }

  async #restart(): Promise<void> {
    const port = this.#address === null ? 0 : Number(new URL(this.#address.origin).port)
    try {
      const address = await this.#launch(port)
      // Asked to stop while it was starting.
      if (this.#stopping) await this.stop()
      else this.#options.onRestart?.(address)
    } catch (error) {
      if (this.#stopping) return
      this.#scheduleRestart(1, error instanceof LatheError ? error : new LatheError('internal', String(error), 'Start Lathe again.'))
    }
  }
}

/** What the engine says first. Rejects with its error, or with one of ours when it ends or babbles instead. */
function firstLine(engine: Engine): Promise<EngineReady> {
  return new Promise((resolve, reject) => {
    const hint = 'Its messages are in the terminal, or in the log of the application.'
    let reason: LatheError | null = null
    engine.once('error', (error) => reject(new LatheError('internal', `The engine could not be started: ${error.message}.`, hint)))
    // After `close` the process is gone and its port and files are free again, so only then may a caller try once more.
    engine.once('close', (code, signal) => {
      reject(reason ?? new LatheError('internal', `The engine ended before it was ready (${signal ?? `code ${code}`}).`, hint))
    })
    createInterface({ input: engine.stdout }).once('line', (line) => {
      const said = parseLine(line)
      if (said !== null && 'origin' in said) return resolve(said)
      const error = said?.error ?? { code: 'internal', message: 'The engine said something else than its address.', hint }
      reason = new LatheError(error.code as ErrorCode, error.message, error.hint)
      if (said === null) engine.kill()
    })
  })
}

function parseLine(line: string): EngineReady | EngineFailed | null {
  try {
    const said = JSON.parse(line) as Partial<EngineReady & EngineFailed> | null
    if (typeof said?.error?.message === 'string') return { error: said.error }
    return typeof said?.origin === 'string' && typeof said.cookie === 'string' ? (said as EngineReady) : null
  } catch {
    return null // not JSON: not our engine
  }
}

/** NODE_OPTIONS could load code into the engine or break it, and Electron's switch would turn a Node into something else. */
export function withoutNodeOptions(env: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  const unwanted = new Set(['NODE_OPTIONS', 'NODE_PATH', 'NODE_REPL_EXTERNAL_MODULE', 'ELECTRON_RUN_AS_NODE'])
  return Object.fromEntries(Object.entries(env).filter(([name]) => !unwanted.has(name.toUpperCase())))
}
