/**
 * How far a server's answers to a task have moved from those of an earlier check: items answered otherwise, and the mean change of log p over all
 * choices. What a server gives instead of whole distributions, so what its quality can be watched by. Compares rows; asks nobody.
 */
import type { QualityCheck, SampleRow } from '../contract/index.ts'

/**
 * Servers batch as requests come, so sums round otherwise each time: hundredths of a nat over a short continuation in 16 bits. Another model, another
 * quantization or another template moves them by tenths and more (specs/evaluation.md §6.3).
 */
const SERVER_NOISE = { nats: 0.1, changedShare: 0.02 } as const

export type AnswerDrift = NonNullable<QualityCheck['answers']>

/** Rows are matched by place and content; those that only one side has count as changed. */
export function answerDrift(task: string, first: readonly SampleRow[], now: readonly SampleRow[]): AnswerDrift {
  const before = new Map(first.map((row) => [keyOf(row), row]))
  const shifts: number[] = []
  let changed = Math.max(0, first.length - now.length)
  for (const row of now) {
    const other = before.get(keyOf(row))
    if (other === undefined || other.answer !== row.answer) changed++
    for (const [index, logprob] of row.logprobs.entries()) {
      const theirs = other?.logprobs[index] ?? null
      if (logprob !== null && theirs !== null) shifts.push(Math.abs(logprob - theirs))
    }
  }
  const judged = now.filter((row) => row.correct !== null)
  return {
    task,
    items: now.length,
    accuracy: judged.length === 0 ? null : judged.filter((row) => row.correct === true).length / judged.length,
    changed,
    logprobShift: shifts.length === 0 ? null : shifts.reduce((sum, shift) => sum + shift, 0) / shifts.length,
  }
}

/** In words; null while the answers are as near as one server's own are from one time to the next. */
export function answersMoved({ items, changed, logprobShift }: AnswerDrift): string | null {
  if ((logprobShift ?? 0) <= SERVER_NOISE.nats && changed <= Math.max(1, SERVER_NOISE.changedShare * items)) return null
  const shift = logprobShift === null ? '' : `, and log-probabilities moved by ${logprobShift.toPrecision(2)} nats on average`
  return `${changed} of ${items} answers are others than at first${shift}: the server has another model, quantization or template behind this name.`
}

function keyOf(row: SampleRow): string {
  return `${row.docId}:${row.docHash}`
}
