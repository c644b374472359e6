/**
 * What a page in our window may do: stay on the engine's origin and open https links in the user's browser (specs/electron-and-rpc.md §4).
 * Model output holds links and is hostile, so addresses are compared as parsed origins.
 */
import { Menu, shell } from 'electron'
import type { Session, WebContents } from 'electron'

/** Copying text and telling that a job is done; everything else that Chromium would grant by itself is denied. */
const PERMISSIONS: readonly string[] = ['clipboard-sanitized-write', 'notifications']

export type IsOurs = (url: string) => boolean

export function hardenSession(session: Session, isOurs: IsOurs): void {
  session.setPermissionRequestHandler((contents, permission, done) => done(isOurs(contents.getURL()) && PERMISSIONS.includes(permission)))
  session.setPermissionCheckHandler((_contents, permission, origin) => isOurs(origin) && PERMISSIONS.includes(permission))
}

export function hardenContents(contents: WebContents, isOurs: IsOurs): void {
  contents.on('will-frame-navigate', (event) => {
    if (!isOurs(event.url)) event.preventDefault()
  })
  contents.on('will-attach-webview', (event) => event.preventDefault())
  contents.setWindowOpenHandler(({ url }) => {
    // Not inside the handler: it must answer before the browser is started.
    if (URL.canParse(url) && new URL(url).protocol === 'https:') setImmediate(() => void shell.openExternal(url))
    return { action: 'deny' }
  })
  // Closing is guarded by the main process, which knows about running jobs; a page must not be able to hold its window open.
  contents.on('will-prevent-unload', (event) => event.preventDefault())
  contents.on('context-menu', (_event, { isEditable, selectionText }) => {
    if (isEditable) Menu.buildFromTemplate([{ role: 'cut' }, { role: 'copy' }, { role: 'paste' }, { role: 'selectAll' }]).popup()
    else if (selectionText) Menu.buildFromTemplate([{ role: 'copy' }]).popup()
  })
}
