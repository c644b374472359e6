/**
 * What the Electron shell adds to the page as `window.desktop`; it is absent in a browser.
 * The preload implements it and the page reads it, so neither can drift. Paths that it hands out go straight to the engine:
 * the page keeps model ids, never paths, in its view state.
 */

/** Commands of the application menu. The page runs them from the same registry as its shortcuts and its command palette. */
export const DESKTOP_COMMANDS = [
  'import-model',
  'new-chat',
  'open-settings',
  'command-palette',
  'show-shortcuts',
  'go-models',
  'go-optimize',
  'go-compare',
  'go-chat',
  'go-jobs',
  'go-hardware',
] as const

export type DesktopCommand = (typeof DESKTOP_COMMANDS)[number]

export interface DesktopBridge {
  /** `process.platform` of the shell: "linux", "darwin" or "win32". */
  readonly platform: string
  /** The system's folder dialog, opened at the last folder chosen; null when cancelled. */
  pickFolder(): Promise<string | null>
  /** Path of a dropped or picked `File`. It must be the original one of the event: a clone has the empty path. */
  pathOf(file: object): string
  /** Shows a folder or file in the system's file manager; false where it does not exist. */
  reveal(path: string): Promise<boolean>
  /** Fraction 0…1 in the taskbar or dock while a job runs; null clears it. */
  setProgress(fraction: number | null): void
  /** Calls back for each menu command; the returned function stops it. */
  onCommand(listener: (command: DesktopCommand) => void): () => void
}
