/** Side by side: one prompt, the answers of two to four models in columns, under one composer. */
import { ArrowUp, MessageSquare, Plus, RotateCcw, SlidersHorizontal, Square } from 'lucide-react'
import { useEffect, useRef, useState } from 'react'
import type { ModelSummary } from '../../../engine/contract/index.ts'
import { useQueryParameter } from '../../lib/url-state.ts'
import { Button, ButtonLink, IconButton } from '../../ui/button.tsx'
import { Field, Select } from '../../ui/controls.tsx'
import { Page } from '../../ui/page.tsx'
import { SkeletonLines } from '../../ui/skeleton.tsx'
import { EmptyState, ErrorCard } from '../../ui/state.tsx'
import { chatBlock } from '../chat/conversation.ts'
import { readDrafts, useDraftStore, type Parameters } from '../chat/chat-store.ts'
import { useDraftSync } from '../chat/draft-sync.ts'
import { ParametersDrawer } from '../chat/parts/parameters-drawer.tsx'
import { DEFAULT_SAMPLING } from '../chat/sampling.ts'
import { useModels } from '../models/queries.ts'
import styles from './arena.module.css'
import { Column } from './column.tsx'
import { ALL_COLUMNS as ALL, useArena } from './use-arena.ts'

const MOST_COLUMNS = 4
/** Seeds stay below this, so that a person can read one and type it again. */
const SEEDS = 1_000_000

const DEFAULT_PARAMETERS: Parameters = { systemPrompt: '', sampling: DEFAULT_SAMPLING }

function setText(text: string): void {
  readDrafts().setDraft(ALL, text)
}

function columnKey(modelId: string): string {
  return `${ALL}:${modelId}`
}

export function ArenaScreen() {
  useDraftSync()
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
  const { threads, waiting, failure, sending, send, stop, startOver } = useArena()
  const lastSeed = useRef<number | null>(null)
  const modelIds = chosenModels(asked, usable).filter((id) => id !== null)
  const busy = waiting.length > 0
  const change = (next: readonly string[]): void => setAsked(next.join(','))
  const chosen = useDraftStore((state) => state.parameters)
  const drawerOpen = useDraftStore((state) => state.drawerOpen)
  const { setDrawerOpen, setParameters } = readDrafts()
  /** Whose settings the drawer shows; a model that has no column any more is nobody. */
  const [shownFor, setScope] = useState<string>(ALL)
  const scope = modelIds.includes(shownFor) ? shownFor : ALL
  const ofAll = chosen[ALL] ?? DEFAULT_PARAMETERS
  const parametersOf = (modelId: string): Parameters => chosen[columnKey(modelId)] ?? ofAll
  const ask = (of: readonly string[], content: string, seed: number, replaceFrom: string | null): void => {
    lastSeed.current = seed
    void send(of, {
      content,
      replaceFrom,
      parametersOf: (modelId) => {
        const { systemPrompt, sampling } = parametersOf(modelId)
        return { systemPrompt, sampling: { ...sampling, seed: sampling.seed ?? seed } }
      },
    })
  }
  const unused = usable.find((model) => !modelIds.includes(model.id))
  return (
    <Page
      title="Side by side"
      parent={{ title: 'Chat', href: '/chat' }}
      body="fill"
      actions={
        <>
          {modelIds.some((id) => threads[id] !== undefined) && (
            <Button variant="ghost" icon={RotateCcw} disabled={busy} onClick={startOver}>
              Start over
            </Button>
          )}
          <Button
            icon={Plus}
            disabled={busy || unused === undefined || modelIds.length >= MOST_COLUMNS}
            onClick={() => unused !== undefined && change([...modelIds, unused.id])}
          >
            Add a column
          </Button>
          <IconButton
            label="Settings of the columns"
            icon={SlidersHorizontal}
            pressed={drawerOpen}
            onClick={() => setDrawerOpen(!drawerOpen)}
          />
        </>
      }
    >
      <div className={styles.withDrawer}>
        <div className={styles.screen}>
          <div className={styles.columns}>
            {modelIds.map((modelId, index) => (
              <Column
                key={modelId}
                number={index + 1}
                model={usable.find((model) => model.id === modelId) ?? null}
                threadId={threads[modelId] ?? null}
                waits={waiting.indexOf(modelId) > 0}
                taken={modelIds}
                busy={busy}
                own={chosen[columnKey(modelId)] !== undefined}
                onRetry={busy ? null : (content, replaceFrom) => ask([modelId], content, lastSeed.current ?? newSeed(), replaceFrom)}
                onChoose={(next) => change(modelIds.with(index, next))}
                onClose={modelIds.length > 2 ? () => change(modelIds.toSpliced(index, 1)) : null}
              />
            ))}
          </div>
          {failure !== null && <ErrorCard error={failure} />}
          <ArenaComposer
            busy={busy}
            sending={sending}
            onStop={stop}
            // One seed for all who were given none: what differs is the model, and what was set.
            onSend={(content) => ask(modelIds, content, newSeed(), null)}
          />
        </div>
        {drawerOpen && (
          <ParametersDrawer
            key={scope}
            title="Settings of the columns"
            lead={
              <>
                <Field label="For">
                  {(control) => (
                    <Select
                      id={control.id}
                      label="For"
                      value={scope}
                      onChange={setScope}
                      options={[
                        { value: ALL, title: 'All columns' },
                        ...modelIds.map((id, index) => ({
                          value: id,
                          title: `Column ${index + 1}: ${usable.find((model) => model.id === id)?.name ?? 'No model'}`,
                        })),
                      ]}
                    />
                  )}
                </Field>
                {scope !== ALL && chosen[columnKey(scope)] !== undefined && (
                  <div>
                    <Button size="small" onClick={() => setParameters(columnKey(scope), null)}>
                      Take those of all columns
                    </Button>
                  </div>
                )}
              </>
            }
            model={null}
            loaded={undefined}
            parameters={scope === ALL ? ofAll : parametersOf(scope)}
            lastSeed={null}
            onChange={(parameters) => setParameters(scope === ALL ? ALL : columnKey(scope), parameters)}
            onClose={() => setDrawerOpen(false)}
          />
        )}
      </div>
    </Page>
  )
}

function newSeed(): number {
  return Math.floor(Math.random() * SEEDS)
}

function ArenaComposer({
  busy,
  sending,
  onSend,
  onStop,
}: {
  readonly busy: boolean
  readonly sending: string | null
  readonly onSend: (content: string) => void
  readonly onStop: () => void
}) {
  const draft = useDraftStore((state) => state.drafts[ALL]) ?? ''
  // On its way, but a draft until the engine has it.
  const text = sending !== null && draft.trim() === sending ? '' : draft
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => field.current?.focus({ preventScroll: true }), [])
  const submit = (): void => {
    if (busy || text.trim() === '') return
    onSend(text.trim())
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
