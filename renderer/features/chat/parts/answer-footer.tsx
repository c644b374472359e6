/** The figures of one answer, kept with it: how fast, how long, why it ended, and the seed that brings it back. */
import type { AnswerStats } from '../../../../engine/contract/index.ts'
import { formatDateTime, formatDuration, formatInteger } from '../../../lib/format.ts'
import { SoftwareBadge } from '../../../ui/badge.tsx'
import { DotList } from '../../../ui/dot-list.tsx'
import { Info } from '../../../ui/info.tsx'
import { Count, Duration, Percent, Rate } from '../../../ui/numbers.tsx'
import { Term } from '../../../ui/term.tsx'
import styles from '../chat.module.css'
import { stopReasonText } from '../conversation.ts'

export function AnswerFooter({ stats, createdAt }: { readonly stats: AnswerStats; readonly createdAt: string }) {
  const figures = [
    <span key="ttft">
      <Term name="ttft">TTFT</Term> <Duration seconds={stats.timeToFirstTokenMs / 1000} />
    </span>,
    stats.prefillTokensPerSecond !== null && (
      <span key="prefill">
        <Term name="prefill">prefill</Term> <Rate value={stats.prefillTokensPerSecond} />
      </span>
    ),
    stats.decodeTokensPerSecond !== null && (
      <span key="decode">
        <Term name="decode">decode</Term> <Rate value={stats.decodeTokensPerSecond} />
      </span>
    ),
    <Info key="tokens" card={<Provenance stats={stats} createdAt={createdAt} />}>
      <Count value={stats.completionTokens} exact /> {stats.completionTokens === 1 ? 'token' : 'tokens'}
    </Info>,
    stats.cachedTokens !== undefined && stats.cachedTokens > 0 && (
      <span key="cached" title="Prompt tokens that an earlier answer had computed">
        <Percent fraction={stats.cachedTokens / Math.max(1, stats.promptTokens)} digits={0} /> cached
      </span>
    ),
    stats.droppedTokens !== undefined && (
      <span key="dropped" title="Earlier turns that no longer fit the context">
        <Count value={stats.droppedTokens} exact /> tokens left out
      </span>
    ),
    <span key="reason">{stopReasonText(stats.stopReason)}</span>,
    <span key="seed" className="numeric">
      seed {stats.seed}
    </span>,
    stats.softwareAdapter && <SoftwareBadge key="software" />,
  ]
  return <DotList className={styles.figures} items={figures.filter((figure) => figure !== false)} />
}

function Provenance({ stats, createdAt }: { readonly stats: AnswerStats; readonly createdAt: string }) {
  return (
    <>
      <strong>Measured on {stats.adapter}</strong>, {formatDateTime(createdAt)}. Prompt {formatInteger(stats.promptTokens)} tokens, context{' '}
      {formatInteger(stats.contextUsed)} of {formatInteger(stats.contextLimit)}.{' '}
      {stats.loadMs > 0
        ? `Loading the model took ${formatDuration(stats.loadMs / 1000)} and is counted in no other figure.`
        : 'The model was in memory already.'}{' '}
      Decode leaves the first token out.
    </>
  )
}
