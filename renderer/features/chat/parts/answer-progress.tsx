/** What is happening before the first word: bytes of the model on their way to the GPU, then tokens of the prompt being read. */
import type { LiveAnswer } from '../chat-store.ts'
import { formatBytes, formatInteger } from '../../../lib/format.ts'
import { ProgressBar } from '../../../ui/progress.tsx'
import styles from '../chat.module.css'

export function AnswerProgress({ answer }: { readonly answer: Pick<LiveAnswer, 'phase' | 'loading' | 'prefill'> }) {
  const { phase, loading, prefill } = answer
  if (phase === 'stopping') return <Step title="Stopping…" value={null} />
  if (phase === 'prefill' && prefill !== null && prefill.total > 0) {
    const { done, total } = prefill
    return (
      <Step
        title={done < total ? 'Reading the prompt' : 'Thinking of the first word'}
        figure={`${formatInteger(done)} of ${formatInteger(total)} tokens`}
        value={done < total ? done / total : null}
      />
    )
  }
  if (phase === 'loading' && loading !== null && loading.totalBytes > 0) {
    return (
      <Step
        title={`Loading the model: ${loading.phase.toLowerCase()}`}
        figure={`${formatBytes(loading.doneBytes, 'memory')} of ${formatBytes(loading.totalBytes, 'memory')}`}
        value={loading.doneBytes / loading.totalBytes}
      />
    )
  }
  return <Step title={phase === 'sending' ? 'Sending' : 'Getting ready'} value={null} />
}

function Step({ title, figure, value }: { readonly title: string; readonly figure?: string; readonly value: number | null }) {
  return (
    <div className={styles.progress}>
      <p className={styles.progressText}>
        <span>{title}</span>
        {figure !== undefined && <span className="numeric">{figure}</span>}
      </p>
      <ProgressBar value={value} label={title} />
    </div>
  )
}
