/** The messages, following the end while it is in view and standing still otherwise. Long chats show their end first. */
import { ArrowDown } from 'lucide-react'
import { useEffect, useState, type ReactNode } from 'react'
import { useStickToBottom } from 'use-stick-to-bottom'
import type { ChatMessage } from '../../../../engine/contract/index.ts'
import { formatInteger } from '../../../lib/format.ts'
import { Button } from '../../../ui/button.tsx'
import { ErrorCard } from '../../../ui/state.tsx'
import type { LiveHead } from '../conversation.ts'
import styles from '../chat.module.css'
import { AnswerMessage, LiveAnswerView, PromptBubble, PromptMessage, type MessageActions } from './message.tsx'

/** Enough for every screen; a chat of hundreds opens as fast as a short one. */
const SHOWN_AT_FIRST = 60
const SHOWN_MORE = 100

interface TranscriptProps {
  readonly chatKey: string
  readonly messages: readonly ChatMessage[]
  readonly live: LiveHead | undefined
  readonly editing: string | undefined
  readonly actions: MessageActions
  readonly nameOf: (modelId: string | null) => string
  readonly onRetry: () => void
  readonly empty: ReactNode
}

export function Transcript({ chatKey, messages, live, editing, actions, nameOf, onRetry, empty }: TranscriptProps) {
  const { scrollRef, contentRef, isAtBottom, scrollToBottom, stopScroll } = useStickToBottom({ initial: 'instant', resize: 'instant' })
  const [shown, setShown] = useState(SHOWN_AT_FIRST)
  const hidden = Math.max(0, messages.length - shown)
  const locked = live !== undefined && live.phase !== 'failed'
  const started = live === undefined ? null : `${live.prompt} ${live.replaceFrom ?? messages.length}`
  useEffect(() => {
    if (started !== null) void scrollToBottom('instant')
  }, [started, scrollToBottom])
  useEffect(() => {
    // Who edits reads there: the end must not pull the editor out of view.
    if (editing !== undefined) stopScroll()
  }, [editing, stopScroll])
  const unsent = live !== undefined && live.phase === 'failed' && live.userMessage === null
  return (
    <div className={styles.transcript}>
      {/* Scrollable content must be reachable by keyboard. */}
      <div className={styles.scroll} ref={scrollRef} tabIndex={0} role="group" aria-label="Conversation">
        <div className={styles.messages} ref={contentRef}>
          {hidden > 0 && (
            <Button variant="ghost" onClick={() => setShown(shown + SHOWN_MORE)}>
              Show {formatInteger(Math.min(hidden, SHOWN_MORE))} earlier messages
            </Button>
          )}
          {messages.length === 0 && (live === undefined || unsent) && empty}
          {messages
            .slice(hidden)
            .map((message, index) =>
              message.role === 'assistant' ? (
                <AnswerMessage key={message.id} message={message} modelName={nameOf(message.modelId)} actions={actions} locked={locked} />
              ) : (
                <PromptMessage
                  key={message.id}
                  message={message}
                  actions={actions}
                  locked={locked}
                  editing={editing === message.id}
                  following={messages.length - hidden - index - 1}
                />
              ),
            )}
          {live !== undefined && !unsent && <PromptBubble content={live.userMessage?.content ?? live.prompt} />}
          {live !== undefined && !unsent && <LiveAnswerView threadId={chatKey} modelName={nameOf(live.modelId)} onRetry={onRetry} />}
          {unsent && (
            <div className={styles.unsent}>
              <ErrorCard error={live.failure} onRetry={onRetry} />
            </div>
          )}
        </div>
      </div>
      {!isAtBottom && (
        <Button size="small" icon={ArrowDown} className={styles.latest} onClick={() => void scrollToBottom('instant')}>
          Jump to latest
        </Button>
      )}
    </div>
  )
}
