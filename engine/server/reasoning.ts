/**
 * Splits what a model thinks from what it answers: `<think>…</think>` or Mistral's `[THINK]…[/THINK]` at the start of an answer, where the template
 * of the model has such a thing (specs/runtime.md §7). A template may open the thinking itself, and the prompt may have closed it already.
 */
import type { TokenMaskProvider } from '../runtime/types.ts'
import { heldLength } from './tools/tool-parser.ts'

export interface ThinkTags {
  readonly open: string
  readonly close: string
}

const THINK: ThinkTags = { open: '<think>', close: '</think>' }
const FAMILIES: readonly ThinkTags[] = [THINK, { open: '[THINK]', close: '[/THINK]' }]

/** Those that a template writes; the usual ones where it writes none. */
export function thinkTagsOf(template: string | null): ThinkTags {
  return FAMILIES.find(({ close }) => template?.includes(close) === true) ?? THINK
}

export type ReasoningStart =
  /** The prompt ends inside of the thinking. */
  | 'inside'
  /** The answer may begin with it. */
  | 'possible'
  /** This model does not think, or has done so. */
  | 'none'

/** From the model's template and the prompt it made. */
export function reasoningStart(template: string | null, prompt: string): ReasoningStart {
  const { open, close } = thinkTagsOf(template)
  if (template === null || !template.includes(close)) return 'none'
  const tail = prompt.trimEnd()
  if (tail.endsWith(open)) return 'inside'
  return tail.endsWith(close) ? 'none' : 'possible'
}

export interface ReasoningPart {
  readonly kind: 'reasoning' | 'content'
  readonly text: string
}

export class ReasoningSplitter {
  #state: 'start' | 'inside' | 'gap' | 'content'
  #pending = ''
  /** Something other than space was thought. */
  #began = false

  readonly #tags: ThinkTags

  constructor(start: ReasoningStart, tags: ThinkTags = THINK) {
    this.#tags = tags
    this.#state = start === 'inside' ? 'inside' : start === 'possible' ? 'start' : 'content'
  }

  get thinking(): boolean {
    return this.#state === 'inside'
  }

  push(text: string): readonly ReasoningPart[] {
    this.#pending += text
    const parts: ReasoningPart[] = []
    if (this.#state === 'start') this.#begin()
    if (this.#state === 'inside') this.#inside(parts)
    if (this.#state === 'gap') {
      // The line breaks between the two belong to neither.
      this.#pending = this.#pending.trimStart()
      if (this.#pending !== '') this.#state = 'content'
    }
    if (this.#state === 'content') this.#take(parts, 'content', this.#pending.length)
    return parts
  }

  finish(): readonly ReasoningPart[] {
    const parts: ReasoningPart[] = []
    this.#take(parts, this.#state === 'inside' ? 'reasoning' : 'content', this.#pending.length)
    return parts
  }

  #begin(): void {
    const { open } = this.#tags
    const rest = this.#pending.trimStart()
    if (rest.startsWith(open)) {
      this.#pending = rest.slice(open.length)
      this.#state = 'inside'
    } else if (!open.startsWith(rest)) this.#state = 'content'
  }

  #inside(parts: ReasoningPart[]): void {
    const { close } = this.#tags
    if (!this.#began) this.#pending = this.#pending.trimStart()
    const at = this.#pending.indexOf(close)
    if (at < 0) {
      const kept = this.#pending.slice(0, this.#pending.length - heldLength(this.#pending, close)).trimEnd()
      this.#take(parts, 'reasoning', kept.length)
      return
    }
    const thought = this.#pending.slice(0, at).trimEnd()
    const after = this.#pending.slice(at + close.length)
    this.#take(parts, 'reasoning', thought.length)
    this.#pending = after
    this.#state = 'gap'
  }

  #take(parts: ReasoningPart[], kind: ReasoningPart['kind'], length: number): void {
    if (length > 0) this.#began = true
    if (length > 0) parts.push({ kind, text: this.#pending.slice(0, length) })
    this.#pending = this.#pending.slice(length)
  }
}

/**
 * Holds a grammar back until the thinking has ended: bound to a schema from its first token, a thinking model would have nothing to say. Where it
 * may but need not think, its first token decides. Walks back exactly, as every provider must.
 */
export function afterReasoning(
  inner: TokenMaskProvider,
  start: ReasoningStart,
  tokens: { readonly openId: number | null; readonly close?: string; tokenBytes(id: number): Uint8Array },
): TokenMaskProvider {
  if (start === 'none' || (start === 'possible' && tokens.openId === null)) return inner
  const close = tokens.close ?? THINK.close
  /** What was accepted while the grammar did not bind; it does since the last of them where `bound`. */
  const thought: number[] = []
  let bound = 0
  let state: 'choosing' | 'thinking' | 'bound' = start === 'inside' ? 'thinking' : 'choosing'
  const ended = (): boolean => {
    // The end tag may be spread over as many tokens as it has characters.
    const tail = thought.slice(-close.length).map((id) => tokens.tokenBytes(id))
    return Buffer.concat(tail).toString('latin1').includes(close)
  }
  const withOpening = (mask: Uint32Array | null): Uint32Array | null => {
    if (mask === null || tokens.openId === null) return mask
    const widened = mask.slice()
    widened[tokens.openId >> 5] = (widened[tokens.openId >> 5] ?? 0) | (1 << (tokens.openId & 31))
    return widened
  }
  return {
    ready: inner.ready,
    mask: () => {
      if (state === 'thinking') return null
      const mask = inner.mask()
      if (state === 'bound') return mask
      return mask instanceof Promise ? mask.then(withOpening) : withOpening(mask)
    },
    accept: (token) => {
      if (state === 'choosing' && token === tokens.openId) {
        thought.push(token)
        state = 'thinking'
        return true
      }
      if (state === 'thinking') {
        thought.push(token)
        if (ended()) state = 'bound'
        return true
      }
      if (!inner.accept(token)) return false
      state = 'bound'
      bound++
      return true
    },
    rollback: (count) => {
      const fromGrammar = Math.min(count, bound)
      inner.rollback(fromGrammar)
      bound -= fromGrammar
      thought.length -= count - fromGrammar
      if (bound > 0) return
      if (thought.length > 0) state = ended() ? 'bound' : 'thinking'
      else state = start === 'inside' ? 'thinking' : 'choosing'
    },
    dispose: () => inner.dispose?.(),
  }
}
