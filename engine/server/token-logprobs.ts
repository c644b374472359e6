/** Log-probabilities in the shapes of OpenAI's two endpoints and of vLLM's prompt_logprobs (specs/runtime.md §15). */
import type { ScoreResult } from '../runtime/types.ts'
import type { ChoicePiece } from './completion-run.ts'
import type { ServedTokenizer } from './served-model.ts'

/** JSON has no −∞; OpenAI's clients know this stand-in. */
const LEAST = -9999

export function tokenText(tokenizer: ServedTokenizer, id: number): string {
  return new TextDecoder().decode(tokenizer.tokenBytes(id))
}

export function finite(logprob: number | undefined): number {
  return logprob === undefined || !(logprob > LEAST) ? LEAST : logprob
}

function entry(tokenizer: ServedTokenizer, id: number, logprob: number | undefined): { token: string; logprob: number; bytes: number[] } {
  return { token: tokenText(tokenizer, id), logprob: finite(logprob), bytes: [...tokenizer.tokenBytes(id)] }
}

/** Chat: one object per token. */
export function chatLogprobs(tokenizer: ServedTokenizer, piece: ChoicePiece, count: number): object[] {
  return piece.ids.map((id, index) => ({
    ...entry(tokenizer, id, piece.logprobs[index]),
    top_logprobs: (piece.top?.[index] ?? []).slice(0, count).map((other) => entry(tokenizer, other.id, other.logprob)),
  }))
}

export interface CompletionLogprobs {
  readonly tokens: string[]
  readonly token_logprobs: (number | null)[]
  readonly top_logprobs: (Record<string, number> | null)[]
  readonly text_offset: number[]
}

export function noLogprobs(): CompletionLogprobs {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] }
}

/** Completions: parallel lists. `offset` = characters of the answer before this piece. The sampled token is always among the top ones, also where none were asked for. */
export function addPiece(into: CompletionLogprobs, tokenizer: ServedTokenizer, piece: ChoicePiece, count: number, offset: number): void {
  let at = offset
  for (const [index, id] of piece.ids.entries()) {
    const text = tokenText(tokenizer, id)
    const logprob = finite(piece.logprobs[index])
    const top = (piece.top?.[index] ?? [])
      .slice(0, count)
      .map((other): [string, number] => [tokenText(tokenizer, other.id), finite(other.logprob)])
    into.tokens.push(text)
    into.token_logprobs.push(logprob)
    into.top_logprobs.push(Object.fromEntries([...top, [text, logprob]]))
    into.text_offset.push(at)
    at += [...text].length
  }
}

/** Of a prompt's own tokens; the first has none. */
export function scoredLogprobs(
  tokenizer: ServedTokenizer,
  ids: readonly number[],
  scores: ScoreResult | null,
  count: number,
): CompletionLogprobs {
  const result = noLogprobs()
  let offset = 0
  for (const [position, id] of ids.entries()) {
    const text = tokenText(tokenizer, id)
    result.tokens.push(text)
    result.text_offset.push(offset)
    // OpenAI counts characters, not UTF-16 units.
    offset += [...text].length
    const j = position - 1
    if (j < 0 || scores === null) {
      result.token_logprobs.push(null)
      result.top_logprobs.push(null)
      continue
    }
    const logprob = finite(scores.logprobs[j])
    const top = Array.from({ length: count }, (_, k): [string, number] => [
      tokenText(tokenizer, scores.topIds[j * count + k] ?? 0),
      finite(scores.topLogprobs[j * count + k]),
    ])
    result.token_logprobs.push(logprob)
    result.top_logprobs.push(Object.fromEntries([...top, [text, logprob]]))
  }
  return result
}

/** vLLM's prompt_logprobs: per position a map from token id; null for the first. A token below the listed ones has no known rank. */
export function promptLogprobs(tokenizer: ServedTokenizer, ids: readonly number[], scores: ScoreResult, count: number): (object | null)[] {
  return ids.map((id, position) => {
    const j = position - 1
    if (j < 0) return null
    const top = Array.from({ length: count }, (_, k) => ({
      id: scores.topIds[j * count + k] ?? 0,
      logprob: scores.topLogprobs[j * count + k],
    }))
    const listed = top.findIndex((other) => other.id === id)
    const rank = listed >= 0 ? listed + 1 : scores.argmax[j] === id ? 1 : null
    return Object.fromEntries([
      ...top.map((other, k) => ranked(tokenizer, other.id, other.logprob, k + 1)),
      ranked(tokenizer, id, scores.logprobs[j], rank),
    ])
  })
}

function ranked(tokenizer: ServedTokenizer, id: number, logprob: number | undefined, rank: number | null): [string, object] {
  return [String(id), { logprob: finite(logprob), rank, decoded_token: tokenText(tokenizer, id) }]
}
