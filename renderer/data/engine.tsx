/**
 * How components reach the engine: `useEngine()` gives the typed client, its TanStack Query helpers and the state of the connection.
 * All engine state lives in the query cache; nothing here holds data of its own.
 */
import { createTanstackQueryUtils } from '@orpc/tanstack-query'
import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { createContext, use, useEffect, useMemo, useSyncExternalStore, type ReactNode } from 'react'
import { toUiError } from '../lib/errors.ts'
import { watchEvents, type Connection, type ConnectionState, type EngineClient } from '../rpc.ts'
import { applyEvent } from './events.ts'

export type EngineQueries = ReturnType<typeof createTanstackQueryUtils<EngineClient>>

export interface Engine {
  readonly client: EngineClient
  readonly queries: EngineQueries
  readonly connection: Connection
}

const EngineContext = createContext<Engine | null>(null)

/** Snapshots never go stale by age: the event stream says when they change. Only a lost connection is worth a retry. */
export function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: Number.POSITIVE_INFINITY,
        gcTime: 10 * 60_000,
        networkMode: 'always',
        refetchOnWindowFocus: false,
        refetchOnReconnect: false,
        retry: (failures, error) => failures < 3 && toUiError(error).code === 'engine.disconnected',
        retryDelay: 200,
      },
      mutations: { networkMode: 'always', retry: false },
    },
  })
}

export function EngineProvider({
  client,
  connection,
  queryClient,
  children,
}: {
  readonly client: EngineClient
  readonly connection: Connection
  readonly queryClient: QueryClient
  readonly children: ReactNode
}) {
  const engine = useMemo(() => ({ client, connection, queries: createTanstackQueryUtils(client) }), [client, connection])
  useEffect(() => {
    const stop = new AbortController()
    void watchEvents(client, (event) => applyEvent(queryClient, engine.queries, event), stop.signal)
    return () => stop.abort()
  }, [client, engine, queryClient])
  return (
    <EngineContext value={engine}>
      <QueryClientProvider client={queryClient}>{children}</QueryClientProvider>
    </EngineContext>
  )
}

export function useEngine(): Engine {
  const engine = use(EngineContext)
  if (engine === null) throw new Error('useEngine needs an EngineProvider above it')
  return engine
}

export function useConnectionState(): ConnectionState {
  const { connection } = useEngine()
  return useSyncExternalStore(connection.subscribe, connection.getState)
}
