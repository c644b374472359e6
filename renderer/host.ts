/**
 * The few things that differ between the desktop window and a browser tab, behind one object. Features never ask where they run.
 * Desktop: `window.desktop` from the preload script. Browser: no paths, so the engine's own folder browser stands in (shell/folder-dialog.tsx).
 */
import type { DesktopBridge, DesktopCommand } from '../engine/contract/index.ts'

declare global {
  interface Window {
    readonly desktop?: DesktopBridge
  }
}

export interface DroppedItem {
  readonly name: string
  /** null in a browser: a page never learns the path of a drop. */
  readonly path: string | null
}

export interface Host {
  readonly kind: 'desktop' | 'browser'
  readonly isMac: boolean
  /** Asks for a folder with the system's dialog; null where there is none and the engine's folder browser must be used. */
  readonly pickFolder: (() => Promise<string | null>) | null
  /** Asks for a file of these kinds ('.txt,.jsonl'); null where a page never learns a path, and it has to be typed. */
  readonly pickFile: ((accept: string) => Promise<string | null>) | null
  readonly dropped: (transfer: DataTransfer) => readonly DroppedItem[]
  /** Shows a folder in the file manager; null where that can't be done. */
  readonly reveal: ((path: string) => Promise<boolean>) | null
  readonly copyText: (text: string) => Promise<void>
  readonly openLink: (url: string) => void
  /** While the guard returns true, closing the page asks first. Returns how to take it off. The desktop shell asks by itself. */
  readonly guardQuit: (shouldAsk: () => boolean) => () => void
  /** Fraction 0…1 in the taskbar or dock; null clears it. */
  readonly setProgress: (fraction: number | null) => void
  readonly onMenuCommand: (listener: (command: DesktopCommand) => void) => () => void
  /** A system notification, only while the window is not looked at and the user allowed it. */
  readonly notify: (title: string, body: string) => void
}

export function createHost(view: Window): Host {
  const shared = {
    copyText: (text: string) => view.navigator.clipboard.writeText(text),
    openLink: (url: string) => {
      const parsed = URL.canParse(url) ? new URL(url) : null
      if (parsed?.protocol === 'https:') view.open(parsed.href, '_blank', 'noopener,noreferrer')
    },
    notify: (title: string, body: string) => {
      if (view.document.hasFocus() || !('Notification' in view) || Notification.permission !== 'granted') return
      const notification = new Notification(title, { body, silent: true })
      notification.addEventListener('click', () => view.focus())
    },
  }
  return view.desktop === undefined ? { ...shared, ...browserHost(view) } : { ...shared, ...desktopHost(view, view.desktop) }
}

type HostParts = Omit<Host, 'copyText' | 'openLink' | 'notify'>

function browserHost(view: Window): HostParts {
  return {
    kind: 'browser',
    isMac: /Mac|iPhone|iPad/.test(view.navigator.userAgent),
    pickFolder: null,
    pickFile: null,
    dropped: (transfer) => [...transfer.files].map((file) => ({ name: file.name, path: null })),
    reveal: null,
    guardQuit: (shouldAsk) => {
      const listener = (event: BeforeUnloadEvent) => {
        if (shouldAsk()) event.preventDefault()
      }
      view.addEventListener('beforeunload', listener)
      return () => view.removeEventListener('beforeunload', listener)
    },
    setProgress: () => {},
    onMenuCommand: () => () => {},
  }
}

function desktopHost(view: Window, desktop: DesktopBridge): HostParts {
  return {
    kind: 'desktop',
    isMac: desktop.platform === 'darwin',
    pickFolder: () => desktop.pickFolder(),
    pickFile: (accept) =>
      new Promise((resolve) => {
        const input = view.document.createElement('input')
        input.type = 'file'
        input.accept = accept
        input.addEventListener('change', () => {
          const file = input.files?.[0]
          const path = file === undefined ? '' : desktop.pathOf(file)
          resolve(path === '' ? null : path)
        })
        input.addEventListener('cancel', () => resolve(null))
        input.click()
      }),
    dropped: (transfer) =>
      [...transfer.files].map((file) => {
        const path = desktop.pathOf(file)
        return { name: file.name, path: path === '' ? null : path }
      }),
    reveal: (path) => desktop.reveal(path),
    // Electron would refuse to close without saying why.
    guardQuit: () => () => {},
    setProgress: (fraction) => desktop.setProgress(fraction),
    onMenuCommand: (listener) => desktop.onCommand(listener),
  }
}
