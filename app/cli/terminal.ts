/** stdout and stderr as the command line uses them: results on the one, progress and remarks on the other. */

export interface Terminal {
  out(text: string): void
  /** A line on stderr that stays. */
  note(line: string): void
  /** The line about work in progress, replaced by the next; null clears it. */
  progress(line: string | null): void
}

/** A terminal is redrawn this often; a log file gets a line this often. */
const REDRAW_MS = 100
const LOG_MS = 5000

/** Where stderr is not a terminal, progress becomes a line now and then. */
export function processTerminal(): Terminal {
  const { stdout, stderr } = process
  const live = stderr.isTTY === true
  let shown = false
  let lastAt = -Infinity
  const clear = (): void => {
    if (shown) stderr.write('\r\u001b[2K')
    shown = false
  }
  return {
    out: (text) => {
      clear()
      stdout.write(text)
    },
    note: (line) => {
      clear()
      stderr.write(`${line}\n`)
    },
    progress: (line) => {
      if (line === null) {
        clear()
        lastAt = -Infinity
        return
      }
      const now = performance.now()
      if (now - lastAt < (live ? REDRAW_MS : LOG_MS)) return
      lastAt = now
      if (live) {
        stderr.write(`\r\u001b[2K${line.slice(0, (stderr.columns ?? 80) - 1)}`)
        shown = true
      } else {
        stderr.write(`${line}\n`)
      }
    },
  }
}
