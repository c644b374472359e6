/**
 * Which tokens one request may generate next, and how their logits change: penalties, biases, bad words, least length, structured output
 * (specs/runtime.md §5.1, §6.4), as the RowAdjustment of each sampled row. A row within a speculated window sees the history it would have if
 * the drafts before it were already generated, so a choice does not depend on whether it was speculated.
 *
 * Counts follow the request's own tokens, so preemption and rejected drafts cannot put them out of step.
 */
import { LatheError } from '../contract/errors.ts'
import type { RowAdjustment } from '../gpu/program.ts'
import type { SamplingParameters, TokenMaskProvider } from './types.ts'

export interface TokenRules {
  readonly presence: number
  readonly frequency: number
  readonly repetition: number
  readonly bias: ReadonlyMap<number, number>
  readonly badWords: readonly (readonly number[])[]
  readonly allowed: Uint32Array | null
  /** Until so many tokens are generated, `endTokenIds` are forbidden. */
  readonly minTokens: number
  readonly endTokenIds: readonly number[]
  readonly mask: TokenMaskProvider | null
}

/** What rules look at: tokens 0 … of which the first `promptCount` are the prompt. */
export interface TokenHistory {
  readonly tokens: Uint32Array
  readonly tokenCount: number
  readonly promptCount: number
}

const WORD_BITS = 32

/** null where nothing but the model decides. Parameters must have been validated. */
export function createTokenRules(
  parameters: SamplingParameters,
  options: {
    readonly vocabulary: number
    readonly minTokens: number
    readonly endTokenIds: readonly number[]
    readonly mask: TokenMaskProvider | null
  },
): TokenRules | null {
  const { presencePenalty = 0, frequencyPenalty = 0, repetitionPenalty = 1, logitBias, badWords = [], allowedTokenIds } = parameters
  const { minTokens, endTokenIds, mask, vocabulary } = options
  const rules: TokenRules = {
    presence: presencePenalty,
    frequency: frequencyPenalty,
    repetition: repetitionPenalty,
    bias: logitBias ?? new Map(),
    badWords,
    allowed: allowedTokenIds === undefined ? null : maskOfIds(allowedTokenIds, vocabulary),
    minTokens: endTokenIds.length === 0 ? 0 : minTokens,
    endTokenIds,
    mask,
  }
  const needed =
    rules.presence !== 0 ||
    rules.frequency !== 0 ||
    rules.repetition !== 1 ||
    rules.bias.size > 0 ||
    badWords.length > 0 ||
    rules.allowed !== null ||
    rules.minTokens > 0 ||
    mask !== null
  return needed ? rules : null
}

function maskOfIds(ids: readonly number[], vocabulary: number): Uint32Array {
  const words = new Uint32Array(Math.ceil(vocabulary / WORD_BITS))
  for (const id of ids) words[id >>> 5] = (words[id >>> 5] ?? 0) | (1 << (id & 31))
  return words
}

/** Parallel arrays of the tokens that a row adjusts, which grow as tokens are met for the first time. */
class Edits {
  ids: Uint32Array
  bias: Float32Array
  generated: Uint32Array
  seen: Uint8Array
  count: number

  constructor(from: Edits | null = null, extra = 16) {
    const count = from?.count ?? 0
    const room = count + extra
    this.ids = new Uint32Array(room)
    this.bias = new Float32Array(room)
    this.generated = new Uint32Array(room)
    this.seen = new Uint8Array(room)
    this.count = count
    if (from !== null) this.#copy(from)
  }

  /** Appends the token with nothing but itself; its index. */
  push(id: number): number {
    if (this.count === this.ids.length) {
      const grown = new Edits(this, Math.max(16, this.count))
      ;({ ids: this.ids, bias: this.bias, generated: this.generated, seen: this.seen } = grown)
    }
    this.ids[this.count] = id
    return this.count++
  }

  #copy({ ids, bias, generated, seen, count }: Edits): void {
    this.ids.set(ids.subarray(0, count))
    this.bias.set(bias.subarray(0, count))
    this.generated.set(generated.subarray(0, count))
    this.seen.set(seen.subarray(0, count))
  }
}

/** The rules of one request, with counts that follow its tokens. */
export class RuleState {
  readonly rules: TokenRules
  readonly #edits = new Edits()
  readonly #indexOf = new Map<number, number>()
  /** Tokens counted so far. */
  #counted = 0

  constructor(rules: TokenRules) {
    this.rules = rules
    for (const [id, bias] of rules.bias) this.#edits.bias[this.#baseIndex(id)] = bias
  }

  /**
   * The adjustment of the row that follows `drafts` after all known tokens; undefined where nothing changes. `mask` is what the provider says
   * there; it is copied.
   */
  adjust(history: TokenHistory, drafts: ArrayLike<number>, mask: Uint32Array | null): RowAdjustment | undefined {
    const { rules } = this
    this.#count(history)
    const generated = history.tokenCount - history.promptCount + drafts.length
    const banned = this.#banned(history, drafts, generated)
    let edits = this.#edits
    if (banned.length > 0 || (drafts.length > 0 && this.#counts)) {
      edits = new Edits(edits, banned.length + drafts.length)
      const added = new Map<number, number>()
      const indexOf = (id: number): number => {
        const known = this.#indexOf.get(id) ?? added.get(id)
        if (known !== undefined) return known
        const index = edits.push(id)
        added.set(id, index)
        return index
      }
      if (this.#counts) for (let i = 0; i < drafts.length; i++) countToken(edits, indexOf(drafts[i] ?? 0), true)
      for (const id of banned) edits.bias[indexOf(id)] = -Infinity
    }
    const allowed = intersection(rules.allowed, mask)
    if (edits.count === 0 && allowed === null) return undefined
    const { presence, frequency, repetition } = rules
    return {
      allowed,
      ids: edits.ids.subarray(0, edits.count),
      bias: edits.bias.subarray(0, edits.count),
      generated: edits.generated.subarray(0, edits.count),
      seen: edits.seen.subarray(0, edits.count),
      presence,
      frequency,
      repetition,
    }
  }

  get #counts(): boolean {
    const { presence, frequency, repetition } = this.rules
    return presence !== 0 || frequency !== 0 || repetition !== 1
  }

  #count({ tokens, tokenCount, promptCount }: TokenHistory): void {
    if (!this.#counts) return
    // The prompt matters to the repetition penalty alone; listing its tokens for nothing would cost an edit each.
    if (this.#counted === 0 && this.rules.repetition === 1) this.#counted = promptCount
    for (let i = this.#counted; i < tokenCount; i++) countToken(this.#edits, this.#baseIndex(tokens[i] ?? 0), i >= promptCount)
    this.#counted = Math.max(this.#counted, tokenCount)
  }

  #baseIndex(id: number): number {
    let index = this.#indexOf.get(id)
    if (index === undefined) {
      index = this.#edits.push(id)
      this.#indexOf.set(id, index)
    }
    return index
  }

  #banned({ tokens, tokenCount, promptCount }: TokenHistory, drafts: ArrayLike<number>, generated: number): number[] {
    const { minTokens, endTokenIds, badWords } = this.rules
    const banned = generated < minTokens ? [...endTokenIds] : []
    // A bad word must be generated whole: its beginning in the prompt does not count, as in vLLM.
    const at = (back: number): number | undefined => {
      const place = generated - back
      return place < 0
        ? undefined
        : place >= tokenCount - promptCount
          ? drafts[place - tokenCount + promptCount]
          : tokens[promptCount + place]
    }
    for (const word of badWords) {
      const before = word.length - 1
      if (generated < before) continue
      let matches = true
      for (let i = 0; i < before && matches; i++) matches = at(before - i) === word[i]
      const last = word[before]
      if (matches && last !== undefined) banned.push(last)
    }
    return banned
  }
}

function countToken(edits: Edits, index: number, generated: boolean): void {
  edits.seen[index] = 1
  if (generated) edits.generated[index] = (edits.generated[index] ?? 0) + 1
}

function intersection(a: Uint32Array | null, b: Uint32Array | null): Uint32Array | null {
  if (b === null) return a
  return a === null ? b.slice() : b.map((word, i) => word & (a[i] ?? 0))
}

/** A sequence and the drafts at the end of it, for which `rowAdjustments` makes what its sampled rows need. */
export interface RuledSequence extends TokenHistory {
  readonly id: string
  readonly state: RuleState
}

/**
 * Adjustments of rows 0 … drafts.length: row i follows the first i drafts. The provider is led through the drafts and back. Throws what a
 * provider throws or rejects with.
 */
export async function rowAdjustments(sequence: RuledSequence, drafts: Uint32Array): Promise<readonly (RowAdjustment | undefined)[]> {
  const { state } = sequence
  const provider = state.rules.mask
  const adjustments: (RowAdjustment | undefined)[] = []
  let ahead = 0
  try {
    for (let row = 0; row <= drafts.length; row++) {
      const answer = provider?.mask() ?? null
      const mask = answer instanceof Promise ? await inTime(answer, sequence.id) : answer
      adjustments.push(state.adjust(sequence, drafts.subarray(0, row), mask))
      const draft = drafts[row]
      if (provider === null || draft === undefined) continue
      if (!provider.accept(draft)) throw refusedToken(sequence.id, draft)
      ahead++
    }
  } finally {
    if (ahead > 0) provider?.rollback(ahead)
  }
  return adjustments
}

/** A step waits for its masks, and everybody for the step: a constraint that takes this long has lost its worker. */
const MOST_MASK_MS = 10_000

async function inTime<T>(answer: Promise<T>, id: string): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const message = `The output constraint of request ${id} has not answered within ${MOST_MASK_MS / 1000} s.`
    late.reject(new LatheError('internal', message, 'Try a simpler schema or grammar.'))
  }, MOST_MASK_MS)
  try {
    return await Promise.race([answer, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** How many of the drafts, from the first, the provider would accept. Leaves it as it was. */
export function acceptableDrafts(provider: TokenMaskProvider, drafts: ArrayLike<number>): number {
  let count = 0
  while (count < drafts.length && provider.accept(drafts[count] ?? 0)) count++
  if (count > 0) provider.rollback(count)
  return count
}

/** A provider that refuses what its own mask allowed. */
export function refusedToken(id: string, token: number): LatheError {
  return new LatheError(
    'internal',
    `The output constraint of request ${id} refused token ${token}, which it had allowed.`,
    'Report this defect, with the schema or grammar.',
  )
}
