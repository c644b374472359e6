/** One model's side of the arena: its answers to the prompts that all have been given, each with its figures. */
import { MessageSquareShare, X } from 'lucide-react'
import { useMemo } from 'react'
import { useLocation } from 'wouter'
import { useShallow } from 'zustand/react/shallow'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { Badge } from '../../ui/badge.tsx'
import { IconButton } from '../../ui/button.tsx'
import { ErrorCard } from '../../ui/state.tsx'
import { useChatStore } from '../chat/chat-store.ts'
import { chatBlock, messagesBefore } from '../chat/conversation.ts'
import { headOf, useHandOver } from '../chat/parts/conversation-view.tsx'
import { AnswerMessage, LiveAnswerView, PromptBubble, type MessageActions } from '../chat/parts/message.tsx'
import { useMessages } from '../chat/queries.ts'
import { ModelPicker } from '../models/model-picker.tsx'
import styles from './arena.module.css'

interface ColumnProps {
  readonly number: number
  readonly model: ModelSummary | null
  readonly threadId: string | null
  /** Whether others answer before this one does. */
  readonly waits: boolean
  readonly taken: readonly string[]
  readonly busy: boolean
  /** It does not take the settings of all. */
  readonly own: boolean
  /** Asks this model alone again; null while others are asked. */
  readonly onRetry: ((content: string, replaceFrom: string | null) => void) | null
  readonly onChoose: (modelId: string) => void
  readonly onClose: (() => void) | null
}

/**
 * The same prompt goes to all: a single column edits nothing, and has an answer again only where there was none. Another one would no longer stand
 * beside its like.
 */
const NO_ACTIONS = { edit: () => {}, submitEdit: () => {}, cancelEdit: () => {}, regenerates: false, branch: null } as const

export function Column({ number, model, threadId, waits, taken, busy, own, onRetry, onChoose, onClose }: ColumnProps) {
  const [, navigate] = useLocation()
  const { query, messages } = useMessages(threadId)
  const key = threadId ?? `arena-${number}`
  const live = useChatStore(useShallow((state) => headOf(state.live[key])))
  const above = useMemo(() => messagesBefore(messages, live), [messages, live])
  useHandOver(key, messages, live)
  const name = model?.name ?? 'No model'
  const actions: MessageActions = {
    ...NO_ACTIONS,
    regenerate: (answerId) => {
      const prompt = messages[messages.findIndex((message) => message.id === answerId) - 1]
      if (prompt !== undefined) onRetry?.(prompt.content, answerId)
    },
  }
  const again = live === undefined || onRetry === null ? undefined : () => onRetry(live.prompt, live.assistantMessageId ?? live.replaceFrom)
  return (
    <section className={styles.column} aria-label={`Column ${number}: ${name}`}>
      <header className={styles.head}>
        <ModelPicker
          label={`Model of column ${number}`}
          modelId={model?.id ?? null}
          onChange={onChoose}
          blocked={(candidate) =>
            candidate.id !== model?.id && taken.includes(candidate.id)
              ? 'This model has a column already.'
              : (chatBlock(candidate)?.message ?? null)
          }
        />
        {waits && <Badge>waits its turn</Badge>}
        {own && <Badge tone="accent">own settings</Badge>}
        <span className={styles.tools}>
          {threadId !== null && !busy && (
            <IconButton
              label={`Continue column ${number} as a chat of its own`}
              icon={MessageSquareShare}
              onClick={() => navigate(`/chat/${threadId}`)}
            />
          )}
          {onClose !== null && <IconButton label={`Close column ${number}`} icon={X} disabled={busy} onClick={onClose} />}
        </span>
      </header>
      <div className={styles.answers} tabIndex={0} role="group" aria-label={`Answers of ${name}`}>
        {query.error !== null && threadId !== null && <ErrorCard error={query.error} onRetry={() => void query.refetch()} />}
        {above.map((message) =>
          message.role === 'assistant' ? (
            <AnswerMessage key={message.id} message={message} modelName={name} actions={actions} locked={onRetry === null} />
          ) : (
            <PromptBubble key={message.id} content={message.content} />
          ),
        )}
        {live !== undefined && <PromptBubble content={live.userMessage?.content ?? live.prompt} />}
        {live !== undefined && <LiveAnswerView threadId={key} modelName={name} onRetry={again} />}
      </div>
    </section>
  )
}
