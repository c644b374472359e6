/**
 * One prompt to several models, one after the other: each has the device to itself, so that speeds beside each other are fair. Every column is an
 * ordinary thread, which stays in the list of chats. Which threads those are is kept with the drafts; the models are in the address.
 */
import { useQueryClient } from '@tanstack/react-query'
import { useCallback, useEffect, useRef, useState } from 'react'
import { useEngine } from '../../data/engine.tsx'
import { toUiError, type UiError } from '../../lib/errors.ts'
import { followAnswer, stopAnswer } from '../chat/answer-stream.ts'
import { readChats, readDrafts, useDraftStore, type Parameters } from '../chat/chat-store.ts'

/** Where the settings and the draft of all columns are kept; a column's own are beside it. */
export const ALL_COLUMNS = 'arena'

export interface ArenaPrompt {
  readonly content: string
  /** Each column may have settings of its own. */
  readonly parametersOf: (modelId: string) => Parameters
  /** The answer or prompt of one column that this replaces; null = it follows what was said. */
  readonly replaceFrom: string | null
}

export interface Arena {
  /** Thread of each model, once it has been asked. */
  readonly threads: Readonly<Record<string, string>>
  /** Models that have yet to answer the last prompt, the first of them now. */
  readonly waiting: readonly string[]
  readonly failure: UiError | null
  /** The prompt on its way, until an engine has stored it; it stays a draft until then. */
  readonly sending: string | null
  readonly send: (modelIds: readonly string[], prompt: ArenaPrompt) => Promise<void>
  /** Stops who is writing and asks nobody else. */
  readonly stop: () => void
  /** Empty columns; what was said stays in the list of chats. */
  readonly startOver: () => void
}

export function useArena(): Arena {
  const engine = useEngine()
  const cache = useQueryClient()
  const threads = useDraftStore((state) => state.arenaThreads)
  const [waiting, setWaiting] = useState<readonly string[]>([])
  const [failure, setFailure] = useState<UiError | null>(null)
  const [sending, setSending] = useState<string | null>(null)
  const round = useRef(0)
  const current = useRef<string | null>(null)

  const stop = useCallback(() => {
    round.current++
    if (current.current !== null) stopAnswer(current.current)
    setWaiting([])
    setSending(null)
  }, [])
  const startOver = useCallback(() => {
    setFailure(null)
    readDrafts().setArenaThreads({})
  }, [])
  // A chat that was deleted in the meantime leaves an empty column.
  useEffect(() => {
    const kept = Object.entries(readDrafts().arenaThreads)
    if (kept.length === 0) return
    engine.client.chat.threads().then(
      (list) => {
        const gone = kept.filter(([, threadId]) => !list.some((thread) => thread.id === threadId)).map(([modelId]) => modelId)
        const { arenaThreads, setArenaThreads } = readDrafts()
        if (gone.length > 0)
          setArenaThreads(Object.fromEntries(Object.entries(arenaThreads).filter(([modelId]) => !gone.includes(modelId))))
      },
      // An engine that is away has its banner; the columns say it too.
      () => {},
    )
  }, [engine])
  // Who leaves asks nobody else; the answer being written goes on, as in any chat.
  useEffect(() => () => void round.current++, [])

  const send = useCallback(
    async (modelIds: readonly string[], { content, parametersOf, replaceFrom }: ArenaPrompt) => {
      const mine = ++round.current
      setFailure(null)
      setWaiting(modelIds)
      setSending(content)
      let taken = false
      try {
        for (const [index, modelId] of modelIds.entries()) {
          if (round.current !== mine) return
          setWaiting(modelIds.slice(index))
          let threadId = readDrafts().arenaThreads[modelId]
          if (threadId === undefined) {
            threadId = (await engine.client.chat.create({ modelId })).id
            const { arenaThreads, setArenaThreads } = readDrafts()
            setArenaThreads({ ...arenaThreads, [modelId]: threadId })
          }
          if (round.current !== mine) return
          current.current = threadId
          readChats().begin(threadId, { prompt: content, origin: 'composer', replaceFrom, modelId })
          // The first column that stores the prompt takes it out of the composer; what is typed there afterwards is another one.
          const draftKey = taken ? threadId : ALL_COLUMNS
          await followAnswer({ engine, cache }, { threadId, modelId, content, ...parametersOf(modelId), replaceFrom }, draftKey)
          taken ||= readDrafts().drafts[ALL_COLUMNS]?.trim() !== content
        }
      } catch (error) {
        setFailure(toUiError(error))
      } finally {
        if (round.current === mine) {
          setWaiting([])
          setSending(null)
        }
        current.current = null
      }
    },
    [engine, cache],
  )
  return { threads, waiting, failure, sending, send, stop, startOver }
}
