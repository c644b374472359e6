/**
 * Prompts of an exact number of tokens (specs/benchmark.md §1.5): seeded words, unique from the first token on so that no prefix cache helps, or
 * with a prefix that groups share, to measure the cache on purpose. A load, not a quality test.
 */
import { createIndexSampler } from '../../evaluate/random.ts'
import type { LoadPrompt } from './load-target.ts'

/** Token ids of a text as the target counts them. */
export type Tokenize = (text: string) => Promise<readonly number[]>

export interface SyntheticOptions {
  readonly count: number
  readonly promptTokens: number
  readonly outputTokens: number
  /** Tokens at the front that all prompts have in common; 0 = none. */
  readonly sharedPrefixTokens: number
  readonly seed: number
}

const WORDS =
  'river stone lantern market harbour copper window garden thunder paper silver engine forest mirror bridge candle winter basket signal feather'.split(
    ' ',
  )
/** Words that surely make so many tokens: every word has at least one. */
const WORDS_PER_TOKEN = 1.3

function words(seed: number, count: number): string {
  const pick = createIndexSampler(seed)
  return Array.from({ length: count }, () => `${WORDS[pick(WORDS.length)]}${pick(10) < 3 ? pick(1000) : ''}`).join(' ')
}

/** Without a tokenizer lengths are estimates, and the server's count is the truth: then `tokens` is null. */
export async function syntheticPrompts(options: SyntheticOptions, tokenize: Tokenize | null): Promise<LoadPrompt[]> {
  const { count, promptTokens, outputTokens, seed } = options
  const shared = Math.min(options.sharedPrefixTokens, Math.max(0, promptTokens - 1))
  const exactly = async (from: number, length: number): Promise<readonly number[]> => {
    if (length === 0 || tokenize === null) return []
    const ids: number[] = []
    for (let part = 0; ids.length < length; part++) {
      const more = await tokenize(words(from + part, Math.ceil((length - ids.length) * WORDS_PER_TOKEN) + 4))
      if (more.length === 0) throw new Error('The tokenizer gives no tokens for plain words.')
      ids.push(...more)
    }
    return ids.slice(0, length)
  }
  const prefix = await exactly(Math.imul(seed, 7919) >>> 0, shared)
  const prompts: LoadPrompt[] = []
  for (let i = 0; i < count; i++) {
    const own = (Math.imul(seed, 104_729) + Math.imul(i + 1, 1_000_003)) >>> 0
    const tokens = tokenize === null ? null : [...prefix, ...(await exactly(own, promptTokens - shared))]
    const sharedText = shared === 0 ? '' : `${words(Math.imul(seed, 7919) >>> 0, shared)} `
    prompts.push({ tokens, text: tokens === null ? sharedText + words(own, promptTokens - shared) : '', promptTokens, outputTokens })
  }
  return prompts
}
