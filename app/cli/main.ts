/**
 * `lathe …` (DESIGN §10): the engine without a page. The first Ctrl-C asks the command to stop and leave things resumable, the second ends the
 * process at once.
 */
import { runCommandLine } from './run.ts'
import { processTerminal } from './terminal.ts'

/** What a shell expects of a process that Ctrl-C killed. */
const KILLED_BY_CTRL_C = 130

const controller = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (controller.signal.aborted) process.exit(KILLED_BY_CTRL_C)
    controller.abort()
  })
}
// a reader that went away (`lathe … | head`) wants no more output and no stack trace
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

const code = await runCommandLine(process.argv.slice(2), processTerminal(), controller.signal)
// pipes are written asynchronously: leave only when the last byte has gone
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()))
process.exit(code)
