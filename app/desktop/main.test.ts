/** The main process against a pretend Electron and a pretend engine: every decision it takes, in the order in which Electron would ask for it. */
import { EventEmitter } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

const ORIGIN = 'http://127.0.0.1:4001'

interface Contents extends EventEmitter {
  url: string
  sent: unknown[][]
  windowOpen: (details: { url: string }) => unknown
}

/** What the pretend Electron has been told. */
let told: {
  log: string[]
  windows: FakeWindow[]
  cookies: unknown[]
  opened: string[]
  revealed: string[]
  dialogs: { kind: string; options: Record<string, unknown> }[]
  answers: unknown[]
  handlers: Map<string, (...args: unknown[]) => unknown>
  permissionRequest: (contents: unknown, permission: string, done: (granted: boolean) => void) => void
  permissionCheck: (contents: unknown, permission: string, origin: string) => boolean
  menu: { label?: string; role?: string; submenu?: { label?: string; accelerator?: string; click?: () => void }[] }[]
  app: FakeApp
  engine: FakeSupervisor
  shown: unknown[]
}
let userData: string
let lock = true
let packaged = false

function createContents(): Contents {
  const contents = new EventEmitter() as Contents
  contents.url = ''
  contents.sent = []
  return Object.assign(contents, {
    getURL: () => contents.url,
    send: (...args: unknown[]) => contents.sent.push(args),
    setWindowOpenHandler: (handler: Contents['windowOpen']) => (contents.windowOpen = handler),
  })
}

class FakeWindow extends EventEmitter {
  readonly webContents = createContents()
  readonly options: Record<string, unknown>
  progress: number[] = []
  focused = 0
  constructor(options: Record<string, unknown>) {
    super()
    this.options = options
    told.windows.push(this)
    told.app.emit('web-contents-created', {}, this.webContents)
  }
  async loadURL(url: string): Promise<void> {
    told.log.push(`load ${url}`)
    this.webContents.url = `${url}/`
    this.emit('ready-to-show')
  }
  show = (): void => void told.log.push('show')
  maximize = (): void => void told.log.push('maximize')
  getNormalBounds = (): object => ({ x: 10, y: 20, width: 1000, height: 700 })
  isMaximized = (): boolean => true
  isMinimized = (): boolean => true
  restore = (): void => void told.log.push('restore')
  focus = (): void => void (this.focused += 1)
  setProgressBar = (value: number): void => void this.progress.push(value)
  /** As the user's click on X: true when the window really closed. */
  close(): boolean {
    let prevented = false
    this.emit('close', { preventDefault: () => (prevented = true) })
    if (!prevented) this.emit('closed')
    return !prevented
  }
}

class FakeApp extends EventEmitter {
  readonly isPackaged = packaged
  getPath = (): string => userData
  enableSandbox = (): void => void told.log.push('sandbox')
  requestSingleInstanceLock = (): boolean => lock
  whenReady = async (): Promise<void> => void told.log.push('ready')
  quit(): void {
    told.log.push('quit')
    if (told.windows.every((window) => window.close())) this.emit('will-quit', { preventDefault: () => told.log.push('wait') })
  }
  exit = (): void => void told.log.push('exit')
}

interface SupervisorOptions {
  readonly command: readonly string[]
  readonly onRestart: (address: object) => void
  readonly onGiveUp: (error: object) => void
}

class FakeSupervisor {
  readonly options: SupervisorOptions
  address: { origin: string } | null = null
  jobs = 0
  failures: Error[] = []
  constructor(options: SupervisorOptions) {
    this.options = options
    told.engine = this
  }
  async start(): Promise<object> {
    told.log.push('start engine')
    const failure = this.failures.shift()
    if (failure) throw failure
    return this.moveTo(ORIGIN)
  }
  moveTo(origin: string): { origin: string } {
    return (this.address = { origin, cookie: 'lathe-4001', token: 'secret' } as { origin: string })
  }
  runningJobs = async (): Promise<number> => this.jobs
  stop = async (): Promise<void> => void told.log.push('stop engine')
}

function answerDialog(kind: string, options: Record<string, unknown>): unknown {
  told.dialogs.push({ kind, options })
  return told.answers.shift()
}

/** Evaluates main.ts anew and waits until it has done everything it does by itself. */
async function start(prepare: () => void = () => {}): Promise<void> {
  vi.resetModules()
  told = {
    log: [],
    windows: [],
    cookies: [],
    opened: [],
    revealed: [],
    dialogs: [],
    answers: [],
    handlers: new Map(),
    menu: [],
    shown: [],
  } as unknown as typeof told
  told.app = new FakeApp()
  vi.doMock('../supervisor/supervisor.ts', () => ({
    Supervisor: class extends FakeSupervisor {
      constructor(options: SupervisorOptions) {
        super(options)
        prepare()
      }
    },
  }))
  vi.doMock('electron', () => ({
    app: told.app,
    BrowserWindow: FakeWindow,
    Menu: {
      buildFromTemplate: (template: typeof told.menu) => ({ template, popup: () => told.shown.push(template) }),
      setApplicationMenu: ({ template }: { template: typeof told.menu }) => (told.menu = template),
    },
    nativeTheme: { shouldUseDarkColors: true },
    safeStorage: { isEncryptionAvailable: () => false },
    screen: { getAllDisplays: () => [{ workArea: { x: 0, y: 0, width: 1920, height: 1080 } }] },
    session: {
      defaultSession: {
        setPermissionRequestHandler: (handler: typeof told.permissionRequest) => (told.permissionRequest = handler),
        setPermissionCheckHandler: (handler: typeof told.permissionCheck) => (told.permissionCheck = handler),
        cookies: { set: async (cookie: unknown) => told.cookies.push(cookie) },
      },
    },
    shell: { openExternal: async (url: string) => told.opened.push(url), showItemInFolder: (path: string) => told.revealed.push(path) },
    dialog: {
      showOpenDialog: async (_window: unknown, options: Record<string, unknown>) => answerDialog('open', options),
      showMessageBox: async (...args: Record<string, unknown>[]) => answerDialog('message', args.at(-1)!),
    },
    ipcMain: {
      handle: (channel: string, handler: (...args: unknown[]) => unknown) => told.handlers.set(channel, handler),
      on: (channel: string, handler: (...args: unknown[]) => unknown) => told.handlers.set(channel, handler),
    },
  }))
  await import('./main.ts')
  await settle()
}

/** Lets everything that is already decided happen. Nothing in the pretend Electron waits for time. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

const from = (url: string): object => ({ senderFrame: { url } })
const page = from(`${ORIGIN}/models`)
const window = (): FakeWindow => told.windows[0]!

/** True when the window lets the page go there. */
function navigate(url: string): boolean {
  let prevented = false
  window().webContents.emit('will-frame-navigate', { url, preventDefault: () => (prevented = true) })
  return !prevented
}

beforeEach(() => {
  userData = mkdtempSync(join(tmpdir(), 'lathe-desktop-'))
  lock = true
  packaged = false
  vi.stubEnv('LATHE_NODE', '/node24')
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(userData, { recursive: true, force: true })
})

describe('starting', () => {
  it('sandboxes before anything is ready, starts the engine, sets the cookie, then loads the page', async () => {
    await start()
    expect(told.log).toEqual(['sandbox', 'ready', 'start engine', `load ${ORIGIN}`, 'show'])
    expect(told.cookies).toEqual([{ url: ORIGIN, name: 'lathe-4001', value: 'secret', httpOnly: true, sameSite: 'strict' }])
    expect(told.engine.options.command).toEqual(['/node24', join(import.meta.dirname, '../../engine/main.ts'), '--shell', 'desktop'])
  })

  it('leaves every protection of a window at its default', async () => {
    await start()
    expect(Object.keys(window().options['webPreferences'] as object)).toEqual(['preload'])
  })

  it('runs the Node and the build that it was packed with, whatever the environment says', async () => {
    packaged = true
    Object.assign(process, { resourcesPath: '/app/resources' })
    await start()
    expect(told.engine.options.command).toEqual(['/app/resources/node/node', '/app/resources/engine/main.js', '--shell', 'desktop'])
  })

  it('gives way to a window that is already open, which comes to the front', async () => {
    lock = false
    await start()
    expect(told.log).toEqual(['sandbox', 'quit'])
    lock = true
    await start()
    told.app.emit('second-instance')
    expect(told.log).toContain('restore')
    expect(window().focused).toBe(1)
  })

  it('says why when the engine does not start, and tries again if asked', async () => {
    await start(() => {
      told.engine.failures = [Object.assign(new Error('The data folder is in use.'), { hint: 'Close the other Lathe.' })]
      told.answers = [{ response: 0 }]
    })
    expect(told.dialogs).toMatchObject([{ kind: 'message', options: { detail: 'Close the other Lathe.', buttons: ['Try again', 'Quit'] } }])
    expect(told.log).toEqual(['sandbox', 'ready', 'start engine', 'start engine', `load ${ORIGIN}`, 'show'])
  })
})

describe('a page in the window', () => {
  it('stays on the origin, in frames too', async () => {
    await start()
    expect(navigate(`${ORIGIN}/chat`)).toBe(true)
    const elsewhere = [
      'https://example.org/',
      'http://127.0.0.1:4002/',
      `${ORIGIN}.example.org/`,
      'http://127.0.0.1:4001@example.org/',
      'file:///etc/passwd',
      'javascript:alert(1)',
      'not a url',
    ]
    expect(elsewhere.filter(navigate)).toEqual([])
  })

  it('opens no window; https links go to the browser and nothing else does', async () => {
    await start()
    for (const url of [
      'https://example.org/a',
      'http://example.org/',
      'file:///etc/passwd',
      'javascript:alert(1)',
      'smb://host/share',
      'x',
    ]) {
      expect(window().webContents.windowOpen({ url })).toEqual({ action: 'deny' })
    }
    await settle()
    expect(told.opened).toEqual(['https://example.org/a'])
  })

  it('attaches no webview and cannot hold the window open', async () => {
    await start()
    const prevented: string[] = []
    for (const name of ['will-attach-webview', 'will-prevent-unload']) {
      window().webContents.emit(name, { preventDefault: () => prevented.push(name) })
    }
    expect(prevented).toEqual(['will-attach-webview', 'will-prevent-unload'])
  })

  it('may copy text and notify; every other permission is denied, and all of them elsewhere', async () => {
    await start()
    const request = (contents: unknown, permission: string): boolean | undefined => {
      let answer: boolean | undefined
      told.permissionRequest(contents, permission, (granted) => (answer = granted))
      return answer
    }
    const ours = window().webContents
    expect([request(ours, 'clipboard-sanitized-write'), request(ours, 'notifications')]).toEqual([true, true])
    for (const permission of ['media', 'geolocation', 'clipboard-read', 'openExternal', 'fileSystem', 'hid']) {
      expect(request(ours, permission)).toBe(false)
      expect(told.permissionCheck(ours, permission, ORIGIN)).toBe(false)
    }
    expect(request({ getURL: () => 'https://example.org/' }, 'notifications')).toBe(false)
    expect(told.permissionCheck(null, 'notifications', 'https://example.org')).toBe(false)
  })

  it('has a menu of its own for text', async () => {
    await start()
    window().webContents.emit('context-menu', {}, { isEditable: false, selectionText: '' })
    window().webContents.emit('context-menu', {}, { isEditable: false, selectionText: 'some' })
    window().webContents.emit('context-menu', {}, { isEditable: true, selectionText: '' })
    expect(told.shown).toEqual([[{ role: 'copy' }], [{ role: 'cut' }, { role: 'copy' }, { role: 'paste' }, { role: 'selectAll' }]])
  })
})

describe('what the page asks for', () => {
  it('is answered only to the page itself', async () => {
    await start()
    for (const stranger of [from('https://example.org/'), from('http://127.0.0.1:4002/'), { senderFrame: null }]) {
      expect(await told.handlers.get('pick-folder')!(stranger)).toBeNull()
      expect(await told.handlers.get('reveal')!(stranger, userData)).toBe(false)
      told.handlers.get('progress')!(stranger, 0.5)
    }
    expect([told.dialogs, told.revealed, window().progress]).toEqual([[], [], []])
  })

  it('is a folder, chosen in a dialog that opens where the last one ended', async () => {
    await start()
    told.answers = [
      { canceled: true, filePaths: [] },
      { canceled: false, filePaths: ['/models/a'] },
      { canceled: true, filePaths: [] },
    ]
    expect(await told.handlers.get('pick-folder')!(page)).toBeNull()
    expect(await told.handlers.get('pick-folder')!(page)).toBe('/models/a')
    await told.handlers.get('pick-folder')!(page)
    expect(told.dialogs.map(({ options }) => options['defaultPath'])).toEqual([undefined, undefined, '/models/a'])
    expect(told.dialogs[0]!.options['properties']).toEqual(['openDirectory'])
  })

  it('is a folder to show, if it is an absolute path that exists', async () => {
    await start()
    const reveal = told.handlers.get('reveal')!
    expect(reveal(page, userData)).toBe(true)
    for (const path of ['relative', join(userData, 'absent'), 7, null, '']) expect(reveal(page, path)).toBe(false)
    expect(told.revealed).toEqual([userData])
  })

  it('is progress in the taskbar, and nothing for values that make none', async () => {
    await start()
    for (const value of [0, 0.5, 1, null, 2, -0.5, Number.NaN, '0.5']) told.handlers.get('progress')!(page, value)
    expect(window().progress).toEqual([0, 0.5, 1, -1, -1, -1, -1, -1])
  })
})

describe('the menu', () => {
  it('sends the page its own commands, with its own shortcuts', async () => {
    await start()
    const items = told.menu.flatMap(({ submenu }) => submenu ?? []).filter(({ click }) => click !== undefined)
    for (const { click } of items) click!()
    const commands = window().webContents.sent.map(([channel, command]) => {
      expect(channel).toBe('command')
      return command
    })
    expect(items.map(({ accelerator }, index) => [commands[index], accelerator])).toEqual([
      ['import-model', 'CmdOrCtrl+O'],
      ['new-chat', 'CmdOrCtrl+N'],
      ['open-settings', 'CmdOrCtrl+,'],
      ['go-models', 'CmdOrCtrl+1'],
      ['go-optimize', 'CmdOrCtrl+2'],
      ['go-compare', 'CmdOrCtrl+3'],
      ['go-chat', 'CmdOrCtrl+4'],
      ['go-jobs', 'CmdOrCtrl+5'],
      ['go-hardware', undefined],
      ['command-palette', 'CmdOrCtrl+K'],
      ['show-shortcuts', undefined],
    ])
  })
})

describe('closing', () => {
  it('needs no question while nothing runs, stops the engine first and remembers the window', async () => {
    await start()
    expect(window().close()).toBe(false)
    await settle()
    expect(told.dialogs).toEqual([])
    expect(told.log.slice(5)).toEqual(['quit', 'wait', 'stop engine', 'exit'])
    await start()
    expect(window().options).toMatchObject({ x: 10, y: 20, width: 1000, height: 700 })
    expect(told.log).toContain('maximize')
  })

  it('asks once while a job runs, and goes on if the user wants', async () => {
    await start()
    told.engine.jobs = 1
    told.answers = [{ response: 0 }, { response: 1 }]
    window().close()
    window().close()
    await settle()
    expect(told.dialogs).toHaveLength(1)
    expect(told.dialogs[0]!.options).toMatchObject({ message: 'A job is still running.', buttons: ['Keep running', 'Quit'], cancelId: 0 })
    expect(told.log).not.toContain('quit')
    window().close()
    await settle()
    expect(told.dialogs).toHaveLength(2)
    expect(told.log.slice(-4)).toEqual(['quit', 'wait', 'stop engine', 'exit'])
  })
})

describe('a dead engine', () => {
  it('comes back under the same address without disturbing the page', async () => {
    await start()
    told.engine.options.onRestart(told.engine.moveTo(ORIGIN))
    await settle()
    expect(told.log.filter((line) => line.startsWith('load'))).toEqual([`load ${ORIGIN}`])
    expect(told.cookies).toHaveLength(2)
  })

  it('comes back under another address, to which the window moves with its cookie', async () => {
    await start()
    const moved = 'http://127.0.0.1:5005'
    told.engine.options.onRestart(told.engine.moveTo(moved))
    await settle()
    expect(told.log.at(-1)).toBe(`load ${moved}`)
    expect(told.cookies.at(-1)).toMatchObject({ url: moved })
  })

  it('that cannot come back is a question: again, or quit', async () => {
    await start()
    told.answers = [{ response: 1 }]
    told.engine.options.onGiveUp(new Error('It ended with code 4.'))
    await settle()
    expect(told.dialogs[0]!.options['message']).toContain('It ended with code 4.')
    expect(told.log.slice(-4)).toEqual(['quit', 'wait', 'stop engine', 'exit'])
  })
})
