/**
 * Whether the Electron window can open here, and if not, why, in words for the person at the terminal. Looks first, downloads second: from
 * version 42 on npm installs only the package and the binary is fetched on first use. It imports nothing of Electron.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface DesktopFacts {
  readonly platform: NodeJS.Platform
  readonly env: Readonly<Record<string, string | undefined>>
  /** Null on Windows. */
  readonly userId: number | null
  /** node_modules/electron of the checkout. */
  readonly packageFolder: string
  /** Runs the package's own installer; resolves with its exit code and what it said. */
  readonly install: () => Promise<{ readonly code: number; readonly output: string }>
  readonly now: () => number
  readonly notice: (text: string) => void
}

export type DesktopAnswer = { readonly binary: string } | { readonly reason: string }

/** A failed download is not tried again on every start: offline machines stay offline for a while. */
const RETRY_AFTER_MS = 24 * 3600 * 1000

/** The binary to start, or the reason why there will be no window. `insist` skips the memory of an earlier failure. */
export async function findElectron(facts: DesktopFacts, { insist = false } = {}): Promise<DesktopAnswer> {
  const { platform, env, userId, packageFolder } = facts
  if (platform === 'linux' && !hasScreen(env)) return { reason: 'there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)' }
  if (platform === 'linux' && userId === 0) return { reason: "Electron's sandbox does not run as root" }
  if (!existsSync(packageFolder)) return { reason: 'the electron package is not installed' }
  const ready = installedBinary(packageFolder)
  if (ready !== null) return { binary: ready }
  const failurePath = join(packageFolder, '.lathe-download-failed')
  const failure = readFailure(failurePath)
  if (failure !== null && !insist && facts.now() - failure.at < RETRY_AFTER_MS) return { reason: failure.reason }
  facts.notice('fetching the Electron binary (about 110 MB, once)…')
  const { code, output } = await facts.install()
  const binary = code === 0 ? installedBinary(packageFolder) : null
  if (binary !== null) return { binary }
  const reason = `its binary could not be downloaded (${errorIn(output)})`
  writeFileSync(failurePath, JSON.stringify({ at: facts.now(), reason }))
  return { reason }
}

/** A screen that a window or a browser could appear on. */
export function hasScreen(env: Readonly<Record<string, string | undefined>>): boolean {
  return Boolean(env['DISPLAY'] || env['WAYLAND_DISPLAY'])
}

function installedBinary(packageFolder: string): string | null {
  const pathFile = join(packageFolder, 'path.txt')
  if (!existsSync(pathFile)) return null
  const binary = join(packageFolder, 'dist', readFileSync(pathFile, 'utf8').trim())
  return existsSync(binary) ? binary : null
}

function readFailure(path: string): { readonly at: number; readonly reason: string } | null {
  try {
    const { at, reason } = JSON.parse(readFileSync(path, 'utf8')) as { at?: unknown; reason?: unknown }
    return typeof at === 'number' && typeof reason === 'string' ? { at, reason } : null
  } catch {
    return null // never failed, or a damaged note: try
  }
}

/** The line of the installer's output that names the error, without its stack. */
function errorIn(output: string): string {
  const lines = output.split('\n').map((line) => line.trim())
  return (
    lines.find((line) => /error|ENOTFOUND|ECONN|ETIMEDOUT|EAI_AGAIN|refused|timed? ?out/i.test(line) && !line.startsWith('at ')) ??
    'no reason given'
  )
}
