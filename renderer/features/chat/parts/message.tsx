/** One message: a prompt that can be edited, or an answer with its figures, its error and what can be done with it. */
import { Copy, GitBranch, Pencil, RefreshCw } from 'lucide-react'
import { memo, useLayoutEffect, useRef, useState, type ReactNode } from 'react'
import type { ChatMessage } from '../../../../engine/contract/index.ts'
import type { UiError } from '../../../lib/errors.ts'
import { formatInteger, plural } from '../../../lib/format.ts'
import { Button, IconButton } from '../../../ui/button.tsx'
import { useHost } from '../../../ui/host-context.tsx'
import { ErrorCard } from '../../../ui/state.tsx'
import { showToast } from '../../../ui/toast.tsx'
import { editKey, useChatStore, useDraftStore } from '../chat-store.ts'
import styles from '../chat.module.css'
import { foldedPrompt, isSettled } from '../conversation.ts'
import { splitThinking } from '../thinking.ts'
import { AnswerFooter } from './answer-footer.tsx'
import { AnswerProgress } from './answer-progress.tsx'
import { Markdown } from './markdown.tsx'

/** Stable for the life of a conversation, so that messages stay memoised. */
export interface MessageActions {
  readonly edit: (messageId: string, content: string) => void
  readonly submitEdit: (messageId: string) => void
  readonly cancelEdit: () => void
  readonly regenerate: (answerId: string) => void
  /** Whether an answer that is there can be had again; one that failed always can. */
  readonly regenerates: boolean
  /** null where one conversation can't become two. */
  readonly branch: ((messageId: string) => void) | null
}

export function PromptBubble({ content, children }: { readonly content: string; readonly children?: ReactNode }) {
  return (
    <article className={styles.prompt} aria-label="You">
      <PromptText content={content} />
      <div className={styles.tools}>{children}</div>
    </article>
  )
}

/** A pasted file would push the answer to it far out of sight. */
function PromptText({ content }: { readonly content: string }) {
  const [whole, setWhole] = useState(false)
  const folded = foldedPrompt(content)
  if (folded === null) return <p className={styles.bubble}>{content}</p>
  return (
    <div className={styles.folded}>
      <p className={styles.bubble}>{whole ? content : `${folded}…`}</p>
      <Button size="small" variant="ghost" aria-expanded={whole} onClick={() => setWhole(!whole)}>
        {whole ? 'Show less' : `Show all ${formatInteger(content.length)} characters`}
      </Button>
    </div>
  )
}

interface PromptProps {
  readonly message: ChatMessage
  readonly actions: MessageActions
  readonly locked: boolean
  readonly editing: boolean
  /** Messages that an edit would replace. */
  readonly following: number
}

export const PromptMessage = memo(function PromptMessage({ message, actions, locked, editing, following }: PromptProps) {
  if (editing && !locked) return <PromptEditor message={message} actions={actions} following={following} />
  return (
    <PromptBubble content={message.content}>
      <CopyButton label="Copy prompt" text={message.content} />
      <IconButton
        label="Edit prompt"
        icon={Pencil}
        size="small"
        disabled={locked}
        onClick={() => actions.edit(message.id, message.content)}
      />
    </PromptBubble>
  )
})

function PromptEditor({ message, actions, following }: Pick<PromptProps, 'message' | 'actions' | 'following'>) {
  const key = editKey(message.id)
  const text = useDraftStore((state) => state.drafts[key]) ?? ''
  const setDraft = useDraftStore((state) => state.setDraft)
  const field = useRef<HTMLTextAreaElement>(null)
  useLayoutEffect(() => {
    field.current?.focus()
    field.current?.setSelectionRange(field.current.value.length, field.current.value.length)
  }, [])
  return (
    <div className={styles.editor}>
      <textarea
        ref={field}
        className={styles.editorField}
        aria-label="Edit prompt"
        dir="auto"
        value={text}
        onChange={(event) => setDraft(key, event.target.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') {
            event.preventDefault()
            actions.cancelEdit()
          } else if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
            event.preventDefault()
            actions.submitEdit(message.id)
          }
        }}
      />
      <div className={styles.editorActions}>
        <span className={styles.quiet}>{following === 0 ? '' : `Replaces ${plural(following, 'message')} below.`}</span>
        <Button size="small" onClick={actions.cancelEdit}>
          Cancel
        </Button>
        <Button size="small" variant="primary" disabled={text.trim() === ''} onClick={() => actions.submitEdit(message.id)}>
          Send
        </Button>
      </div>
    </div>
  )
}

function CopyButton({ label, text }: { readonly label: string; readonly text: string }) {
  const host = useHost()
  const copy = async () => {
    await host.copyText(text)
    showToast({ type: 'success', title: 'Copied' })
  }
  return <IconButton label={label} icon={Copy} size="small" onClick={() => void copy()} />
}

interface AnswerProps {
  readonly message: ChatMessage
  readonly modelName: string
  readonly actions: MessageActions
  readonly locked: boolean
}

export const AnswerMessage = memo(function AnswerMessage({ message, modelName, actions, locked }: AnswerProps) {
  const rescued = useDraftStore((state) => state.rescued[message.id])
  const settled = isSettled(message)
  const content = rescued !== undefined && rescued.startsWith(message.content) ? rescued : message.content
  return (
    <AnswerFrame modelName={modelName}>
      <AnswerText text={content} live={false} />
      {content === '' && message.error === null && message.stats !== null && (
        <p className={styles.quiet}>
          {message.stats.stopReason === 'aborted' ? 'Stopped before the first word.' : 'The model ended its turn without a word.'}
        </p>
      )}
      {!settled && (
        <p className={styles.quiet}>
          {rescued === undefined
            ? 'This answer is being written in another window.'
            : 'The answer broke off here. Lathe has yet to say why.'}
        </p>
      )}
      {message.error !== null && (
        <AnswerError error={message.error} onRetry={locked ? undefined : () => actions.regenerate(message.id)} partial={content !== ''} />
      )}
      {message.stats !== null && <AnswerFooter stats={message.stats} createdAt={message.createdAt} />}
      <div className={styles.tools}>
        {content !== '' && <CopyButton label="Copy answer" text={splitThinking(content).answer} />}
        {message.error === null && actions.regenerates && (
          <IconButton
            label="Regenerate answer"
            icon={RefreshCw}
            size="small"
            disabled={locked || !settled}
            onClick={() => actions.regenerate(message.id)}
          />
        )}
        {actions.branch !== null && (
          <IconButton
            label="Branch from here"
            icon={GitBranch}
            size="small"
            disabled={locked || !settled}
            onClick={() => actions.branch?.(message.id)}
          />
        )}
      </div>
    </AnswerFrame>
  )
})

/** What was thought is folded away once the answer begins; while it is thought, it can be followed. */
function AnswerText({ text, live }: { readonly text: string; readonly live: boolean }) {
  const { thought, answer, open } = splitThinking(text)
  return (
    <>
      {thought !== null && (
        <details className={styles.thinking} open={live && open}>
          <summary>{open ? (live ? 'Thinking…' : 'Thought, and did not come to an answer') : 'Thought before answering'}</summary>
          <Markdown text={thought} />
        </details>
      )}
      {answer !== '' && <Markdown text={answer} />}
    </>
  )
}

function AnswerFrame({
  modelName,
  busy = false,
  children,
}: {
  readonly modelName: string
  readonly busy?: boolean
  readonly children: ReactNode
}) {
  return (
    <article className={styles.answer} aria-label={`Answer of ${modelName}`} aria-busy={busy}>
      <p className={styles.author}>{modelName}</p>
      {children}
    </article>
  )
}

interface AnswerErrorProps {
  readonly error: UiError
  readonly onRetry: (() => void) | undefined
  /** Some of the answer arrived and stands above. */
  readonly partial: boolean
}

function AnswerError({ error, onRetry, partial }: AnswerErrorProps) {
  const stopped = error.code === 'runtime.aborted'
  const shown = partial && !stopped ? { ...error, message: `${error.message} What had arrived is kept above.` } : error
  return <ErrorCard error={shown} tone={stopped ? 'warning' : 'danger'} onRetry={onRetry} />
}

interface LiveProps {
  readonly threadId: string
  readonly modelName: string
  readonly onRetry: (() => void) | undefined
}

/** The answer on its way: the only part that is drawn again for every batch of tokens. */
export function LiveAnswerView({ threadId, modelName, onRetry }: LiveProps) {
  const answer = useChatStore((state) => state.live[threadId])
  if (answer === undefined) return null
  const { phase, text, failure } = answer
  const busy = phase !== 'failed'
  return (
    <AnswerFrame modelName={modelName} busy={busy}>
      <AnswerText text={text} live={busy} />
      {busy && text === '' && <AnswerProgress answer={answer} />}
      {failure !== null && <AnswerError error={failure} onRetry={onRetry} partial={text !== ''} />}
      {busy && answer.tokens > 0 && <p className={styles.count}>{plural(answer.tokens, 'token')}</p>}
    </AnswerFrame>
  )
}
