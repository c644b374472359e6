/** How servers write the log-probabilities of a prompt's own tokens in an answer of /v1/completions. Reads; asks nobody. */
import { isObject } from './openai-client.ts'

/** Of one prompt token; null for the first, which nothing predicts. */
export interface PromptToken {
  readonly logprob: number | null
  readonly isTop: boolean
  /** Code points of the text before it; null where the server does not say. */
  readonly offset: number | null
}

/** A top token's own log-probability and its entry in the list come from one number, printed twice. */
const EQUAL_LOGPROB = 1e-6

export function firstChoice(body: unknown): Readonly<Record<string, unknown>> | null {
  const choices = isObject(body) && Array.isArray(body['choices']) ? (body['choices'] as unknown[]) : []
  return isObject(choices[0]) ? choices[0] : null
}

/** OpenAI's `logprobs` of an echoed prompt; null where there are none. */
export function readEcho(choice: Readonly<Record<string, unknown>>): PromptToken[] | null {
  const logprobs = choice['logprobs']
  if (!isObject(logprobs) || !Array.isArray(logprobs['token_logprobs'])) return null
  const tops = Array.isArray(logprobs['top_logprobs']) ? (logprobs['top_logprobs'] as unknown[]) : []
  const offsets = Array.isArray(logprobs['text_offset']) ? (logprobs['text_offset'] as unknown[]) : []
  return (logprobs['token_logprobs'] as unknown[]).map((value, i) => {
    const logprob = typeof value === 'number' ? value : null
    const top = isObject(tops[i]) ? Object.values(tops[i]).filter((entry) => typeof entry === 'number') : []
    const offset = offsets[i]
    return {
      logprob,
      isTop: logprob !== null && top.length > 0 && logprob >= Math.max(...top) - EQUAL_LOGPROB,
      offset: typeof offset === 'number' ? offset : null,
    }
  })
}
