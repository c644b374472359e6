/** Sending from one conversation: a new prompt, an edited one, or the same again. Makes the thread where there is none yet. */
import { useQueryClient } from '@tanstack/react-query'
import { useCallback } from 'react'
import { useLocation } from 'wouter'
import type { ChatMessage, ChatThread } from '../../../engine/contract/index.ts'
import { useEngine } from '../../data/engine.tsx'
import { toUiError } from '../../lib/errors.ts'
import { followAnswer } from './answer-stream.ts'
import { isBusy, NEW_CHAT, readChats, readDrafts, type AnswerOrigin, type Parameters } from './chat-store.ts'

export interface Prompt {
  readonly content: string
  readonly origin: AnswerOrigin
  readonly replaceFrom: string | null
}

interface Conversation {
  readonly threadId: string | null
  /** null while no model is chosen: then nothing is sent. */
  readonly modelId: string | null
  readonly parameters: Parameters
}

export function useSend({ threadId, modelId, parameters }: Conversation): (prompt: Prompt) => Promise<void> {
  const engine = useEngine()
  const cache = useQueryClient()
  const [, navigate] = useLocation()
  return useCallback(
    async ({ content, origin, replaceFrom }) => {
      const { live, begin, change, move } = readChats()
      const key = threadId ?? NEW_CHAT
      if (modelId === null || content.trim() === '' || isBusy(live[key])) return
      begin(key, { prompt: content, origin, replaceFrom, modelId })
      let id = threadId
      if (id === null) {
        try {
          const thread = await engine.client.chat.create({ modelId })
          id = thread.id
          adoptThread(thread)
        } catch (error) {
          change(key, () => ({ phase: 'failed', failure: toUiError(error) }))
          return
        }
      }
      await followAnswer({ engine, cache }, { threadId: id, modelId, content, replaceFrom, ...parameters })

      /** What was typed and chosen for the new chat now belongs to its thread; the address follows unless the user has left. */
      function adoptThread(thread: ChatThread) {
        const { drafts, setDraft, setParameters } = readDrafts()
        cache.setQueryData(engine.queries.chat.threads.queryKey(), (threads?: ChatThread[]) =>
          threads === undefined || threads.some((other) => other.id === thread.id) ? threads : [thread, ...threads],
        )
        cache.setQueryData(engine.queries.chat.messages.queryKey({ input: { threadId: thread.id } }), [] as ChatMessage[])
        setDraft(thread.id, drafts[NEW_CHAT] ?? '')
        setDraft(NEW_CHAT, '')
        setParameters(thread.id, parameters)
        setParameters(NEW_CHAT, null)
        move(NEW_CHAT, thread.id)
        if (window.location.pathname === '/chat') navigate(`/chat/${thread.id}`, { replace: true })
      }
    },
    [engine, cache, navigate, threadId, modelId, parameters],
  )
}
