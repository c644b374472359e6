/**
 * What a model is shown of a conversation that has outgrown its context (specs/runtime.md §14): nothing is left out unless the user chose how, and
 * then whole turns are, so that what is left still reads as a conversation. The system prompt and the newest prompt always stay.
 */
import type { PromptMessage } from './ports.ts'

export type Overflow = 'stop' | 'drop-oldest' | 'drop-middle'

/** An answer without a limit is given this share of the context before turns are dropped for it. */
const ROOM_SHARE = 0.25
const MOST_ROOM = 1024

/** Tokens to keep free for the answer. */
export function answerRoom(maxTokens: number | null, contextLimit: number): number {
  const room = Math.min(MOST_ROOM, Math.floor(contextLimit * ROOM_SHARE))
  return Math.max(1, maxTokens === null ? room : Math.min(maxTokens, room))
}

/**
 * The prompt in at most `limit` tokens, if dropping turns can make it so; else as it is, and the runtime refuses it with the numbers. `whole` is
 * the whole conversation encoded.
 */
export function fitMessages(
  messages: readonly PromptMessage[],
  whole: Uint32Array,
  overflow: Overflow,
  limit: number,
  encode: (messages: readonly PromptMessage[]) => Uint32Array,
): Uint32Array {
  if (overflow === 'stop' || whole.length <= limit) return whole
  const system = messages.filter((message) => message.role === 'system')
  const turns = turnsOf(messages.filter((message) => message.role !== 'system'))
  const kept = overflow === 'drop-middle' && turns.length > 2 ? 1 : 0
  let shortest = whole
  for (let dropped = 1; dropped < turns.length - kept; dropped++) {
    shortest = encode([...system, ...turns.toSpliced(kept, dropped).flat()])
    if (shortest.length <= limit) return shortest
  }
  return shortest
}

/** A prompt and what was answered to it. */
function turnsOf(messages: readonly PromptMessage[]): readonly (readonly PromptMessage[])[] {
  const turns: PromptMessage[][] = []
  for (const message of messages) {
    const last = turns.at(-1)
    if (message.role === 'user' || last === undefined) turns.push([message])
    else last.push(message)
  }
  return turns
}
