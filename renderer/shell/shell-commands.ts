/** The commands that always apply: going places, importing, the theme, help. */
import { useMutation } from '@tanstack/react-query'
import {
  ChartLine,
  Columns2,
  Cpu,
  FolderOpen,
  Keyboard,
  ListChecks,
  MessageSquarePlus,
  Moon,
  PackageOpen,
  PanelRight,
  Ruler,
  Search,
  Server,
  Settings as SettingsIcon,
  Sun,
  SunMoon,
} from 'lucide-react'
import { useEffect, useMemo } from 'react'
import { tinykeys } from 'tinykeys'
import { useLocation } from 'wouter'
import type { Settings } from '../../engine/contract/index.ts'
import { useEngine } from '../data/engine.tsx'
import { useImport } from '../features/models/use-import.ts'
import { useHost } from '../ui/host-context.tsx'
import { bindingsOf, useCommands, useCommandStore, type Command } from './commands.ts'
import { PLACES } from './rail.tsx'
import { useViewStore } from './view-store.ts'

export function useShellCommands(): void {
  const [, navigate] = useLocation()
  const { client } = useEngine()
  const { chooseFolder, importSample } = useImport()
  const { mutate: updateSettings } = useMutation({ mutationFn: (change: Partial<Settings>) => client.settings.update(change) })
  const setPaletteOpen = useViewStore((state) => state.setPaletteOpen)
  const setCheatSheetOpen = useViewStore((state) => state.setCheatSheetOpen)
  const toggleJobsTray = useViewStore((state) => state.toggleJobsTray)
  const commands = useMemo<readonly Command[]>(() => {
    const go = (href: string) => () => navigate(href)
    return [
      {
        id: 'view.palette',
        menuCommand: 'command-palette',
        section: 'View',
        title: 'Search commands and models',
        icon: Search,
        shortcut: '$mod+K',
        run: () => setPaletteOpen(true),
      },
      ...PLACES.map((place): Command => ({
        id: `go${place.href}`,
        menuCommand: place.menuCommand,
        section: 'Go to',
        title: place.title,
        icon: place.icon,
        shortcut: place.shortcut,
        run: go(place.href),
      })),
      { id: 'go/jobs', menuCommand: 'go-jobs', section: 'Go to', title: 'Jobs', icon: ListChecks, shortcut: '$mod+5', run: go('/jobs') },
      {
        id: 'go/capacity',
        section: 'Go to',
        title: 'Capacity',
        icon: Ruler,
        keywords: ['fit', 'plan', 'gpu', 'cost', 'users'],
        run: go('/capacity'),
      },
      {
        id: 'go/monitor',
        section: 'Go to',
        title: 'Monitor',
        icon: ChartLine,
        keywords: ['metrics', 'server', 'vllm', 'quality', 'watch'],
        run: go('/monitor'),
      },
      {
        id: 'go/arena',
        section: 'Go to',
        title: 'Chat side by side',
        icon: Columns2,
        keywords: ['arena', 'compare', 'answers', 'models'],
        run: go('/arena'),
      },
      {
        id: 'go/server',
        section: 'Go to',
        title: 'Server',
        icon: Server,
        keywords: ['serve', 'openai', 'api', 'port', 'requests'],
        run: go('/server'),
      },
      {
        id: 'go/hardware',
        menuCommand: 'go-hardware',
        section: 'Go to',
        title: 'Hardware',
        icon: Cpu,
        keywords: ['gpu', 'adapter', 'memory'],
        run: go('/hardware'),
      },
      {
        id: 'go/settings',
        menuCommand: 'open-settings',
        section: 'Go to',
        title: 'Settings',
        icon: SettingsIcon,
        shortcut: '$mod+,',
        keywords: ['preferences', 'options'],
        run: go('/settings'),
      },
      {
        id: 'models.import',
        menuCommand: 'import-model',
        section: 'Models',
        title: 'Import a model folder…',
        icon: FolderOpen,
        shortcut: '$mod+O',
        keywords: ['open', 'add'],
        run: () => void chooseFolder(),
      },
      { id: 'models.sample', section: 'Models', title: 'Try the sample model', icon: PackageOpen, keywords: ['demo'], run: importSample },
      {
        id: 'chat.new',
        menuCommand: 'new-chat',
        section: 'Chat',
        title: 'New chat',
        icon: MessageSquarePlus,
        shortcut: '$mod+Shift+O',
        run: go('/chat'),
      },
      {
        id: 'view.jobs',
        section: 'View',
        title: 'Show or hide the jobs tray',
        icon: PanelRight,
        shortcut: '$mod+J',
        run: toggleJobsTray,
      },
      {
        id: 'view.theme.system',
        section: 'View',
        title: 'Theme: follow the system',
        icon: SunMoon,
        run: () => updateSettings({ theme: 'system' }),
      },
      { id: 'view.theme.light', section: 'View', title: 'Theme: light', icon: Sun, run: () => updateSettings({ theme: 'light' }) },
      { id: 'view.theme.dark', section: 'View', title: 'Theme: dark', icon: Moon, run: () => updateSettings({ theme: 'dark' }) },
      {
        id: 'help.shortcuts',
        menuCommand: 'show-shortcuts',
        section: 'Help',
        title: 'Keyboard shortcuts',
        icon: Keyboard,
        shortcut: '?',
        run: () => setCheatSheetOpen(true),
      },
    ]
  }, [setPaletteOpen, setCheatSheetOpen, toggleJobsTray, navigate, chooseFolder, importSample, updateSettings])
  useCommands(commands)
}

/** Binds every registered shortcut to the window, again whenever the registry changes. */
export function useShortcuts(): void {
  const commands = useCommandStore((state) => state.commands)
  useEffect(() => {
    // "?" needs Shift on most layouts, and tinykeys wants modifiers to match exactly.
    const bindings = bindingsOf(commands.values())
    const question = bindings['?']
    if (question !== undefined) bindings['Shift+?'] = question
    return tinykeys(window, bindings)
  }, [commands])
}

/** Runs what the desktop's application menu asks for. */
export function useMenuCommands(): void {
  const host = useHost()
  useEffect(
    () =>
      host.onMenuCommand((name) => {
        for (const command of useCommandStore.getState().commands.values()) if (command.menuCommand === name) command.run()
      }),
    [host],
  )
}
