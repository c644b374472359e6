/** How far ahead the original's own token was where answers part: as odds, which need no logarithm to be read, and of how many answers. */
import type { FreeTextDrift } from '../../../engine/contract/index.ts'
import { formatInteger, formatSignificant } from '../../lib/format.ts'

/** Odds beyond this are certainty; more digits would say nothing. */
const MOST_ODDS = 1000

export function leadOf({ n, identical, divergenceMarginMedian: margin, divergenceMarginItems: items }: FreeTextDrift): [string, string] {
  if (margin === null) return ['—', 'not known of these answers']
  const odds = Math.exp(margin)
  const text = odds > MOST_ODDS ? `> ${formatInteger(MOST_ODDS)}×` : `${formatSignificant(odds)}×`
  const differing = n - identical
  return [text, items < differing ? `median of ${formatInteger(items)} of ${formatInteger(differing)}` : 'median']
}
