/** Properties of the translation between items, turns and events, over random conversations and answers. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { ApiError } from '../api-error.ts'
import type { AnswerPart } from '../chat-run.ts'
import { InputSchema, messagesOfInput } from './input-items.ts'
import { OutputItems } from './output-items.ts'

const SEED = 20_261_123

const word = fc.string({ maxLength: 6 })
const part = fc.oneof(
  fc.record({ type: fc.constantFrom('input_text', 'output_text', 'text', 'reasoning_text', 'summary_text'), text: word }),
  fc.record({ type: fc.constant('refusal'), refusal: word }),
)
const content = fc.oneof(word, fc.array(part, { maxLength: 3 }))
const item = fc.oneof(
  fc.record({ role: fc.constantFrom('user', 'assistant', 'system', 'developer'), content }),
  fc.record({ type: fc.constant('message'), role: fc.constantFrom('user', 'assistant'), content, id: word }),
  fc.record({
    type: fc.constant('reasoning'),
    summary: fc.array(part, { maxLength: 2 }),
    content: fc.option(fc.array(part, { maxLength: 2 })),
  }),
  fc.record({ type: fc.constant('function_call'), call_id: word, name: word, arguments: word }),
  fc.record({ type: fc.constant('function_call_output'), call_id: word, output: content }),
)

test('every conversation of known items becomes turns: no call, result or word is lost, no two turns of the assistant follow each other', () => {
  fc.assert(
    fc.property(fc.array(item, { minLength: 1, maxLength: 12 }), fc.option(word, { nil: undefined }), (items, instructions) => {
      const messages = messagesOfInput(InputSchema.parse(items), instructions)
      const roles = messages.map(({ role }) => role)
      expect(roles.some((role, index) => role === 'assistant' && roles[index - 1] === 'assistant')).toBe(false)
      expect(roles.indexOf('system', 1) === 1 && roles[0] === 'system').toBe(false)
      const calls = messages.flatMap((message) => ('tool_calls' in message ? (message.tool_calls ?? []) : []))
      const count = (type: string): number => items.filter((one) => 'type' in one && one.type === type).length
      expect([calls.length, roles.filter((role) => role === 'tool').length]).toEqual([
        count('function_call'),
        count('function_call_output'),
      ])
      const said = items.filter((one) => 'role' in one && one.role === 'user').length
      expect(roles.filter((role) => role === 'user')).toHaveLength(said)
    }),
    { seed: SEED, numRuns: 300 },
  )
})

function faultOf(items: readonly unknown[]): string {
  try {
    messagesOfInput(InputSchema.parse(items), undefined)
    return 'none'
  } catch (error) {
    // Items that are no objects are refused where the whole body is.
    if (error instanceof z.ZodError) return 'none'
    return error instanceof ApiError ? `${error.status} ${error.param}` : String(error)
  }
}

test('whatever else is sent is refused as a fault of the input, never as one of ours', () => {
  const junk = fc.array(
    fc.oneof(item, fc.dictionary(fc.constantFrom('type', 'role', 'content', 'output', 'call_id', 'summary'), fc.jsonValue())),
    {
      minLength: 1,
      maxLength: 5,
    },
  )
  fc.assert(
    fc.property(junk, (items) => {
      expect(faultOf(items)).toMatch(/^(none|400 input\.\d.*)$/)
    }),
    { seed: SEED, numRuns: 500 },
  )
})

interface Seen {
  readonly name: string
  readonly output_index: number
  readonly item_id?: string
  readonly delta?: string
  readonly item?: { readonly id: string; readonly status: string }
}

test('events open, grow and close one item at a time, and their deltas are the items', () => {
  const piece: fc.Arbitrary<AnswerPart> = fc.oneof(
    fc.record({ kind: fc.constant('content' as const), text: fc.constantFrom('a', ' ', '\n', 'b c') }),
    fc.record({ kind: fc.constant('reasoning' as const), text: fc.constantFrom('x', ' y') }),
    fc.record({ kind: fc.constant('call' as const), index: fc.nat(3), name: fc.constant('f'), id: word }),
    fc.record({ kind: fc.constant('arguments' as const), index: fc.nat(3), text: fc.constantFrom('{', '}') }),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), fc.constantFrom('completed' as const, 'incomplete' as const), (pieces, status) => {
      const seen: Seen[] = []
      const items = new OutputItems('r', (name, payload) =>
        seen.push({ name: name.replace('response.', ''), ...(payload as Omit<Seen, 'name'>) }),
      )
      for (const one of pieces) items.write(one)
      items.finish(status)
      const opened = seen.filter(({ name }) => name === 'output_item.added')
      const closed = seen.filter(({ name }) => name === 'output_item.done')
      expect(closed.map(({ item: done }) => done)).toEqual(items.items)
      expect(opened.map(({ item: begun }) => begun!.id)).toEqual(items.items.map(({ id }) => id))
      expect(new Set(items.items.map(({ id }) => id)).size).toBe(items.items.length)
      expect(seen.map(({ output_index }) => output_index)).toEqual(seen.map(({ output_index }) => output_index).toSorted((a, b) => a - b))
      expect(items.items.length > 0 || status === 'incomplete').toBe(true)
      for (const [index, done] of items.items.entries()) {
        const deltas = seen.filter((event) => event.output_index === index && event.delta !== undefined)
        expect(deltas.every((event) => event.item_id === done.id)).toBe(true)
        const whole = done.type === 'function_call' ? done.arguments : done.content[0]!.text
        expect(deltas.map(({ delta }) => delta).join('')).toBe(whole)
        expect(done.status).toBe(index === items.items.length - 1 ? status : 'completed')
      }
    }),
    { seed: SEED, numRuns: 300 },
  )
})
