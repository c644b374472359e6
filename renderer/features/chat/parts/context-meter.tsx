/** How much of what the model can look back on is used, counted by the engine at the last answer and by the stream while one is written. */
import type { Sampling } from '../../../../engine/contract/index.ts'
import { formatInteger } from '../../../lib/format.ts'
import { Info } from '../../../ui/info.tsx'
import { termDefinition } from '../../../ui/term.tsx'
import { useChatStore } from '../chat-store.ts'
import styles from '../chat.module.css'
import { contextSentence, type ContextFigure } from '../conversation.ts'

interface ContextMeterProps {
  readonly chatKey: string
  readonly figure: ContextFigure
  /** What the chat does when it is full. */
  readonly overflow: NonNullable<Sampling['overflow']>
}

export function ContextMeter({ chatKey, figure, overflow }: ContextMeterProps) {
  const live = useChatStore((state) => {
    const { prefill, tokens } = state.live[chatKey] ?? { prefill: null, tokens: 0 }
    return prefill === null ? null : prefill.total + tokens
  })
  const shown = { ...figure, used: live ?? figure.used }
  const { tight, text } = contextSentence(shown, overflow)
  const share = Math.min(1, shown.used / Math.max(1, shown.limit))
  return (
    <Info
      className={styles.meter}
      card={
        <>
          <strong>Context</strong>. {termDefinition('context')} {text}
        </>
      }
    >
      <span className={styles.meterTrack} data-tight={tight || undefined} aria-hidden>
        <span className={styles.meterBar} style={{ transform: `scaleX(${share})` }} />
      </span>
      <span className="numeric">
        <span className="visually-hidden">Context: </span>
        {formatInteger(shown.used)} / {formatInteger(shown.limit)}
        <span className={styles.meterUnit}> tokens</span>
        {tight && <span className={styles.meterWarning}> · nearly full</span>}
      </span>
    </Info>
  )
}
