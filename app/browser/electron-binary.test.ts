import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { findElectron, type DesktopFacts } from './electron-binary.ts'
import { openCommand } from './open-address.ts'
import { readStartOptions } from './options.ts'

let folder: string
let installs: number
let notices: string[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lathe-electron-'))
  installs = 0
  notices = []
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function facts(over: Partial<DesktopFacts> = {}): DesktopFacts {
  return {
    platform: 'linux',
    env: { DISPLAY: ':0' },
    userId: 1000,
    packageFolder: folder,
    install: async () => {
      installs += 1
      return { code: 1, output: 'RequestError: getaddrinfo ENOTFOUND mirror.example\n    at connect (x.js:1)\n' }
    },
    now: () => 1_000_000,
    notice: (text) => notices.push(text),
    ...over,
  }
}

function putBinary(): void {
  mkdirSync(join(folder, 'dist'))
  writeFileSync(join(folder, 'dist', 'electron'), '')
  writeFileSync(join(folder, 'path.txt'), 'electron')
}

describe('finding Electron', () => {
  it('needs a screen and a user other than root on Linux, before anything is downloaded', async () => {
    putBinary()
    expect(await findElectron(facts({ env: {} }))).toEqual({ reason: expect.stringContaining('no screen') })
    expect(await findElectron(facts({ userId: 0 }))).toEqual({ reason: expect.stringContaining('root') })
    expect(await findElectron(facts({ env: { WAYLAND_DISPLAY: 'wayland-0' } }))).toEqual({ binary: join(folder, 'dist', 'electron') })
    expect(await findElectron(facts({ platform: 'win32', env: {}, userId: null }))).toEqual({ binary: join(folder, 'dist', 'electron') })
    expect(installs).toBe(0)
  })

  it('downloads it once, and says so', async () => {
    const install = async (): Promise<{ code: number; output: string }> => {
      installs += 1
      putBinary()
      return { code: 0, output: '' }
    }
    expect(await findElectron(facts({ install }))).toEqual({ binary: join(folder, 'dist', 'electron') })
    expect(await findElectron(facts({ install }))).toEqual({ binary: join(folder, 'dist', 'electron') })
    expect(installs).toBe(1)
    expect(notices).toHaveLength(1)
  })

  it('gives the reason of a failed download, and tries again only after a day or when asked', async () => {
    const reason = 'its binary could not be downloaded (RequestError: getaddrinfo ENOTFOUND mirror.example)'
    expect(await findElectron(facts())).toEqual({ reason })
    expect(await findElectron(facts())).toEqual({ reason })
    expect(installs).toBe(1)
    await findElectron(facts(), { insist: true })
    await findElectron(facts({ now: () => 1_000_000 + 25 * 3600 * 1000 }))
    expect(installs).toBe(3)
  })

  it('does not trust an installer that says it worked and left nothing', async () => {
    const answer = await findElectron(facts({ install: async () => ({ code: 0, output: '' }) }))
    expect(answer).toEqual({ reason: 'its binary could not be downloaded (no reason given)' })
    expect(existsSync(join(folder, '.lathe-download-failed'))).toBe(true)
  })
})

describe('the options of npm start', () => {
  it('choose one shell', () => {
    expect(readStartOptions([])).toEqual({ shell: 'auto', port: 0, data: null, adapter: null })
    expect(readStartOptions(['--headless', '--port', '4000', '--data', 'd'])).toEqual({
      shell: 'headless',
      port: 4000,
      data: 'd',
      adapter: null,
    })
    expect(readStartOptions(['--help'])).toBe('help')
    expect(() => readStartOptions(['--browser', '--headless'])).toThrow('Choose one of --browser and --headless.')
    expect(() => readStartOptions(['--port', 'http'])).toThrow('http is not a port')
    expect(() => readStartOptions(['--lan'])).toThrow(/--lan/)
  })
})

describe('opening an address', () => {
  it("uses the platform's opener and quotes for cmd", () => {
    expect(openCommand('linux', 'http://127.0.0.1:1/#t=a')).toEqual(['xdg-open', 'http://127.0.0.1:1/#t=a'])
    expect(openCommand('darwin', 'http://x/')).toEqual(['open', 'http://x/'])
    expect(openCommand('win32', 'http://x/?a&b')).toEqual(['cmd.exe', '/d', '/c', 'start', '""', 'http://x/?a^&b'])
  })
})
