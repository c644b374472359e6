/** A text source whose answers are kept by the hash of model and window, so that a measurement that was stopped goes on where it stood. */
import { createHash } from 'node:crypto'
import type { EvaluationCache } from '../tasks/cache.ts'
import { TOP_TOKENS } from './text-source.ts'
import type { PositionRow, ScoredRows, TextSource } from './text-source.ts'

/** Of what is kept: another form is another key. */
const FORM = 'text-rows:1'

export function cachedTextSource(source: TextSource, fingerprint: string, cache: EvaluationCache): TextSource {
  return {
    ...source,
    async score(tokens, from, signal) {
      const asked = createHash('sha256').update(`${FORM}\n${fingerprint}\n${TOP_TOKENS}\n${from}\n`).update(tokens)
      const key = asked.digest('hex')
      const known = unpack(cache.get(key), tokens.length - from)
      if (known !== null) return known
      const scored = await source.score(tokens, from, signal)
      cache.put(key, pack(scored))
      // A window is worth seconds: it is on disk before the next one is asked for.
      await cache.flush()
      return scored
    },
  }
}

/** listed, then of each row: log p of the text's own token, the top id or −1, the number of pairs, and the pairs (id, log p). */
function pack({ rows, listed }: ScoredRows): number[] {
  return [
    listed,
    ...rows.flatMap(({ targetLogprob, topId, logprobs }) => [targetLogprob, topId ?? -1, logprobs.size, ...[...logprobs].flat()]),
  ]
}

/** null for what is not there, or not what `pack` wrote. */
function unpack(value: unknown, count: number): ScoredRows | null {
  if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'number')) return null
  const numbers: readonly number[] = value
  const rows: PositionRow[] = []
  let at = 1
  while (at < numbers.length) {
    const [targetLogprob = Number.NaN, topId = -1, size = -1] = numbers.slice(at, at + 3)
    at += 3
    if (size < 0 || at + 2 * size > numbers.length) return null
    const logprobs = new Map<number, number>()
    for (const end = at + 2 * size; at < end; at += 2) logprobs.set(numbers[at] ?? 0, numbers[at + 1] ?? 0)
    rows.push({ targetLogprob, topId: topId < 0 ? null : topId, logprobs })
  }
  return rows.length === count ? { rows, listed: numbers[0] ?? 0 } : null
}
