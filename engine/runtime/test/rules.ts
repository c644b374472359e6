/** The rules of token-rules.ts written naively, from the whole history each time: the oracle; and providers whose state a test can read. */
import type { RowAdjustment } from '../../gpu/program.ts'
import { createTokenRules, type TokenRules } from '../token-rules.ts'
import type { SamplingParameters, TokenMaskProvider } from '../types.ts'
import { GREEDY } from './fake-runtime.ts'

export interface PlainRules {
  readonly parameters: Partial<SamplingParameters>
  readonly minTokens: number
  readonly endTokenIds: readonly number[]
  /** Allowed next tokens, as a function of what was generated. */
  readonly allows: ((output: readonly number[], token: number) => boolean) | null
}

export function rulesOf(plain: PlainRules, vocabulary: number): TokenRules | null {
  const { parameters, minTokens, endTokenIds, allows } = plain
  const mask = allows === null ? null : new HistoryMask(vocabulary, allows)
  return createTokenRules({ ...GREEDY, ...parameters }, { vocabulary, minTokens, endTokenIds, mask })
}

/** What the rules make of the row after `output`. */
export function adjustmentOf(plain: PlainRules, vocabulary: number, prompt: readonly number[], output: readonly number[]): RowAdjustment {
  const { parameters, minTokens, endTokenIds, allows } = plain
  const { presencePenalty = 0, frequencyPenalty = 0, repetitionPenalty = 1, logitBias, badWords = [], allowedTokenIds } = parameters
  const ids = Uint32Array.from({ length: vocabulary }, (_, id) => id)
  const ends = (id: number): boolean => output.length < minTokens && endTokenIds.includes(id)
  const bad = (id: number): boolean =>
    badWords.some((word) => {
      const before = word.slice(0, -1)
      return (
        word.at(-1) === id &&
        output.length >= before.length &&
        before.every((token, i) => output[output.length - before.length + i] === token)
      )
    })
  const known = new Set([...prompt, ...output])
  const allowed = new Uint32Array(Math.ceil(vocabulary / 32))
  for (const id of ids) {
    if ((allowedTokenIds?.includes(id) ?? true) && (allows?.(output, id) ?? true)) allowed[id >> 5]! |= 1 << (id & 31)
  }
  return {
    allowed,
    ids,
    bias: Float32Array.from(ids, (id) => (ends(id) || bad(id) ? -Infinity : (logitBias?.get(id) ?? 0))),
    generated: Uint32Array.from(ids, (id) => (known.has(id) ? output.filter((token) => token === id).length : 0)),
    seen: Uint8Array.from(ids, (id) => (known.has(id) ? 1 : 0)),
    presence: presencePenalty,
    frequency: frequencyPenalty,
    repetition: repetitionPenalty,
  }
}

/** A grammar that is any function of the output so far. Throws when it is led astray; odd rows answer later, as a worker would. */
export class HistoryMask implements TokenMaskProvider {
  readonly output: number[] = []
  disposed = 0
  readonly ready: Promise<void> | undefined
  readonly #vocabulary: number
  readonly #allows: (output: readonly number[], token: number) => boolean
  readonly #words: Uint32Array

  constructor(vocabulary: number, allows: (output: readonly number[], token: number) => boolean, ready?: Promise<void>) {
    this.#vocabulary = vocabulary
    this.#allows = allows
    this.ready = ready
    this.#words = new Uint32Array(Math.ceil(vocabulary / 32))
  }

  mask(): Uint32Array | Promise<Uint32Array> {
    this.#words.fill(0)
    for (let id = 0; id < this.#vocabulary; id++) if (this.#allows(this.output, id)) this.#words[id >> 5]! |= 1 << (id & 31)
    return this.output.length % 2 === 0 ? this.#words : Promise.resolve(this.#words)
  }

  accept(token: number): boolean {
    if (this.disposed > 0) throw new Error('accept after dispose')
    if (!this.#allows(this.output, token)) return false
    this.output.push(token)
    return true
  }

  rollback(count: number): void {
    if (count > this.output.length) throw new Error(`rollback of ${count} of ${this.output.length} tokens`)
    this.output.length -= count
  }

  dispose(): void {
    this.disposed++
  }
}
