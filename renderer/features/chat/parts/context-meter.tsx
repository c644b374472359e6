/**
 * How much of what the model can look back on is used, counted by the engine at the last answer and by the stream while one is written; and about how
 * much a long text adds that has been typed or pasted, before it is sent.
 */
import { useQuery } from '@tanstack/react-query'
import type { Sampling } from '../../../../engine/contract/index.ts'
import { useEngine } from '../../../data/engine.tsx'
import { formatInteger } from '../../../lib/format.ts'
import { useDebounced } from '../../../lib/use-debounced.ts'
import { Info } from '../../../ui/info.tsx'
import { termDefinition } from '../../../ui/term.tsx'
import { useChatStore, useDraftStore } from '../chat-store.ts'
import styles from '../chat.module.css'
import { contextSentence, type ContextFigure } from '../conversation.ts'

interface ContextMeterProps {
  readonly chatKey: string
  /** Whose tokens are counted; null while nobody can be talked to. */
  readonly modelId: string | null
  readonly figure: ContextFigure
  /** What the chat does when it is full. */
  readonly overflow: NonNullable<Sampling['overflow']>
}

/** Shorter texts are of no account beside the model's context. */
const LEAST_CHARACTERS = 200
/** A long text is counted by its beginning: to count 200 kB whole at every rest of the keyboard would take longer than to send them. */
const SAMPLE_CHARACTERS = 8000
const REST_MS = 300

/** About how many tokens the draft has; 0 while it is short or not counted yet. */
function useDraftTokens(chatKey: string, modelId: string | null): number {
  const { queries } = useEngine()
  const draft = useDraftStore((state) => state.drafts[chatKey]) ?? ''
  const { text, length } = useDebounced(
    { text: draft.length < LEAST_CHARACTERS ? '' : draft.slice(0, SAMPLE_CHARACTERS), length: draft.length },
    REST_MS,
  )
  const counted = useQuery({
    ...queries.models.tokenize.queryOptions({ input: { modelId: modelId ?? '', text } }),
    enabled: modelId !== null && text !== '',
    // The same text is always as many tokens; few texts are typed twice.
    staleTime: Infinity,
    gcTime: 10_000,
  }).data
  return counted === undefined || text === '' || draft === '' ? 0 : Math.round((counted.tokens.length * length) / text.length)
}

export function ContextMeter({ chatKey, modelId, figure, overflow }: ContextMeterProps) {
  const live = useChatStore((state) => {
    const { prefill, tokens } = state.live[chatKey] ?? { prefill: null, tokens: 0 }
    return prefill === null ? null : prefill.total + tokens
  })
  const shown = { ...figure, used: live ?? figure.used }
  const typed = useDraftTokens(chatKey, modelId)
  const draft = live === null ? typed : 0
  const { tight: full, text } = contextSentence({ ...shown, used: shown.used + draft }, overflow)
  // What is dropped to make room is what was said before: a message has to fit by itself.
  const over = draft > 0 && (overflow === 'stop' ? shown.used + draft : draft) >= shown.limit
  const tight = full || over
  const share = Math.min(1, (shown.used + draft) / Math.max(1, shown.limit))
  return (
    <Info
      className={styles.meter}
      card={
        <>
          <strong>Context</strong>. {termDefinition('context')} {text}
          {draft > 0 && ` About ${formatInteger(draft)} of them are the message that is being written.`}
        </>
      }
    >
      <span className={styles.meterTrack} data-tight={tight || undefined} aria-hidden>
        <span className={styles.meterBar} style={{ transform: `scaleX(${share})` }} />
      </span>
      <span className="numeric">
        <span className="visually-hidden">Context: </span>
        {formatInteger(shown.used)}
        {draft > 0 && ` + ≈${formatInteger(draft)}`} / {formatInteger(shown.limit)}
        <span className={styles.meterUnit}> tokens</span>
        {tight && <span className={styles.meterWarning}>{over ? ' · too long' : ' · nearly full'}</span>}
      </span>
    </Info>
  )
}
