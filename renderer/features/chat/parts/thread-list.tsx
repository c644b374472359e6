/** The chats, last used first: open, rename in place, delete with Undo. */
import { LoaderCircle, MessageSquarePlus, Pencil, Trash2 } from 'lucide-react'
import { useRef, useState } from 'react'
import { Link, useLocation } from 'wouter'
import { useShallow } from 'zustand/react/shallow'
import type { ChatThread } from '../../../../engine/contract/index.ts'
import { formatRelativeTime } from '../../../lib/format.ts'
import { useDebounced } from '../../../lib/use-debounced.ts'
import { useDelayed, useNow } from '../../../lib/use-now.ts'
import { ButtonLink } from '../../../ui/button.tsx'
import { SearchInput, TextInput } from '../../../ui/controls.tsx'
import { Menu } from '../../../ui/menu.tsx'
import { SkeletonLines } from '../../../ui/skeleton.tsx'
import { ErrorCard } from '../../../ui/state.tsx'
import { isBusy, useChatStore } from '../chat-store.ts'
import styles from '../chat.module.css'
import { lastUsedFirst } from '../conversation.ts'
import { useThreadActions, useThreadSearch, useThreads, type ThreadActions } from '../queries.ts'

/** Below this many a list is searched faster by eye; what was said is not. */
const SEARCHABLE = 3
const SEARCH_REST_MS = 200
const NOW_INTERVAL_MS = 60_000

export function ThreadList({ threadId }: { readonly threadId: string | undefined }) {
  const threads = useThreads()
  const actions = useThreadActions()
  const slow = useDelayed(threads.isPending, 150)
  const now = useNow(NOW_INTERVAL_MS)
  const [sought, setSought] = useState('')
  const leaving = useChatStore((state) => state.leaving)
  const writing = useChatStore(useShallow((state) => Object.keys(state.live).filter((id) => isBusy(state.live[id]))))
  const present = lastUsedFirst(threads.data ?? []).filter((thread) => !leaving.has(thread.id))
  const said = useThreadSearch(useDebounced(sought, SEARCH_REST_MS))
  const shown = present.filter(
    (thread) => thread.title.toLowerCase().includes(sought.trim().toLowerCase()) || said?.has(thread.id) === true,
  )
  return (
    <nav className={styles.threads} aria-label="Chats">
      <div className={styles.threadsHead}>
        <ButtonLink href="/chat" icon={MessageSquarePlus} className={styles.newChat ?? ''}>
          New chat
        </ButtonLink>
        {present.length >= SEARCHABLE && (
          <SearchInput label="Find a chat" placeholder="Find a chat" value={sought} onChange={(event) => setSought(event.target.value)} />
        )}
      </div>
      {threads.error !== null && threads.data === undefined ? (
        <ErrorCard error={threads.error} onRetry={() => void threads.refetch()} />
      ) : threads.data === undefined ? (
        slow && <SkeletonLines label="Reading the chats" lines={5} height="2.25rem" />
      ) : (
        <ul className={styles.threadItems}>
          {shown.map((thread) => (
            <ThreadItem
              key={thread.id}
              thread={thread}
              current={thread.id === threadId}
              writing={writing.includes(thread.id)}
              now={now}
              actions={actions}
              snippet={said?.get(thread.id) ?? null}
            />
          ))}
          {shown.length === 0 && (
            <li className={styles.noThreads}>{present.length === 0 ? 'No chats yet.' : 'Nothing of that in any chat.'}</li>
          )}
        </ul>
      )}
    </nav>
  )
}

interface ThreadItemProps {
  readonly thread: ChatThread
  readonly current: boolean
  readonly writing: boolean
  readonly now: number
  readonly actions: ThreadActions
  /** Where what is sought was said. */
  readonly snippet: string | null
}

function ThreadItem({ thread, current, writing, now, actions, snippet }: ThreadItemProps) {
  const [renaming, setRenaming] = useState(false)
  const [, navigate] = useLocation()
  const link = useRef<HTMLAnchorElement>(null)
  if (renaming) {
    return (
      <li className={styles.thread}>
        <RenameField
          title={thread.title}
          onDone={(title) => {
            if (title !== null) actions.rename(thread.id, title)
            setRenaming(false)
            requestAnimationFrame(() => link.current?.focus())
          }}
        />
      </li>
    )
  }
  return (
    <li className={styles.thread} data-current={current || undefined}>
      <Link
        ref={link}
        href={`/chat/${thread.id}`}
        className={styles.threadLink}
        aria-current={current ? 'page' : undefined}
        title={thread.title}
        onKeyDown={(event) => {
          if (event.key !== 'F2') return
          event.preventDefault()
          setRenaming(true)
        }}
        onDoubleClick={() => setRenaming(true)}
      >
        <span className={styles.threadTitle}>{thread.title}</span>
        {snippet !== null && <span className={styles.snippet}>{snippet}</span>}
        <span className={styles.threadTime}>
          {writing ? (
            <>
              <LoaderCircle size={11} className={styles.writing} aria-hidden /> writing…
            </>
          ) : (
            formatRelativeTime(thread.updatedAt, now)
          )}
        </span>
      </Link>
      <span className={styles.threadMenu}>
        <Menu
          label={`Actions for ${thread.title}`}
          size="small"
          actions={[
            { title: 'Rename', icon: Pencil, hint: 'F2', onSelect: () => setRenaming(true) },
            {
              title: 'Delete',
              icon: Trash2,
              danger: true,
              onSelect: () => {
                actions.remove(thread)
                if (current) navigate('/chat')
              },
            },
          ]}
        />
      </span>
    </li>
  )
}

function RenameField({ title, onDone }: { readonly title: string; readonly onDone: (title: string | null) => void }) {
  const [text, setText] = useState(title)
  const settled = useRef(false)
  const settle = (keep: boolean) => {
    if (settled.current) return
    settled.current = true
    const next = text.trim()
    onDone(keep && next !== '' && next !== title ? next : null)
  }
  return (
    <TextInput
      aria-label="Name of the chat"
      value={text}
      maxLength={200}
      ref={(field: HTMLInputElement | null) => {
        if (field === null || field.dataset['chosen'] !== undefined) return
        field.dataset['chosen'] = ''
        // The closing menu gives focus back to its button; this comes after it.
        requestAnimationFrame(() => field.select())
        field.focus()
      }}
      onChange={(event) => setText(event.target.value)}
      onBlur={() => settle(true)}
      onKeyDown={(event) => {
        if (event.key === 'Enter') settle(true)
        if (event.key !== 'Escape') return
        event.preventDefault()
        settle(false)
      }}
    />
  )
}
