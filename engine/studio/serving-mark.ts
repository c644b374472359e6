/**
 * A file that stands while the server runs, so that an engine that takes the place of one that died brings the server back. It names the process
 * that started the engine: after a crash that is still the same one; after a power cut, or a window that was killed, it is another, and then nothing
 * listens again before somebody asks for it.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'

export interface ServingMark {
  set(): void
  clear(): void
  /** What the last engine left: `none` when it had stopped its server. */
  read(): 'none' | 'same-shell' | 'other-shell'
}

export function servingMark(path: string, shellProcess: number, warn: (text: string) => void): ServingMark {
  return {
    set: () => {
      try {
        writeFileSync(path, String(shellProcess))
      } catch (error) {
        // The server runs all the same; it would not come back after a crash.
        warn(`The mark of the running server was not written: ${String(error)}`)
      }
    },
    clear: () => rmSync(path, { force: true }),
    read: () => {
      try {
        return readFileSync(path, 'utf8') === String(shellProcess) ? 'same-shell' : 'other-shell'
      } catch {
        // No file: the usual case. One that can't be read is as good as none.
        return 'none'
      }
    },
  }
}
