/** The studio's frame: rail, screen, jobs tray, and what lies above them. Which screen is shown is the address and nothing else. */
import { CSPProvider } from '@base-ui/react/csp-provider'
import { useQuery, type QueryClient } from '@tanstack/react-query'
import { useEffect, useRef } from 'react'
import { Redirect, Route, Switch, useLocation } from 'wouter'
import { EngineProvider, useEngine } from '../data/engine.tsx'
import { ArenaScreen } from '../features/arena/index.tsx'
import { CapacityScreen } from '../features/capacity/index.tsx'
import { ChatScreen } from '../features/chat/index.tsx'
import { CompareScreen } from '../features/compare/index.tsx'
import { HardwareScreen } from '../features/hardware/index.tsx'
import { InspectorScreen } from '../features/inspector/index.tsx'
import { JobsScreen } from '../features/jobs/index.tsx'
import { JobsTray } from '../features/jobs/tray.tsx'
import { ModelsScreen } from '../features/models/index.tsx'
import { MonitorScreen } from '../features/monitor/index.tsx'
import { OptimizeScreen } from '../features/optimize/index.tsx'
import { ServerScreen } from '../features/server/index.tsx'
import { SettingsScreen } from '../features/settings/index.tsx'
import type { Host } from '../host.ts'
import type { Connection, EngineClient } from '../rpc.ts'
import { ButtonLink } from '../ui/button.tsx'
import { HostContext } from '../ui/host-context.tsx'
import { EmptyState } from '../ui/state.tsx'
import { ToastProvider } from '../ui/toast.tsx'
import { TooltipProvider } from '../ui/tooltip.tsx'
import styles from './app.module.css'
import { CheatSheet } from './cheat-sheet.tsx'
import { ConnectionBanner } from './connection-banner.tsx'
import { DropLayer } from './drop-layer.tsx'
import { ErrorBoundary } from './error-boundary.tsx'
import { FolderDialog } from './folder-dialog.tsx'
import { JobAnnouncer } from './job-announcer.tsx'
import { Palette } from './palette.tsx'
import { Rail } from './rail.tsx'
import { useMenuCommands, useShellCommands, useShortcuts } from './shell-commands.ts'
import { useTheme } from './theme.ts'
import { MapPinOff } from 'lucide-react'

interface AppProps {
  readonly client: EngineClient
  readonly connection: Connection
  readonly queryClient: QueryClient
  readonly host: Host
}

export function App({ client, connection, queryClient, host }: AppProps) {
  return (
    <CSPProvider disableStyleElements>
      <HostContext value={host}>
        <EngineProvider client={client} connection={connection} queryClient={queryClient}>
          <TooltipProvider delay={400}>
            <ToastProvider>
              <Shell />
            </ToastProvider>
          </TooltipProvider>
        </EngineProvider>
      </HostContext>
    </CSPProvider>
  )
}

function Shell() {
  const { queries } = useEngine()
  const settings = useQuery(queries.settings.get.queryOptions())
  const [location] = useLocation()
  useTheme(settings.data?.theme)
  useFocusOnArrival(location)
  useShellCommands()
  useShortcuts()
  useMenuCommands()
  return (
    <div className={styles.frame}>
      <a href="#main" className={styles.skip}>
        Skip to content
      </a>
      <ConnectionBanner />
      <Rail />
      <main id="main" className={styles.main} tabIndex={-1}>
        <ErrorBoundary resetKey={location}>
          <Screens />
        </ErrorBoundary>
      </main>
      <JobsTray />
      <DropLayer />
      <FolderDialog />
      <Palette />
      <CheatSheet />
      <JobAnnouncer notifications={settings.data?.notifications ?? false} />
    </div>
  )
}

/**
 * After a change of screen the keyboard and the screen reader start at its title, unless the focus is on something that stayed (a tab, a list).
 * On the first load it stays where it is.
 */
function useFocusOnArrival(location: string): void {
  const arrived = useRef(location)
  useEffect(() => {
    if (arrived.current === location) return
    arrived.current = location
    const active = document.activeElement
    if (active === null || active === document.body || active.closest('nav') !== null)
      document.querySelector<HTMLElement>('#main h1')?.focus({ preventScroll: true })
  }, [location])
}

function Screens() {
  return (
    <Switch>
      <Route path="/">
        <Redirect to="/models" replace />
      </Route>
      <Route path="/models">
        <ModelsScreen />
      </Route>
      <Route path="/models/:modelId/:tab?">{({ modelId, tab }) => <InspectorScreen key={modelId} modelId={modelId} tab={tab} />}</Route>
      <Route path="/optimize/:modelId?">{({ modelId }) => <OptimizeScreen modelId={modelId} />}</Route>
      <Route path="/compare/:modelId?">{({ modelId }) => <CompareScreen modelId={modelId} />}</Route>
      <Route path="/chat/:threadId?">{({ threadId }) => <ChatScreen threadId={threadId} />}</Route>
      <Route path="/arena">
        <ArenaScreen />
      </Route>
      <Route path="/jobs/:jobId?">{({ jobId }) => <JobsScreen jobId={jobId} />}</Route>
      <Route path="/capacity">
        <CapacityScreen />
      </Route>
      <Route path="/monitor">
        <MonitorScreen />
      </Route>
      <Route path="/server">
        <ServerScreen />
      </Route>
      <Route path="/hardware">
        <HardwareScreen />
      </Route>
      <Route path="/settings/:section?">{({ section }) => <SettingsScreen section={section} />}</Route>
      <Route>
        <EmptyState icon={MapPinOff} title="Nothing lives at this address" actions={<ButtonLink href="/models">Go to models</ButtonLink>} />
      </Route>
    </Switch>
  )
}
