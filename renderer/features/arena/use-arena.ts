/**
 * One prompt to several models, one after the other: each has the device to itself, so that speeds beside each other are fair. Every column is an
 * ordinary thread, which stays in the list of chats. The columns' threads live as long as the screen; the models are in the address.
 */
import { useQueryClient } from '@tanstack/react-query'
import { useCallback, useEffect, useRef, useState } from 'react'
import { useEngine } from '../../data/engine.tsx'
import { toUiError, type UiError } from '../../lib/errors.ts'
import { followAnswer, stopAnswer } from '../chat/answer-stream.ts'
import { readChats, type Parameters } from '../chat/chat-store.ts'

export interface ArenaPrompt {
  readonly content: string
  /** Each column may have settings of its own. */
  readonly parametersOf: (modelId: string) => Parameters
}

export interface Arena {
  /** Thread of each model, once it has been asked. */
  readonly threads: ReadonlyMap<string, string>
  /** Models that have yet to answer the last prompt, the first of them now. */
  readonly waiting: readonly string[]
  readonly failure: UiError | null
  readonly send: (modelIds: readonly string[], prompt: ArenaPrompt) => Promise<void>
  /** Stops who is writing and asks nobody else. */
  readonly stop: () => void
}

export function useArena(): Arena {
  const engine = useEngine()
  const cache = useQueryClient()
  const [threads, setThreads] = useState<ReadonlyMap<string, string>>(new Map())
  const [waiting, setWaiting] = useState<readonly string[]>([])
  const [failure, setFailure] = useState<UiError | null>(null)
  const round = useRef(0)
  const current = useRef<string | null>(null)

  const stop = useCallback(() => {
    round.current++
    if (current.current !== null) stopAnswer(current.current)
    setWaiting([])
  }, [])
  // Who leaves asks nobody else; the answer being written goes on, as in any chat.
  useEffect(() => () => void round.current++, [])

  const send = useCallback(
    async (modelIds: readonly string[], { content, parametersOf }: ArenaPrompt) => {
      const mine = ++round.current
      const known = new Map(threads)
      setFailure(null)
      setWaiting(modelIds)
      try {
        for (const [index, modelId] of modelIds.entries()) {
          if (round.current !== mine) return
          setWaiting(modelIds.slice(index))
          let threadId = known.get(modelId)
          if (threadId === undefined) {
            threadId = (await engine.client.chat.create({ modelId })).id
            known.set(modelId, threadId)
            setThreads(new Map(known))
          }
          if (round.current !== mine) return
          current.current = threadId
          readChats().begin(threadId, { prompt: content, origin: 'composer', replaceFrom: null, modelId })
          await followAnswer({ engine, cache }, { threadId, modelId, content, ...parametersOf(modelId), replaceFrom: null })
        }
      } catch (error) {
        setFailure(toUiError(error))
      } finally {
        if (round.current === mine) setWaiting([])
        current.current = null
      }
    },
    [engine, cache, threads],
  )
  return { threads, waiting, failure, send, stop }
}
