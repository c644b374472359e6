/** Where prompts are typed. Enter sends, Shift+Enter breaks the line, Esc stops. What is typed is in the session's storage from the first letter. */
import { ArrowUp, Square } from 'lucide-react'
import { useEffect, useRef, type ReactNode } from 'react'
import { useHost } from '../../../ui/host-context.tsx'
import { Button } from '../../../ui/button.tsx'
import { stopAnswer } from '../answer-stream.ts'
import { isBusy, useChatStore, useDraftStore } from '../chat-store.ts'
import styles from '../chat.module.css'

interface ComposerProps {
  /** Thread, or the key of the chat that has none yet. */
  readonly chatKey: string
  /** Whether anything can be sent; the reason why not stands above the composer. */
  readonly ready: boolean
  readonly onSend: (content: string) => void
  /** The context meter. */
  readonly children: ReactNode
}

export function Composer({ chatKey, ready, onSend, children }: ComposerProps) {
  const host = useHost()
  const draft = useDraftStore((state) => state.drafts[chatKey]) ?? ''
  const setDraft = useDraftStore((state) => state.setDraft)
  const phase = useChatStore((state) => state.live[chatKey]?.phase)
  const sent = useChatStore((state) => {
    const answer = state.live[chatKey]
    return answer?.phase === 'sending' && answer.origin === 'composer' ? answer.prompt : null
  })
  const busy = phase !== undefined && isBusy({ phase })
  // On its way, but a draft until the engine has it.
  const text = sent !== null && draft.trim() === sent ? '' : draft
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => field.current?.focus({ preventScroll: true }), [])
  const send = () => {
    if (ready && !busy && text.trim() !== '') onSend(text.trim())
  }
  return (
    <form
      className={styles.composer}
      onSubmit={(event) => {
        event.preventDefault()
        send()
      }}
    >
      <textarea
        ref={field}
        rows={1}
        dir="auto"
        className={styles.field}
        aria-label="Message"
        placeholder="Write a message"
        value={text}
        onChange={(event) => setDraft(chatKey, event.target.value)}
        onKeyDown={(event) => {
          // An input method's Enter chooses a word.
          if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return
          event.preventDefault()
          send()
        }}
      />
      <div className={styles.composerBar}>
        {children}
        <span className={styles.keys} aria-hidden>
          {busy ? (
            <>
              <kbd>Esc</kbd> stops
            </>
          ) : (
            <>
              <kbd>{host.isMac ? '⏎' : 'Enter'}</kbd> sends, <kbd>{host.isMac ? '⇧⏎' : 'Shift Enter'}</kbd> new line
            </>
          )}
        </span>
        {busy ? (
          <Button icon={Square} disabled={phase === 'stopping'} onClick={() => stopAnswer(chatKey)}>
            {phase === 'stopping' ? 'Stopping…' : 'Stop'}
          </Button>
        ) : (
          <Button type="submit" variant="primary" icon={ArrowUp} disabled={!ready || text.trim() === ''}>
            Send
          </Button>
        )}
      </div>
    </form>
  )
}
