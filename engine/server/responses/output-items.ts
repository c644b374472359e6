/**
 * An answer as the items of a response: thinking, text, calls, one after the other, each opened, grown and closed by events as it comes. The items
 * that are kept are those that the events have told of, so that a streamed answer and a whole one can't differ. Knows no transport.
 */
import type { AnswerPart } from '../chat-run.ts'

type Status = 'in_progress' | 'completed' | 'incomplete'

interface MessageItem {
  readonly id: string
  readonly type: 'message'
  readonly role: 'assistant'
  readonly status: Status
  readonly content: readonly {
    readonly type: 'output_text'
    readonly text: string
    readonly annotations: readonly []
    readonly logprobs: readonly []
  }[]
}
interface ReasoningItem {
  readonly id: string
  readonly type: 'reasoning'
  readonly status: Status
  readonly summary: readonly []
  readonly content: readonly { readonly type: 'reasoning_text'; readonly text: string }[]
}
interface CallItem {
  readonly id: string
  readonly type: 'function_call'
  readonly status: Status
  readonly call_id: string
  readonly name: string
  readonly arguments: string
}
export type OutputItem = MessageItem | ReasoningItem | CallItem

export type EmitEvent = (name: string, payload: object) => void

type Open =
  | { readonly kind: 'content' | 'reasoning'; readonly id: string; text: string }
  | { readonly kind: 'call'; readonly index: number; readonly id: string; readonly callId: string; readonly name: string; text: string }

export class OutputItems {
  readonly #emit: EmitEvent
  readonly #responseId: string
  readonly #items: OutputItem[] = []
  #open: Open | null = null
  /** Space at the start of a text, which is none if a call follows. */
  #blank = ''

  constructor(responseId: string, emit: EmitEvent) {
    this.#responseId = responseId
    this.#emit = emit
  }

  /** Those that are closed. */
  get items(): readonly OutputItem[] {
    return this.#items
  }

  write(part: AnswerPart): void {
    switch (part.kind) {
      case 'reasoning':
        return this.#grow(this.#textItem('reasoning'), part.text)
      case 'content': {
        if (this.#open?.kind === 'content') return this.#grow(this.#open, part.text)
        this.#blank += part.text
        if (this.#blank.trim() === '') return
        const text = this.#blank
        this.#blank = ''
        return this.#grow(this.#textItem('content'), text)
      }
      case 'call': {
        this.#close('completed')
        this.#blank = ''
        const id = this.#newId('fc')
        this.#open = { kind: 'call', index: part.index, id, callId: part.id ?? id, name: part.name, text: '' }
        return this.#added(this.#open)
      }
      case 'arguments':
        if (this.#open?.kind === 'call') this.#grow(this.#open, part.text)
    }
  }

  /** `incomplete`: the answer was cut off in its last item. */
  finish(status: 'completed' | 'incomplete'): void {
    const silent = this.#open === null && this.#items.every(({ type }) => type === 'reasoning')
    // An answer of nothing is a message of nothing; one cut off while it thought has not begun to speak.
    if (this.#blank !== '' || (silent && status === 'completed')) {
      if (this.#open === null || this.#open.kind === 'reasoning') this.#grow(this.#textItem('content'), this.#blank)
    } else if (this.#open?.kind === 'reasoning' && status === 'completed') this.#textItem('content')
    this.#close(status)
  }

  #newId(prefix: string): string {
    return `${prefix}_${this.#responseId}_${this.#items.length}`
  }

  #textItem(kind: 'content' | 'reasoning'): Open {
    if (this.#open?.kind === kind) return this.#open
    this.#close('completed')
    const open: Open = { kind, id: this.#newId(kind === 'content' ? 'msg' : 'rs'), text: '' }
    this.#open = open
    this.#added(open)
    this.#event('response.content_part.added', open, { content_index: 0, part: partOf(open) })
    return open
  }

  #added(open: Open): void {
    // A new item is empty; its part comes with an event of its own.
    const item = itemOf(open, 'in_progress')
    this.#event('response.output_item.added', null, { item: item.type === 'function_call' ? item : { ...item, content: [] } })
  }

  #grow(open: Open, delta: string): void {
    if (delta === '') return
    open.text += delta
    if (open.kind === 'call') this.#event('response.function_call_arguments.delta', open, { delta })
    else if (open.kind === 'reasoning') this.#event('response.reasoning_text.delta', open, { content_index: 0, delta })
    else this.#event('response.output_text.delta', open, { content_index: 0, delta, logprobs: [] })
  }

  #close(status: 'completed' | 'incomplete'): void {
    const open = this.#open
    if (open === null) return
    this.#open = null
    const { text } = open
    if (open.kind === 'call') this.#event('response.function_call_arguments.done', open, { name: open.name, arguments: text })
    else {
      const done = open.kind === 'reasoning' ? 'response.reasoning_text.done' : 'response.output_text.done'
      this.#event(done, open, { content_index: 0, text, ...(open.kind === 'content' && { logprobs: [] }) })
      this.#event('response.content_part.done', open, { content_index: 0, part: partOf(open) })
    }
    const item = itemOf(open, status)
    this.#event('response.output_item.done', null, { item })
    this.#items.push(item)
  }

  /** All events tell where in the output they belong; those inside of an item name it. */
  #event(name: string, open: Open | null, payload: object): void {
    this.#emit(name, { ...(open !== null && { item_id: open.id }), output_index: this.#items.length, ...payload })
  }
}

function partOf({ kind, text }: Open): MessageItem['content'][number] | ReasoningItem['content'][number] {
  return kind === 'reasoning' ? { type: 'reasoning_text', text } : { type: 'output_text', text, annotations: [], logprobs: [] }
}

function itemOf(open: Open, status: Status): OutputItem {
  const { id, text } = open
  switch (open.kind) {
    case 'content':
      return { id, type: 'message', role: 'assistant', status, content: [{ type: 'output_text', text, annotations: [], logprobs: [] }] }
    case 'reasoning':
      return { id, type: 'reasoning', status, summary: [], content: [{ type: 'reasoning_text', text }] }
    case 'call':
      return { id, type: 'function_call', status, call_id: open.callId, name: open.name, arguments: text }
  }
}
