/**
 * Finds tool calls in an answer as it is generated. Text that may still become markup is held back; what begins like a call and is none comes
 * out as text, unchanged. Knows nothing of which tools exist.
 */
import { CallScanner } from './call-scanner.ts'
import type { CallEvent } from './call-scanner.ts'
import { CALL_MARKS, HERMES_CLOSE, LLAMA_MARK, MISTRAL_ARGUMENTS, MISTRAL_CALL_ID, PHI_CLOSE } from './tool-format.ts'
import type { ToolFormat } from './tool-format.ts'

export type ToolPart =
  | { readonly kind: 'content'; readonly text: string }
  | { readonly kind: 'call'; readonly index: number; readonly name: string }
  | { readonly kind: 'arguments'; readonly index: number; readonly text: string }

/** Names are short; more text than this before the arguments is no call. */
const MAX_NAME = 128

export class ToolParser {
  readonly #format: ToolFormat
  #pending = ''
  #state: 'text' | 'between' | 'name' | 'call' | 'after' | 'plain'
  #scanner = new CallScanner()
  /** Markup that led to the call now being read, to give back if it is none. */
  #markup = ''
  #calls = 0

  constructor(format: ToolFormat) {
    this.#format = format
    this.#state = format === 'llama3' ? 'between' : 'text'
  }

  /** Calls begun so far. */
  get calls(): number {
    return this.#calls
  }

  push(text: string): readonly ToolPart[] {
    this.#pending += text
    const parts: ToolPart[] = []
    while (this.#advance(parts));
    return merged(parts)
  }

  /** What was held back, when nothing follows any more. */
  finish(): readonly ToolPart[] {
    const unfinished = this.#state === 'call' && !this.#scanner.named ? this.#markup + this.#scanner.text : ''
    const before = this.#state === 'between' && this.#calls === 0
    const held = this.#state === 'text' || this.#state === 'plain' ? this.#pending : before ? this.#markup + this.#pending : ''
    const name = this.#state === 'name' ? this.#markup + this.#pending : ''
    this.#pending = ''
    const text = unfinished + name + held
    this.#state = 'plain'
    return text === '' || (this.#calls > 0 && text.trim() === '') ? [] : [{ kind: 'content', text }]
  }

  /** One transition; false when more text is needed. */
  #advance(parts: ToolPart[]): boolean {
    if (this.#pending === '') return false
    switch (this.#state) {
      case 'plain':
        return this.#emit(parts, this.#pending.length)
      case 'text':
        return this.#text(parts)
      case 'between':
        return this.#between(parts)
      case 'name':
        return this.#name()
      case 'call':
        return this.#call(parts)
      case 'after':
        return this.#after()
    }
  }

  #text(parts: ToolPart[]): boolean {
    const mark = CALL_MARKS[this.#format]
    const at = this.#pending.indexOf(mark)
    if (at >= 0) {
      const before = this.#pending.slice(0, at).trimEnd()
      if (before !== '') parts.push({ kind: 'content', text: before })
      this.#pending = this.#pending.slice(at + mark.length)
      this.#markup = mark
      if (this.#format === 'mistral-args') this.#state = 'name'
      else if (this.#format === 'mistral-list' || this.#format === 'phi') this.#state = 'between'
      else this.#begin()
      return true
    }
    // Space before a call belongs to the markup.
    const kept = this.#pending.slice(0, this.#pending.length - heldLength(this.#pending, mark)).trimEnd()
    if (this.#calls > 0 && kept.trim() === '') return false
    return this.#emit(parts, kept.length)
  }

  /** Before a call of Llama's or of a list: brackets, separators, the end of the markup, or no call at all. */
  #between(parts: ToolPart[]): boolean {
    const rest = this.#pending.trimStart()
    if (rest === '') return false
    if (this.#format === 'llama3') {
      if (LLAMA_MARK.startsWith(rest) && rest.length < LLAMA_MARK.length) return false
      if (rest.startsWith(LLAMA_MARK)) return this.#skip(rest.slice(LLAMA_MARK.length))
      if (this.#calls > 0 && rest.startsWith(';')) return this.#skip(rest.slice(1))
    } else {
      if (rest.startsWith('[') && this.#calls === 0) return this.#skip(rest.slice(1))
      if (rest.startsWith(',') && this.#calls > 0) return this.#skip(rest.slice(1))
      if (rest.startsWith(']')) {
        if (this.#format === 'mistral-list') this.#state = 'text'
        return this.#skip(rest.slice(1))
      }
      if (this.#format === 'phi' && this.#calls > 0) {
        if (PHI_CLOSE.startsWith(rest) && rest.length < PHI_CLOSE.length) return false
        if (rest.startsWith(PHI_CLOSE)) {
          this.#state = 'text'
          return this.#skip(rest.slice(PHI_CLOSE.length))
        }
      }
    }
    if (!rest.startsWith('{')) {
      this.#state = 'plain'
      if (this.#format !== 'llama3' && this.#calls === 0) parts.push({ kind: 'content', text: this.#markup })
      return true
    }
    const space = this.#pending.slice(0, this.#pending.length - rest.length)
    this.#markup = this.#format === 'llama3' && this.#calls === 0 ? space : this.#markup
    this.#pending = rest
    this.#begin()
    return true
  }

  #skip(rest: string): boolean {
    this.#pending = rest
    return true
  }

  #begin(): void {
    this.#scanner = new CallScanner()
    this.#state = 'call'
  }

  /** Mistral's name, up to [ARGS] or the brace of the arguments. */
  #name(): boolean {
    const brace = this.#pending.indexOf('{')
    const mark = this.#pending.indexOf(MISTRAL_ARGUMENTS)
    const end = mark >= 0 && (brace < 0 || mark < brace) ? mark : brace
    if (end < 0) {
      if (this.#pending.length > MAX_NAME) {
        this.#pending = this.#markup + this.#pending
        this.#state = 'plain'
        return true
      }
      return false
    }
    // An id of the model's own making may stand between the two; ours takes its place.
    const name = this.#pending.slice(0, end).split(MISTRAL_CALL_ID, 1)[0]?.trim() ?? ''
    this.#markup += this.#pending.slice(0, end === mark ? end + MISTRAL_ARGUMENTS.length : end)
    this.#pending = this.#pending.slice(end === mark ? end + MISTRAL_ARGUMENTS.length : end)
    this.#scanner = new CallScanner(name)
    this.#state = 'call'
    return true
  }

  #call(parts: ToolPart[]): boolean {
    const { taken, events } = this.#scanner.push(this.#pending)
    this.#pending = this.#pending.slice(taken)
    for (const event of events) parts.push(this.#partOf(event))
    if (this.#scanner.state === 'done') {
      this.#state = this.#format === 'hermes' ? 'after' : this.#format === 'mistral-args' ? 'text' : 'between'
      return this.#pending !== ''
    }
    if (this.#scanner.state === 'failed') {
      // A call that has been announced can't be taken back: what is left of it is dropped.
      if (!this.#scanner.named) this.#pending = this.#markup + this.#scanner.text + this.#pending
      this.#state = 'plain'
      return true
    }
    return this.#pending !== ''
  }

  #partOf(event: CallEvent): ToolPart {
    if (event.kind === 'name') return { kind: 'call', index: this.#calls++, name: event.name }
    return { kind: 'arguments', index: this.#calls - 1, text: event.text }
  }

  #after(): boolean {
    const at = this.#pending.indexOf(HERMES_CLOSE)
    if (at < 0) {
      this.#pending = this.#pending.slice(this.#pending.length - heldLength(this.#pending, HERMES_CLOSE))
      return false
    }
    this.#state = 'text'
    return this.#skip(this.#pending.slice(at + HERMES_CLOSE.length))
  }

  #emit(parts: ToolPart[], length: number): boolean {
    if (length === 0) return false
    parts.push({ kind: 'content', text: this.#pending.slice(0, length) })
    this.#pending = this.#pending.slice(length)
    return this.#state === 'plain' && this.#pending !== ''
  }
}

/** Length of the longest end of `text` with which `mark` may begin. */
export function heldLength(text: string, mark: string): number {
  for (let length = Math.min(mark.length - 1, text.length); length > 0; length--)
    if (mark.startsWith(text.slice(text.length - length))) return length
  return 0
}

function merged(parts: readonly ToolPart[]): readonly ToolPart[] {
  const result: ToolPart[] = []
  for (const part of parts) {
    const last = result.at(-1)
    if (last?.kind === 'content' && part.kind === 'content') result[result.length - 1] = { kind: 'content', text: last.text + part.text }
    else if (last?.kind === 'arguments' && part.kind === 'arguments' && last.index === part.index)
      result[result.length - 1] = { ...last, text: last.text + part.text }
    else result.push(part)
  }
  return result
}
