/** Shortcuts are written once in tinykeys' notation ("$mod+K") and shown as the platform's users know them. */
const MAC_NAMES: Readonly<Record<string, string>> = { $mod: '⌘', Shift: '⇧', Alt: '⌥', Enter: '⏎', Escape: 'esc' }
const OTHER_NAMES: Readonly<Record<string, string>> = { $mod: 'Ctrl', Escape: 'Esc' }

export function displayShortcut(keys: string, isMac: boolean): readonly string[] {
  const names = isMac ? MAC_NAMES : OTHER_NAMES
  return keys.split('+').map((key) => names[key] ?? (key.length === 1 ? key.toUpperCase() : key))
}
