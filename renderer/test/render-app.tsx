/** Renders the whole page on a fake engine at an address, the way a user meets it. */
import { act, cleanup, configure, render } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { afterEach } from 'vitest'
import { createQueryClient } from '../data/engine.tsx'
import { useDrafts } from '../features/optimize/drafts.ts'
import type { Host } from '../host.ts'
import { App } from '../shell/app.tsx'
import { useViewStore } from '../shell/view-store.ts'
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts'

// On a busy machine one render of the whole page may take a second.
configure({ asyncUtilTimeout: 5000 })

// The simulated DOM has no layout; virtual lists would see a box of no height and draw no row.
for (const [name, size] of [
  ['clientHeight', 800],
  ['clientWidth', 1200],
  ['offsetHeight', 30],
] as const) {
  Object.defineProperty(HTMLElement.prototype, name, { configurable: true, get: () => size })
}

export interface TestHost extends Host {
  readonly copied: string[]
}

export function createTestHost(overrides: Partial<Host> = {}): TestHost {
  const copied: string[] = []
  return {
    kind: 'browser',
    isMac: false,
    pickFolder: null,
    pickFile: null,
    dropped: (transfer) => [...transfer.files].map((file) => ({ name: file.name, path: null })),
    reveal: null,
    copyText: (text) => {
      copied.push(text)
      return Promise.resolve()
    },
    openLink: () => {},
    guardQuit: () => () => {},
    setProgress: () => {},
    onMenuCommand: () => () => {},
    notify: () => {},
    ...overrides,
    copied,
  }
}

export function renderApp(path: string, options: FakeEngineOptions = {}, hostOverrides: Partial<Host> = {}) {
  window.history.replaceState(null, '', path)
  const engine = new FakeEngine(options)
  const host = createTestHost(hostOverrides)
  const user = userEvent.setup()
  const view = render(<App client={engine.client} connection={engine} queryClient={createQueryClient()} host={host} />)
  /** Lets scripted jobs work and the page take in the events. */
  const tick = (milliseconds: number) =>
    act(async () => {
      engine.tick(milliseconds)
      await Promise.resolve()
    })
  return { ...view, engine, host, user, tick }
}

afterEach(() => {
  cleanup()
  useDrafts.setState({ recipes: {}, changes: {}, losses: {} })
  useViewStore.setState({ paletteOpen: false, cheatSheetOpen: false, jobsTrayOpen: false, folderRequest: null })
})
