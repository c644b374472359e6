/** The application menu as data. Its commands are the page's own (contract, DesktopCommand), with the shortcuts that the page shows. */
import type { MenuItemConstructorOptions } from 'electron'
import type { DesktopCommand } from '../../engine/contract/desktop.ts'

type Row = readonly [label: string, command: DesktopCommand, accelerator: string | null]

const FILE: readonly Row[] = [
  ['Import model folder…', 'import-model', 'CmdOrCtrl+O'],
  ['New chat', 'new-chat', 'CmdOrCtrl+N'],
  ['Settings…', 'open-settings', 'CmdOrCtrl+,'],
]
const GO: readonly Row[] = [
  ['Models', 'go-models', 'CmdOrCtrl+1'],
  ['Optimize', 'go-optimize', 'CmdOrCtrl+2'],
  ['Compare', 'go-compare', 'CmdOrCtrl+3'],
  ['Chat', 'go-chat', 'CmdOrCtrl+4'],
  ['Jobs', 'go-jobs', 'CmdOrCtrl+5'],
  ['Hardware', 'go-hardware', null],
  ['Command palette…', 'command-palette', 'CmdOrCtrl+K'],
]
const HELP: readonly Row[] = [['Keyboard shortcuts', 'show-shortcuts', null]]

export function menuTemplate(platform: string, run: (command: DesktopCommand) => void): MenuItemConstructorOptions[] {
  const items = (rows: readonly Row[]): MenuItemConstructorOptions[] =>
    rows.map(([label, command, accelerator]) => ({ label, click: () => run(command), ...(accelerator ? { accelerator } : {}) }))
  const mac = platform === 'darwin'
  return [
    ...(mac ? [{ role: 'appMenu' } as const] : []),
    { label: '&File', submenu: [...items(FILE), { type: 'separator' }, { role: mac ? 'close' : 'quit' }] },
    { role: 'editMenu' },
    { label: '&Go', submenu: items(GO) },
    { role: 'viewMenu' },
    { role: 'windowMenu' },
    { role: 'help', submenu: items(HELP) },
  ]
}
