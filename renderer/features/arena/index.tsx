/** Side by side: one prompt, the answers of two to four models in columns, under one composer. */
import { ArrowUp, MessageSquare, Plus, Square } from 'lucide-react'
import { useEffect, useRef, useState } from 'react'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { useQueryParameter } from '../../lib/url-state.ts'
import { Button, ButtonLink } from '../../ui/button.tsx'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard } from '../../ui/state.tsx'
import { chatBlock } from '../chat/conversation.ts'
import { DEFAULT_SAMPLING } from '../chat/sampling.ts'
import { useModels } from '../models/queries.ts'
import styles from './arena.module.css'
import { Column } from './column.tsx'
import { useArena } from './use-arena.ts'

const MOST_COLUMNS = 4
/** Seeds stay below this, so that a person can read one and type it again. */
const SEEDS = 1_000_000

export function ArenaScreen() {
  const models = useModels()
  if (models.data === undefined) {
    return (
      <Page title="Side by side" parent={{ title: 'Chat', href: '/chat' }}>
        {models.error === null ? (
          <SkeletonLines label="Reading the library" />
        ) : (
          <ErrorCard error={models.error} onRetry={() => void models.refetch()} />
        )}
      </Page>
    )
  }
  const usable = models.data.filter((model) => chatBlock(model) === null)
  if (usable.length < 2) {
    return (
      <Page title="Side by side" parent={{ title: 'Chat', href: '/chat' }}>
        <EmptyState icon={MessageSquare} title="It takes two" actions={<ButtonLink href="/optimize">Make a smaller variant</ButtonLink>}>
          Here the same prompt goes to several models or variants. The library has {usable.length === 0 ? 'none' : 'only one'} that can
          chat.
        </EmptyState>
      </Page>
    )
  }
  return <Columns usable={usable} />
}

/** The models in the address, then those that were used last, so that there are two. */
function chosenModels(asked: string, usable: readonly ModelSummary[]): readonly (string | null)[] {
  const known = asked.split(',').filter((id) => usable.some((model) => model.id === id))
  const distinct = [...new Set(known)].slice(0, MOST_COLUMNS)
  const others = usable.filter((model) => !distinct.includes(model.id)).map((model) => model.id)
  return distinct.length >= 2 ? distinct : [...distinct, ...others].slice(0, 2)
}

function Columns({ usable }: { readonly usable: readonly ModelSummary[] }) {
  const [asked, setAsked] = useQueryParameter('models')
  const { threads, waiting, failure, send, stop } = useArena()
  const modelIds = chosenModels(asked, usable).filter((id) => id !== null)
  const busy = waiting.length > 0
  const change = (next: readonly string[]): void => setAsked(next.join(','))
  const unused = usable.find((model) => !modelIds.includes(model.id))
  return (
    <Page
      title="Side by side"
      parent={{ title: 'Chat', href: '/chat' }}
      body="fill"
      actions={
        <Button
          icon={Plus}
          disabled={busy || unused === undefined || modelIds.length >= MOST_COLUMNS}
          onClick={() => unused !== undefined && change([...modelIds, unused.id])}
        >
          Add a column
        </Button>
      }
    >
      <div className={styles.screen}>
        <div className={styles.columns}>
          {modelIds.map((modelId, index) => (
            <Column
              key={modelId}
              number={index + 1}
              model={usable.find((model) => model.id === modelId) ?? null}
              threadId={threads.get(modelId) ?? null}
              waits={waiting.indexOf(modelId) > 0}
              taken={modelIds}
              busy={busy}
              onChoose={(next) => change(modelIds.with(index, next))}
              onClose={modelIds.length > 2 ? () => change(modelIds.toSpliced(index, 1)) : null}
            />
          ))}
        </div>
        {failure !== null && <ErrorCard error={failure} />}
        <ArenaComposer
          busy={busy}
          onStop={stop}
          onSend={(content) => {
            // One seed for all: what differs is the model.
            const sampling = { ...DEFAULT_SAMPLING, seed: Math.floor(Math.random() * SEEDS) }
            void send(modelIds, { content, systemPrompt: '', sampling })
          }}
        />
      </div>
    </Page>
  )
}

function ArenaComposer({
  busy,
  onSend,
  onStop,
}: {
  readonly busy: boolean
  readonly onSend: (content: string) => void
  readonly onStop: () => void
}) {
  const [text, setText] = useState('')
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => field.current?.focus({ preventScroll: true }), [])
  const submit = (): void => {
    if (busy || text.trim() === '') return
    onSend(text.trim())
    setText('')
  }
  return (
    <form
      className={styles.composer}
      onSubmit={(event) => {
        event.preventDefault()
        submit()
      }}
    >
      <textarea
        ref={field}
        rows={2}
        aria-label="Message to all"
        placeholder="One message to all of them"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          // An input method's Enter chooses a word.
          if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return
          event.preventDefault()
          submit()
        }}
      />
      <div className={styles.bar}>
        <span className={styles.quiet}>They answer one after the other with the same seed, so that each has the device to itself.</span>
        {busy ? (
          <Button icon={Square} onClick={onStop}>
            Stop
          </Button>
        ) : (
          <Button type="submit" variant="primary" icon={ArrowUp} disabled={text.trim() === ''}>
            Send to all
          </Button>
        )}
      </div>
    </form>
  )
}
