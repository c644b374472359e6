// @ts-check
/**
 * How the bootstrap talks and runs programs. Every notice goes to stderr, so that `npm run -s lathe` prints nothing but the command's output.
 * It knows no program by name; tests pass a runner of their own.
 */
import { spawn, spawnSync } from 'node:child_process'

/**
 * @typedef {{ status: number, stdout: string, stderr: string }} Finished
 * @typedef {{ cwd?: string, env?: Record<string, string | undefined>, quiet?: boolean, look?: boolean, timeoutMs?: number }} RunOptions
 * @typedef {object} Runner
 * @property {(command: readonly string[], options?: RunOptions) => Finished} run Runs to the end. Output is captured when `quiet`, otherwise it goes to stderr.
 * `look` marks a command that changes nothing.
 */

/** One line to the person at the terminal. @param {string} text */
export function notice(text) {
  process.stderr.write(`lathe: ${text}\n`)
}

/** Ends the bootstrap with what happened and what to do. */
export class BootstrapError extends Error {
  /** @param {string} message @param {string} hint */
  constructor(message, hint) {
    super(message)
    this.hint = hint
  }
}

/** @type {Runner} */
export const systemRunner = {
  run([program = '', ...args], { cwd, env = process.env, quiet = false, timeoutMs } = {}) {
    const { status, stdout, stderr, error } = spawnSync(program, args, {
      cwd,
      env,
      encoding: 'utf8',
      timeout: timeoutMs,
      maxBuffer: 64 * 2 ** 20, // apt and npm can be talkative; 64 MiB is far beyond either
      stdio: quiet ? ['ignore', 'pipe', 'pipe'] : ['ignore', 2, 2],
    })
    return { status: status ?? 1, stdout: stdout ?? '', stderr: error ? error.message : (stderr ?? '') }
  },
}

/**
 * Prints what would be run, for `LATHE_DRY_RUN=1`. Commands that only look do run.
 * @type {Runner}
 */
export const dryRunner = {
  run(command, options = {}) {
    if (options.look) return systemRunner.run(command, options)
    notice(`would run: ${command.map(quoteArgument).join(' ')}`)
    return { status: 0, stdout: '', stderr: '' }
  },
}

/** An argument as a shell would need it. @param {string} argument */
export function quoteArgument(argument) {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`
}

/**
 * Hands the terminal to a program and becomes its exit code. A Ctrl-C reaches the program from the terminal itself, so SIGINT is passed on only
 * where there is no terminal; SIGTERM and SIGHUP are always passed on.
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ cwd: string, env: Record<string, string | undefined> }} options
 * @returns {Promise<number>}
 */
export function become(program, args, { cwd, env }) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env, stdio: 'inherit' })
    const pass = (/** @type {NodeJS.Signals} */ signal) => {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal)
    }
    for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, pass)
    child.once('error', reject)
    // 128 + n is what a shell reports for a program ended by signal n; 1 stands for the rare signal without a number here.
    child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : signal === 'SIGTERM' ? 143 : 1)))
  })
}
