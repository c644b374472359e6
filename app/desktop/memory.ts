/** What the shell remembers between starts: where the window was and which folder was chosen last. A damaged file means a first start. */
import { readFileSync, writeFileSync } from 'node:fs'
import type { Rectangle } from 'electron'

export interface Memory {
  readonly bounds?: Rectangle
  readonly maximized?: boolean
  readonly folder?: string
}

export function readMemory(path: string): Memory {
  try {
    const { bounds, maximized, folder } = JSON.parse(readFileSync(path, 'utf8')) as Memory
    const numbers = [bounds?.x, bounds?.y, bounds?.width, bounds?.height]
    return {
      ...(bounds && numbers.every(Number.isInteger) ? { bounds } : {}),
      ...(maximized === true ? { maximized } : {}),
      ...(typeof folder === 'string' ? { folder } : {}),
    }
  } catch {
    return {} // first start, or a file that was cut off
  }
}

export function remember(path: string, change: Memory): void {
  writeFileSync(path, JSON.stringify({ ...readMemory(path), ...change }))
}

/** The remembered place if enough of its title bar can still be grabbed; a screen may have gone since. */
export function visibleBounds(bounds: Rectangle | undefined, screens: readonly Rectangle[]): Rectangle | null {
  const grip = 100 // pixels of the title bar
  if (bounds === undefined) return null
  const [right, middle] = [bounds.x + bounds.width, bounds.y + grip / 4]
  const reachable = screens.some(
    (s) => right >= s.x + grip && bounds.x <= s.x + s.width - grip && middle >= s.y && middle <= s.y + s.height,
  )
  return reachable ? bounds : null
}
