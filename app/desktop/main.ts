/**
 * The Electron main process: one window on the engine's origin, the menu, two dialogs, and the engine's life. No product logic.
 * The engine is plain Node, never Electron: GPU memory cannot be read back inside Electron (specs/electron-and-rpc.md §0).
 */
import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { BrowserWindow, Menu, app, dialog, ipcMain, nativeTheme, safeStorage, screen, session, shell } from 'electron'
import type { IpcMainEvent, IpcMainInvokeEvent } from 'electron'
import { Supervisor, type EngineAddress } from '../supervisor/supervisor.ts'
import { hardenContents, hardenSession } from './harden.ts'
import { readMemory, remember, visibleBounds } from './memory.ts'
import { menuTemplate } from './menu.ts'
import { wrappingKey } from './secret.ts'

const root = app.isPackaged ? process.resourcesPath : join(import.meta.dirname, '..', '..')
const memoryPath = join(app.getPath('userData'), 'shell.json')
const supervisor = new Supervisor({
  command: [...engineProgram(), '--shell', 'desktop'],
  env: process.env,
  onMessage: (line) => process.stderr.write(`${line}\n`),
  onRestart: (address) => void open(address),
  onGiveUp: (error) => void tellDead(error),
})
let window: BrowserWindow | null = null
/** Set once the user has agreed to lose the window; `asking` while the question is open. */
let closing: 'no' | 'asking' | 'agreed' = 'no'

/** A packaged app runs the Node and the build beside it; a checkout runs the sources under the Node that started it. */
function engineProgram(): readonly string[] {
  if (!app.isPackaged) return [process.env['LATHE_NODE'] ?? 'node', join(root, 'engine', 'main.ts')]
  return [join(root, 'node', process.platform === 'win32' ? 'node.exe' : 'node'), join(root, 'engine', 'main.js')]
}

function isOurs(url: string): boolean {
  const origin = supervisor.address?.origin
  return origin !== undefined && URL.canParse(url) && new URL(url).origin === origin
}

function isOurPage(event: IpcMainEvent | IpcMainInvokeEvent): boolean {
  return isOurs(event.senderFrame?.url ?? '')
}

async function start(): Promise<void> {
  hardenSession(session.defaultSession, isOurs)
  answerPage()
  Menu.setApplicationMenu(Menu.buildFromTemplate(menuTemplate(process.platform, (command) => window?.webContents.send('command', command))))
  window = createWindow()
  // The engine reads it once and forgets it, as it does the token.
  const key = wrappingKey(join(app.getPath('userData'), 'keychain'), safeStorage)
  if (key !== null) process.env['LATHE_WRAPPING_KEY'] = key
  await open(await supervisor.start())
}

/** Hands the window its cookie, then the page. A page that is already there reconnects by itself, so it keeps what it shows. */
async function open({ origin, cookie, token }: EngineAddress): Promise<void> {
  await session.defaultSession.cookies.set({ url: origin, name: cookie, value: token, httpOnly: true, sameSite: 'strict' })
  if (window !== null && !isOurs(window.webContents.getURL())) await window.loadURL(origin)
}

function createWindow(): BrowserWindow {
  const memory = readMemory(memoryPath)
  const screens = screen.getAllDisplays().map((display) => display.workArea)
  const created = new BrowserWindow({
    ...(visibleBounds(memory.bounds, screens) ?? { width: 1280, height: 820 }),
    minWidth: 900,
    minHeight: 600,
    show: false,
    // The page's own backgrounds, so that nothing flashes before its first paint.
    backgroundColor: nativeTheme.shouldUseDarkColors ? '#14161a' : '#ffffff',
    webPreferences: { preload: join(import.meta.dirname, 'preload.cjs') },
  })
  if (memory.maximized) created.maximize()
  created.once('ready-to-show', () => created.show())
  created.on('close', (event) => {
    remember(memoryPath, { bounds: created.getNormalBounds(), maximized: created.isMaximized() })
    if (closing === 'agreed') return
    event.preventDefault()
    if (closing === 'no') void closeUnlessBusy(created)
  })
  created.on('closed', () => (window = null))
  return created
}

/** Asks once while jobs run. They are not lost: each can be resumed. */
async function closeUnlessBusy(parent: BrowserWindow): Promise<void> {
  closing = 'asking'
  const jobs = await supervisor.runningJobs()
  if (jobs > 0) {
    const { response } = await dialog.showMessageBox(parent, {
      type: 'question',
      message: jobs === 1 ? 'A job is still running.' : `${jobs} jobs are still running.`,
      detail: 'Quitting stops it after the last finished step. You can resume it the next time.',
      buttons: ['Keep running', 'Quit'],
      defaultId: 0,
      cancelId: 0,
    })
    if (response === 0) {
      closing = 'no'
      return
    }
  }
  closing = 'agreed'
  app.quit()
}

function answerPage(): void {
  ipcMain.handle('pick-folder', async (event) => {
    if (!isOurPage(event) || window === null) return null
    const { folder } = readMemory(memoryPath)
    const { canceled, filePaths } = await dialog.showOpenDialog(window, {
      title: 'Choose a model folder',
      properties: ['openDirectory'],
      // Electron would open in Downloads every time.
      ...(folder === undefined ? {} : { defaultPath: folder }),
    })
    const [path] = filePaths
    if (canceled || path === undefined) return null
    remember(memoryPath, { folder: path })
    return path
  })
  ipcMain.handle('reveal', (event, path: unknown) => {
    if (!isOurPage(event) || typeof path !== 'string' || !isAbsolute(path) || !existsSync(path)) return false
    shell.showItemInFolder(path)
    return true
  })
  ipcMain.on('progress', (event, fraction: unknown) => {
    if (!isOurPage(event)) return
    window?.setProgressBar(typeof fraction === 'number' && fraction >= 0 && fraction <= 1 ? fraction : -1)
  })
}

/** The engine cannot be brought back: the only choices left are another try and the end. */
async function tellDead({ message, hint }: { readonly message: string; readonly hint?: string }): Promise<void> {
  const options = { type: 'error', message: `Lathe's engine does not start. ${message}`, detail: hint ?? '' } as const
  const { response } = await dialog.showMessageBox({ ...options, buttons: ['Try again', 'Quit'], defaultId: 0, cancelId: 1 })
  if (response === 0) return supervisor.start().then(open, tellDead)
  closing = 'agreed'
  app.quit()
}

app.enableSandbox()
app.on('web-contents-created', (_event, contents) => hardenContents(contents, isOurs))
app.on('second-instance', () => {
  if (window?.isMinimized()) window.restore()
  window?.focus()
})
app.on('window-all-closed', () => app.quit())
app.on('will-quit', (event) => {
  if (supervisor.address === null) return
  event.preventDefault()
  void supervisor.stop().finally(() => app.exit())
})
// Never awaited at the top level: Electron is not ready before this file has been evaluated.
if (app.requestSingleInstanceLock()) void app.whenReady().then(start).catch(tellDead)
else app.quit()
