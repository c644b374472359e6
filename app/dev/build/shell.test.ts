/** What can be said about the shell without an Electron binary: what its bundles import and call, and that they are what Electron expects. */
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { DESKTOP_COMMANDS } from '../../../engine/contract/desktop.ts'
import { ROOT } from '../tools.ts'
import { buildShell } from './shell.ts'

let folder: string
let built: Awaited<ReturnType<typeof buildShell>>
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lathe-shell-'))
  built = await buildShell(folder)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('the bundles', () => {
  it('import nothing but electron and Node itself', () => {
    for (const metafile of [built.main, built.preload]) {
      const external = Object.values(metafile.outputs).flatMap(({ imports }) => imports.map(({ path }) => path))
      expect(external.filter((path) => path !== 'electron' && !path.startsWith('node:'))).toEqual([])
      expect(external).toContain('electron')
    }
  })

  it('hold the shell and the two files of the contract that it needs, no product logic', () => {
    const inputs = [built.main, built.preload]
      .flatMap(({ inputs: files }) => Object.keys(files))
      .map((path) => path.replace(/^.*?(app|engine)\//, '$1/'))
    expect([...new Set(inputs)].toSorted()).toEqual([
      'app/desktop/harden.ts',
      'app/desktop/main.ts',
      'app/desktop/memory.ts',
      'app/desktop/menu.ts',
      'app/desktop/preload.ts',
      'app/desktop/secret.ts',
      'app/supervisor/supervisor.ts',
      'engine/contract/errors.ts',
      'engine/contract/transport.ts',
    ])
  })

  it('never wait for readiness before the module has been evaluated: Electron would wait for us', () => {
    expect(readFileSync(join(folder, 'main.mjs'), 'utf8')).not.toMatch(/^await /m)
  })

  it('stay small: fewer than 300 lines of code', () => {
    const desktop = join(ROOT, 'app/desktop')
    const sources = readdirSync(desktop).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    const lines = sources.flatMap((name) => readFileSync(join(desktop, name), 'utf8').split('\n'))
    const code = lines.filter((line) => !/^\s*(\/\/|\/\*|\*|$)/.test(line))
    expect(code.length).toBeLessThan(300)
  })
})

describe('the preload', () => {
  it('is one CommonJS script that touches only the three APIs, and hands out no raw channel', async () => {
    const calls: unknown[][] = []
    let exposed: Record<string, unknown> = {}
    const listeners = new Map<string, (...args: unknown[]) => void>()
    const electron = {
      contextBridge: { exposeInMainWorld: (name: string, api: Record<string, unknown>) => (exposed = { name, ...api }) },
      ipcRenderer: {
        invoke: async (...args: unknown[]) => calls.push(['invoke', ...args]),
        send: (...args: unknown[]) => void calls.push(['send', ...args]),
        on: (channel: string, listener: (...args: unknown[]) => void) => listeners.set(channel, listener),
        off: (channel: string) => listeners.delete(channel),
      },
      webUtils: { getPathForFile: (file: unknown) => `path of ${String(file)}` },
    }
    // Anything else that the script reached for would be undefined here, as it is in the sandbox.
    const require = (name: string): unknown => {
      if (name !== 'electron') throw new Error(`the sandbox has no ${name}`)
      return guarded(electron)
    }
    const script = readFileSync(join(folder, 'preload.cjs'), 'utf8')
    runInNewContext(`(function (require, module, exports, process) {${script}\n})`)(require, { exports: {} }, {}, { platform: 'linux' })
    expect(Object.keys(exposed).toSorted()).toEqual(['name', 'onCommand', 'pathOf', 'pickFolder', 'platform', 'reveal', 'setProgress'])
    const bridge = exposed as unknown as {
      name: string
      platform: string
      pickFolder: () => Promise<unknown>
      pathOf: (file: unknown) => string
      reveal: (path: string) => Promise<unknown>
      setProgress: (fraction: number | null) => void
      onCommand: (listener: (...args: unknown[]) => void) => () => void
    }
    expect([bridge.name, bridge.platform, bridge.pathOf('file')]).toEqual(['desktop', 'linux', 'path of file'])
    await bridge.pickFolder()
    await bridge.reveal('/models')
    bridge.setProgress(0.5)
    expect(calls).toEqual([
      ['invoke', 'pick-folder'],
      ['invoke', 'reveal', '/models'],
      ['send', 'progress', 0.5],
    ])
    const listener = vi.fn<(...args: unknown[]) => void>()
    const stop = bridge.onCommand(listener)
    listeners.get('command')?.({ sender: 'the raw channel' }, DESKTOP_COMMANDS[0])
    expect(listener.mock.calls).toEqual([[DESKTOP_COMMANDS[0]]])
    stop()
    expect(listeners.size).toBe(0)
  })
})

/** Throws for any property that is not there, so that an unexpected API fails the test instead of being undefined. */
function guarded<T extends object>(target: T): T {
  return new Proxy(target, {
    get(object, key) {
      if (!(key in object)) throw new Error(`the preload may not use ${String(key)}`)
      const value: unknown = Reflect.get(object, key)
      return typeof value === 'object' && value !== null ? guarded(value) : value
    },
  })
}
