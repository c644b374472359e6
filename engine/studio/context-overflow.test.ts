import { expect, test } from 'vitest'
import { answerRoom, fitMessages } from './context-overflow.ts'
import type { Overflow } from './context-overflow.ts'
import type { PromptMessage } from './ports.ts'

/** One token per character, one per turn's bounds. */
const encode = (messages: readonly PromptMessage[]): Uint32Array =>
  Uint32Array.from(Buffer.from(messages.map((message) => `${message.role[0]}${message.content}`).join('')))

const CHAT: readonly PromptMessage[] = [
  { role: 'system', content: 'S' },
  { role: 'user', content: 'first' },
  { role: 'assistant', content: 'one' },
  { role: 'user', content: 'second' },
  { role: 'assistant', content: 'two' },
  { role: 'user', content: 'third' },
]

const shown = (overflow: Overflow, limit: number): string =>
  Buffer.from(fitMessages(CHAT, encode(CHAT), overflow, limit, encode)).toString()

test.each([
  ['stop', 5, 'sSufirstaoneusecondatwouthird'],
  ['drop-oldest', 100, 'sSufirstaoneusecondatwouthird'],
  ['drop-oldest', 20, 'sSusecondatwouthird'],
  ['drop-oldest', 10, 'sSuthird'],
  ['drop-oldest', 3, 'sSuthird'],
  ['drop-middle', 20, 'sSufirstaoneuthird'],
  ['drop-middle', 5, 'sSufirstaoneuthird'],
] as const)('%s within %i tokens', (overflow, limit, expected) => {
  expect(shown(overflow, limit)).toBe(expected)
})

test('an answer is left room, but not more than it may use', () => {
  expect([answerRoom(null, 400), answerRoom(null, 100_000), answerRoom(10, 400), answerRoom(9999, 400)]).toEqual([100, 1024, 10, 100])
})
