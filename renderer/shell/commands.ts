/**
 * The one registry of what can be done: it feeds the palette, the shortcuts and the cheat sheet, so they cannot disagree.
 * A screen registers its commands while it is mounted; the shell registers those that always apply.
 */
import type { LucideIcon } from 'lucide-react'
import type { DesktopCommand } from '../../engine/contract/index.ts'
import { useEffect } from 'react'
import { create } from 'zustand'

export type CommandSection = 'Go to' | 'Models' | 'Optimize' | 'Jobs' | 'Compare' | 'Chat' | 'View' | 'Help'

export interface Command {
  readonly id: string
  readonly title: string
  readonly section: CommandSection
  readonly icon?: LucideIcon
  /** tinykeys notation, e.g. "$mod+K". */
  readonly shortcut?: string
  /** Other words a person might type for it. */
  readonly keywords?: readonly string[]
  /** The entry of the desktop's application menu that runs this. */
  readonly menuCommand?: DesktopCommand
  readonly run: () => void
}

interface CommandState {
  readonly commands: ReadonlyMap<string, Command>
  readonly register: (commands: readonly Command[]) => () => void
}

export const useCommandStore = create<CommandState>()((set) => ({
  commands: new Map(),
  register: (added) => {
    set(({ commands }) => {
      const next = new Map(commands)
      for (const command of added) next.set(command.id, command)
      return { commands: next }
    })
    return () =>
      set(({ commands }) => {
        const next = new Map(commands)
        // A newer registration under the same id stays.
        for (const command of added) if (next.get(command.id) === command) next.delete(command.id)
        return { commands: next }
      })
  },
}))

/** Registers commands for as long as the component is mounted. Keep the array stable (useMemo). */
export function useCommands(commands: readonly Command[]): void {
  const register = useCommandStore((state) => state.register)
  useEffect(() => register(commands), [register, commands])
}

/** Keys without a modifier would swallow typing. */
export function isTypingTarget(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false
  return target.isContentEditable || /^(?:INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
}

export function hasModifier(shortcut: string): boolean {
  return /\$mod|Control|Meta|Alt/.test(shortcut)
}

/** The bindings for tinykeys. Later registrations win a shared shortcut. */
export function bindingsOf(commands: Iterable<Command>): Record<string, (event: KeyboardEvent) => void> {
  const bindings: Record<string, (event: KeyboardEvent) => void> = {}
  for (const command of commands) {
    if (command.shortcut === undefined) continue
    const { shortcut, run } = command
    bindings[shortcut] = (event) => {
      if (event.defaultPrevented || (!hasModifier(shortcut) && isTypingTarget(event.target))) return
      event.preventDefault()
      run()
    }
  }
  return bindings
}
