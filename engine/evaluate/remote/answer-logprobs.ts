/**
 * Log-probabilities of an answer's own tokens as OpenAI's two endpoints give them: objects in a list (chat), parallel lists (completions). Servers leave
 * out what they like; a list that is not whole is no trace at all.
 */
import { marginOf, pieceOf } from '../answer-trace.ts'
import type { AnswerTrace } from '../answer-trace.ts'
import { isObject } from './openai-client.ts'

/** null where the answer does not tell its tokens one by one. */
export function readTrace(choice: Readonly<Record<string, unknown>>): AnswerTrace | null {
  const logprobs = choice['logprobs']
  if (!isObject(logprobs)) return null
  const { content, tokens, top_logprobs: tops } = logprobs
  return Array.isArray(content) ? ofChat(content) : Array.isArray(tokens) ? ofCompletion(tokens, Array.isArray(tops) ? tops : []) : null
}

function ofChat(content: readonly unknown[]): AnswerTrace | null {
  const entries = content.flatMap((entry) => {
    const piece = isObject(entry) ? chatPiece(entry) : null
    const top = isObject(entry) && Array.isArray(entry['top_logprobs']) ? (entry['top_logprobs'] as unknown[]) : []
    return piece === null ? [] : [{ piece, margin: marginOf(top.flatMap((other) => (isObject(other) ? numbers([other['logprob']]) : []))) }]
  })
  return whole(entries, content.length)
}

/** `bytes` tell halves of characters apart, which as text are all the same. */
function chatPiece({ token, bytes }: Readonly<Record<string, unknown>>): string | null {
  const isBytes = Array.isArray(bytes) && bytes.length > 0 && bytes.every((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256)
  return isBytes ? pieceOf(Uint8Array.from(bytes as number[])) : typeof token === 'string' ? token : null
}

function ofCompletion(tokens: readonly unknown[], tops: readonly unknown[]): AnswerTrace | null {
  const entries = tokens.flatMap((piece, i) => {
    const top = tops[i]
    return typeof piece === 'string' ? [{ piece, margin: isObject(top) ? marginOf(numbers(Object.values(top))) : null }] : []
  })
  return whole(entries, tokens.length)
}

function whole(entries: readonly { readonly piece: string; readonly margin: number | null }[], count: number): AnswerTrace | null {
  if (entries.length === 0 || entries.length !== count) return null
  return { pieces: entries.map(({ piece }) => piece), margins: entries.map(({ margin }) => margin) }
}

function numbers(values: readonly unknown[]): number[] {
  return values.filter((value) => typeof value === 'number')
}
