/** The page's whole view of Electron: `window.desktop`. Bundled into one CommonJS file, since a sandboxed preload can load nothing else. */
import { contextBridge, ipcRenderer, webUtils } from 'electron'
import type { DesktopBridge, DesktopCommand } from '../../engine/contract/desktop.ts'

const bridge: DesktopBridge = {
  platform: process.platform,
  pickFolder: () => ipcRenderer.invoke('pick-folder') as Promise<string | null>,
  pathOf: (file) => webUtils.getPathForFile(file as File),
  reveal: (path) => ipcRenderer.invoke('reveal', path) as Promise<boolean>,
  setProgress: (fraction) => ipcRenderer.send('progress', fraction),
  onCommand: (listener) => {
    // The page gets the command only: the event would hand it the raw channel.
    const forward = (_event: unknown, command: DesktopCommand): void => listener(command)
    ipcRenderer.on('command', forward)
    return () => ipcRenderer.off('command', forward)
  },
}
contextBridge.exposeInMainWorld('desktop', bridge)
