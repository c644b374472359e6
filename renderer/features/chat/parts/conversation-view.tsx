/** One conversation: its messages, the composer, and what stands in the way of sending. */
import { useEffect, useMemo, useRef, type RefObject } from 'react'
import { useQuery } from '@tanstack/react-query'
import { useShallow } from 'zustand/react/shallow'
import { DEFAULT_SETTINGS, type ChatMessage, type ChatThread, type ModelSummary } from '../../../../engine/contract/index.ts'
import { useEngine } from '../../../data/engine.tsx'
import { useDelayed } from '../../../lib/use-now.ts'
import { Button, ButtonLink } from '../../../ui/button.tsx'
import { SkeletonLines } from '../../../ui/skeleton.tsx'
import { ErrorCard } from '../../../ui/state.tsx'
import { useModelActions, useModels } from '../../models/queries.ts'
import { stopAnswer } from '../answer-stream.ts'
import {
  editKey,
  isBusy,
  NEW_CHAT,
  readChats,
  readDrafts,
  useChatStore,
  useDraftStore,
  type LiveAnswer,
  type Parameters,
} from '../chat-store.ts'
import styles from '../chat.module.css'
import { chatBlock, contextFigure, messagesBefore, settledCopy, type LiveHead } from '../conversation.ts'
import { useBranch, useMessages } from '../queries.ts'
import { useSend } from '../use-send.ts'
import { Composer } from './composer.tsx'
import { ContextMeter } from './context-meter.tsx'
import type { MessageActions } from './message.tsx'
import { Suggestions } from './suggestions.tsx'
import { Transcript } from './transcript.tsx'

interface ConversationViewProps {
  readonly thread: ChatThread | null
  readonly models: readonly ModelSummary[]
  /** null where the thread's model is gone from the library, or none was chosen. */
  readonly model: ModelSummary | null
  readonly parameters: Parameters
}

/** The live answer without its text. */
export function headOf(answer: LiveAnswer | undefined): LiveHead | undefined {
  if (answer === undefined) return undefined
  const { prompt, origin, replaceFrom, modelId, phase, userMessage, assistantMessageId, failure } = answer
  return { prompt, origin, replaceFrom, modelId, phase, userMessage, assistantMessageId, failure }
}

/** The live answer without its text, the same object until something else than the text changes. */
function useLiveHead(chatKey: string): LiveHead | undefined {
  return useChatStore(useShallow((state) => headOf(state.live[chatKey])))
}

export function ConversationView({ thread, models, model, parameters }: ConversationViewProps) {
  const chatKey = thread?.id ?? NEW_CHAT
  const { queries } = useEngine()
  const { query, messages } = useMessages(thread?.id ?? null)
  const settings = useQuery(queries.settings.get.queryOptions()).data ?? DEFAULT_SETTINGS
  const live = useLiveHead(chatKey)
  const editing = useDraftStore((state) => state.editing[chatKey])
  const slow = useDelayed(thread !== null && query.isPending, 150)
  const block = model === null ? null : chatBlock(model)
  const send = useSend({ threadId: thread?.id ?? null, modelId: block === null ? (model?.id ?? null) : null, parameters })
  const above = useMemo(() => messagesBefore(messages, live), [messages, live])
  useHandOver(chatKey, messages, live)
  const section = useStopOnEscape(chatKey)

  const nameOf = useMemo(() => {
    const names = new Map(models.map((candidate) => [candidate.id, candidate.name]))
    return (id: string | null) => (id === null ? 'Answer' : (names.get(id) ?? 'A model no longer in the library'))
  }, [models])
  const threadId = thread?.id ?? null
  const branch = useBranch()
  const actions = useMemo<MessageActions>(() => {
    const { setDraft, setEditing } = readDrafts()
    return {
      edit: (messageId, content) => {
        setDraft(editKey(messageId), readDrafts().drafts[editKey(messageId)] ?? content)
        setEditing(chatKey, messageId)
      },
      cancelEdit: () => {
        const edited = readDrafts().editing[chatKey]
        if (edited !== undefined) setDraft(editKey(edited), '')
        setEditing(chatKey, null)
      },
      submitEdit: (messageId) => {
        const content = readDrafts().drafts[editKey(messageId)]?.trim() ?? ''
        void send({ content, origin: 'edit', replaceFrom: messageId })
      },
      regenerate: (answerId) => {
        const index = messages.findIndex((message) => message.id === answerId)
        const prompt = messages[index - 1]
        if (prompt !== undefined) void send({ content: prompt.content, origin: 'regenerate', replaceFrom: answerId })
      },
      regenerates: true,
      branch: threadId === null ? null : (messageId) => branch({ threadId, messageId }),
    }
  }, [chatKey, messages, send, threadId, branch])
  const compose = (content: string) => {
    // A suggestion becomes a draft first, so that a failure leaves it in the composer.
    readDrafts().setDraft(chatKey, content)
    void send({ content, origin: 'composer', replaceFrom: null })
  }
  const retry = () => {
    if (live === undefined) return
    const { prompt, origin, replaceFrom, assistantMessageId } = live
    void send({ content: prompt, origin, replaceFrom: assistantMessageId ?? replaceFrom })
  }
  const limitBefore = Math.min(settings.contextTokens, model?.architecture.contextLength ?? settings.contextTokens)
  const isSample = model !== null && (model.isSample || models.some((other) => other.id === model.parentId && other.isSample))
  return (
    <section ref={section} className={styles.conversation} aria-label="Chat">
      {thread !== null && query.error !== null && query.data === undefined ? (
        <div className={styles.notice}>
          <ErrorCard
            error={query.error}
            onRetry={() => void query.refetch()}
            actions={
              <ButtonLink size="small" href="/chat">
                New chat
              </ButtonLink>
            }
          />
        </div>
      ) : thread !== null && query.data === undefined ? (
        <div className={styles.loading}>{slow && <SkeletonLines label="Reading the chat" lines={6} />}</div>
      ) : (
        <Transcript
          chatKey={chatKey}
          messages={above}
          live={live}
          editing={editing}
          actions={actions}
          nameOf={nameOf}
          onRetry={retry}
          empty={model !== null && block === null && <Suggestions model={model} isSample={isSample} onChoose={compose} />}
        />
      )}
      <div className={styles.foot}>
        <ModelNotice thread={thread} model={model} />
        <Composer chatKey={chatKey} ready={model !== null && block === null} onSend={compose}>
          <ContextMeter
            chatKey={chatKey}
            modelId={block === null ? (model?.id ?? null) : null}
            figure={contextFigure(above, limitBefore)}
            overflow={parameters.sampling.overflow ?? 'stop'}
          />
        </Composer>
      </div>
      <Announcer />
    </section>
  )
}

/** A stopped or broken answer gives way to the engine's own copy as soon as that is complete; words that only the page has are kept. */
export function useHandOver(chatKey: string, messages: readonly ChatMessage[], live: LiveHead | undefined): void {
  const copy = settledCopy(messages, live)
  useEffect(() => {
    if (copy === null) return
    const { live: answers, end } = readChats()
    const text = answers[chatKey]?.text ?? ''
    if (text.length > copy.content.length && text.startsWith(copy.content)) readDrafts().rescue(copy.id, text)
    end(chatKey)
  }, [chatKey, copy])
}

/** Esc stops the answer from anywhere in the conversation, before anything else takes it as "close". Menus keep theirs. */
function useStopOnEscape(chatKey: string): RefObject<HTMLElement | null> {
  const section = useRef<HTMLElement>(null)
  useEffect(() => {
    const listener = (event: KeyboardEvent) => {
      if (event.key !== 'Escape' || event.defaultPrevented || !isBusy(readChats().live[chatKey])) return
      if (event.target !== document.body && !(event.target instanceof Node && section.current?.contains(event.target) === true)) return
      event.preventDefault()
      stopAnswer(chatKey)
    }
    document.addEventListener('keydown', listener)
    return () => document.removeEventListener('keydown', listener)
  }, [chatKey])
  return section
}

function ModelNotice({ thread, model }: { readonly thread: ChatThread | null; readonly model: ModelSummary | null }) {
  const actions = useModelActions()
  const library = useModels()
  if (model === null) {
    if (thread === null) return null
    return (
      <ErrorCard
        tone="warning"
        error={{
          code: 'model.not-found',
          message: 'The model of this chat is no longer in the library.',
          hint: 'Choose another one at the top to go on; everything said so far stays.',
        }}
      />
    )
  }
  const block = chatBlock(model)
  if (block === null) return null
  return (
    <ErrorCard
      tone="warning"
      error={block}
      actions={
        model.status === 'missing' ? (
          <>
            <Button size="small" variant="primary" onClick={() => void actions.locate(model)}>
              Locate…
            </Button>
            {/* A disk that was away, or a folder that has been put back. */}
            <Button size="small" busy={library.isFetching} onClick={() => void library.refetch()}>
              Look again
            </Button>
          </>
        ) : (
          <ButtonLink size="small" href={`/models/${model.id}/tokenizer`}>
            Inspect the tokenizer
          </ButtonLink>
        )
      }
    />
  )
}

/** Completion is said once; the words themselves are read when the user goes there. */
function Announcer() {
  const announcement = useChatStore((state) => state.announcement)
  return (
    <div className="visually-hidden" role="status">
      {announcement}
    </div>
  )
}
