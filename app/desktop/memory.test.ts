import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readMemory, remember, visibleBounds } from './memory.ts'

let folder: string
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'lathe-memory-'))))
afterEach(() => rmSync(folder, { recursive: true, force: true }))

describe('what the shell remembers', () => {
  it('adds up, and survives', () => {
    const path = join(folder, 'shell.json')
    expect(readMemory(path)).toEqual({})
    remember(path, { folder: '/models' })
    remember(path, { bounds: { x: 1, y: 2, width: 3, height: 4 }, maximized: true })
    expect(readMemory(path)).toEqual({ folder: '/models', bounds: { x: 1, y: 2, width: 3, height: 4 }, maximized: true })
  })

  it.each(['', '{', 'null', '[]', '7', '{"bounds":{"x":"1"},"maximized":"yes","folder":3}', '{"bounds":null}'])(
    'takes %j for a first start',
    (text) => {
      const path = join(folder, 'shell.json')
      writeFileSync(path, text)
      expect(readMemory(path)).toEqual({})
    },
  )
})

describe('a remembered place', () => {
  const screen = { x: 0, y: 0, width: 1920, height: 1080 }
  const second = { x: 1920, y: 0, width: 1280, height: 1024 }

  it('counts if the title bar can still be grabbed', () => {
    expect(visibleBounds(at(100, 100), [screen])).toEqual(at(100, 100))
    expect(visibleBounds(at(-850, 0), [screen])).toEqual(at(-850, 0))
    expect(visibleBounds(at(2000, 50), [screen, second])).toEqual(at(2000, 50))
  })

  it('is forgotten when its screen is gone or the title bar is out of reach', () => {
    expect(visibleBounds(undefined, [screen])).toBeNull()
    expect(visibleBounds(at(2000, 50), [screen])).toBeNull()
    expect(visibleBounds(at(-950, 0), [screen])).toBeNull()
    expect(visibleBounds(at(100, -200), [screen])).toBeNull()
    expect(visibleBounds(at(100, 1100), [screen])).toBeNull()
  })
})

function at(x: number, y: number): { x: number; y: number; width: number; height: number } {
  return { x, y, width: 1000, height: 700 }
}
