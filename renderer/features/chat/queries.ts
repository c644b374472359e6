/** Queries and changes of chat threads. */
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { useCallback, useEffect, useMemo } from 'react'
import { useLocation } from 'wouter'
import type { ChatMessage, ChatThread } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { toUiError } from '../../lib/errors.ts'
import { showToast } from '../../ui/toast.tsx'
import { stopAnswer } from './answer-stream.ts'
import { NEW_CHAT, readChats, readDrafts, useDraftStore, type Parameters } from './chat-store.ts'
import { DEFAULT_SAMPLING } from './sampling.ts'

const NO_MESSAGES: readonly ChatMessage[] = []

export function useThreads() {
  const { queries } = useEngine()
  return useQuery(queries.chat.threads.queryOptions())
}

export function useMessages(threadId: string | null) {
  const { queries } = useEngine()
  const query = useQuery({ ...queries.chat.messages.queryOptions({ input: { threadId: threadId ?? '' } }), enabled: threadId !== null })
  return { query, messages: query.data ?? NO_MESSAGES }
}

/** How long a choice rests before the engine hears of it; the session remembers it from the first keystroke. */
const SAVE_DELAY_MS = 400

/** System prompt and sampling of a conversation: what was chosen here, else what the thread has, else the defaults. */
export function useParameters(thread: ChatThread | null): [parameters: Parameters, set: (parameters: Parameters) => void] {
  const { client } = useEngine()
  const key = thread?.id ?? NEW_CHAT
  const chosen = useDraftStore((state) => state.parameters[key])
  const setParameters = useDraftStore((state) => state.setParameters)
  const { mutate: save } = useMutation({
    mutationFn: (change: Parameters & { threadId: string }) => client.chat.update(change),
    onError: failed('The settings of this chat were not saved'),
  })
  const parameters = useMemo<Parameters>(
    () => chosen ?? { systemPrompt: thread?.systemPrompt ?? '', sampling: thread?.sampling ?? DEFAULT_SAMPLING },
    [chosen, thread?.systemPrompt, thread?.sampling],
  )
  const threadId = thread?.id
  const saved = thread === null ? null : JSON.stringify([thread.systemPrompt, thread.sampling])
  useEffect(() => {
    if (threadId === undefined || chosen === undefined) return
    if (JSON.stringify([chosen.systemPrompt, chosen.sampling]) === saved) return
    const timer = setTimeout(() => save({ threadId, ...chosen }), SAVE_DELAY_MS)
    return () => clearTimeout(timer)
  }, [threadId, chosen, saved, save])
  const set = useCallback((next: Parameters) => setParameters(key, next), [setParameters, key])
  return [parameters, set]
}

function failed(title: string): (error: unknown) => void {
  return (error) => showToast({ type: 'error', title, description: toUiError(error).message })
}

/** As long as the toast with its Undo stands, and a little more for the click. */
const UNDO_MS = 6500

export interface ThreadActions {
  readonly rename: (threadId: string, title: string) => void
  readonly chooseModel: (threadId: string, modelId: string) => void
  /** Gone from the screen at once, from the engine when Undo has passed. */
  readonly remove: (thread: ChatThread) => void
}

export function useThreadActions(): ThreadActions {
  const { client, queries } = useEngine()
  const cache = useQueryClient()
  const { mutate: update } = useMutation({
    mutationFn: (change: { threadId: string; title?: string; modelId?: string }) => client.chat.update(change),
    onMutate: ({ threadId, ...change }) =>
      cache.setQueryData(queries.chat.threads.queryKey(), (threads?: ChatThread[]) =>
        threads?.map((thread) => (thread.id === threadId ? { ...thread, ...change } : thread)),
      ),
    onError: (error) => {
      failed('The chat was not changed')(error)
      void cache.invalidateQueries({ queryKey: queries.chat.threads.key() })
    },
  })
  return useMemo<ThreadActions>(() => {
    const { setLeaving } = readChats()
    return {
      rename: (threadId, title) => update({ threadId, title }),
      chooseModel: (threadId, modelId) => update({ threadId, modelId }),
      remove: (thread) => {
        stopAnswer(thread.id)
        setLeaving(thread.id, true)
        const timer = setTimeout(() => {
          client.chat.remove({ threadId: thread.id }).then(
            () => {
              readDrafts().setDraft(thread.id, '')
              readChats().end(thread.id)
            },
            (error: unknown) => {
              setLeaving(thread.id, false)
              failed(`“${thread.title}” was not deleted`)(error)
            },
          )
        }, UNDO_MS)
        showToast({
          title: `Deleted “${thread.title}”`,
          action: {
            title: 'Undo',
            onPress: () => {
              clearTimeout(timer)
              setLeaving(thread.id, false)
            },
          },
        })
      },
    }
  }, [client, update])
}

/** A new chat that begins like this one, and goes there. */
export function useBranch(): (from: { readonly threadId: string; readonly messageId: string }) => void {
  const { client } = useEngine()
  const [, navigate] = useLocation()
  const { mutate } = useMutation({
    mutationFn: (from: { readonly threadId: string; readonly messageId: string }) => client.chat.branch(from),
    onSuccess: (thread) => {
      navigate(`/chat/${thread.id}`)
      showToast({ title: `Now in “${thread.title}”`, description: 'The chat it came from is unchanged.' })
    },
    onError: failed('There is no branch'),
  })
  return mutate
}

/** Below this, everything matches. */
const LEAST_SOUGHT = 2

/** Where the text was said, by thread; null while nothing is sought. */
export function useThreadSearch(text: string): ReadonlyMap<string, string> | null {
  const { queries } = useEngine()
  const sought = text.trim()
  const found = useQuery({
    ...queries.chat.search.queryOptions({ input: { text: sought.slice(0, 200) } }),
    enabled: sought.length >= LEAST_SOUGHT,
  }).data
  return useMemo(
    () =>
      sought.length < LEAST_SOUGHT || found === undefined
        ? null
        : new Map(found.map(({ threadId, snippet }) => [threadId, snippet] as const)),
    [found, sought],
  )
}
