/** The server of the studio as the page knows it: one view, fetched again when the engine says that it changed. */
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import type { ServerConfig, ServerView } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'

export function useServer() {
  const { queries } = useEngine()
  return useQuery(queries.server.view.queryOptions())
}

function useServerMutation<T>(mutationFn: (input: T) => Promise<ServerView>) {
  const { queries } = useEngine()
  const cache = useQueryClient()
  return useMutation({
    mutationFn,
    onSuccess: (view) => cache.setQueryData(queries.server.view.queryKey(), view),
    // A start that failed has left its reason and its log there.
    onError: () => void cache.invalidateQueries({ queryKey: queries.server.view.key() }),
  })
}

export function useStartServer() {
  const { client } = useEngine()
  return useServerMutation((config: ServerConfig) => client.server.start(config))
}

export function useStopServer() {
  const { client } = useEngine()
  return useServerMutation<void>(() => client.server.stop())
}

export function useAbortRequest() {
  const { client } = useEngine()
  return useMutation({ mutationFn: (requestId: string) => client.server.abort({ requestId }) })
}

/** Asks the server something, as a client would; its row appears in the table. */
export function useTestServer() {
  const { client } = useEngine()
  return useMutation({ mutationFn: () => client.server.test() })
}
