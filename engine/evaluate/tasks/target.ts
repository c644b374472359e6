/**
 * What a task asks of a model, wherever it runs: log-likelihoods of text, and generated text. Two kinds exist: the local runtime and any server
 * with OpenAI's interface. What a target can't do it refuses by name; nothing is approximated in silence.
 */
import type { AnswerTrace } from '../answer-trace.ts'

export interface LoglikelihoodRequest {
  readonly context: string
  readonly continuation: string
}

export interface Loglikelihood {
  /** Σ log p of the continuation's tokens, nats. */
  readonly logprob: number
  /** Whether every token of it is the most probable one. */
  readonly isGreedy: boolean
  readonly tokens: number
}

export interface ChatTurnText {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

export interface GenerateRequest {
  /** A text to continue, or a conversation that the target renders itself. */
  readonly prompt: string | readonly ChatTurnText[]
  readonly maxTokens: number
  readonly until: readonly string[]
  readonly temperature: number
  readonly topP: number
  readonly seed: number
}

export interface Generated {
  readonly text: string
  readonly tokens: number
  /** Of greedy answers, from targets that tell; absent too in what was kept before Lathe asked for it. */
  readonly trace?: AnswerTrace
}

export interface EvaluationTarget {
  readonly name: string
  readonly kind: 'local' | 'remote'
  /** Identifies model, adapter and number types: equal keys give equal answers. Part of every cache key. */
  readonly fingerprint: string
  /** How tokens are split and where a start token goes, for the protocol of a result. */
  readonly protocol: string
  /** Requests worth keeping in flight. */
  readonly parallel: number
  /** null where the target has no template of its own to show; conversations may still be sent. */
  readonly renderChat: ((turns: readonly ChatTurnText[], options: { readonly continueFinal: boolean }) => string) | null
  /** Text of the end-of-sequence token, which always stops. */
  readonly endText: string | null
  /** Tokens of a text as it stands; absent where the tokenizer is not known. */
  readonly encode?: (text: string) => ArrayLike<number>
  loglikelihood(request: LoglikelihoodRequest, signal: AbortSignal | undefined): Promise<Loglikelihood>
  /** Σ log p of a whole document under rolling windows. */
  rolling(text: string, window: number, signal: AbortSignal | undefined): Promise<{ readonly logprob: number; readonly tokens: number }>
  generate(request: GenerateRequest, signal: AbortSignal | undefined): Promise<Generated>
}

/** What a reasoning model's thoughts stand between in its text; some templates open them in the prompt. */
const THINKING = '<think>'
export const END_OF_THINKING = '</think>'

/** Without what a reasoning model thinks first, which is no part of the answer, and the blank lines after it. */
function answerIn(output: string): string {
  const thought = output.lastIndexOf(END_OF_THINKING)
  return thought < 0 ? output : output.slice(thought + END_OF_THINKING.length).trimStart()
}

/** The answer up to the earliest stop string; stops in a thought before it do not count. */
export function cutAtStops(output: string, stops: readonly string[]): string {
  const text = answerIn(output)
  let end = text.length
  for (const stop of stops) {
    const at = stop === '' ? -1 : text.indexOf(stop)
    if (at >= 0 && at < end) end = at
  }
  return text.slice(0, end)
}

/** Whether what was generated so far has come to a stop string, a thought that is still going on left alone. */
export function isStopped(prompt: string, output: string, stops: readonly string[]): boolean {
  const isThinking = !output.includes(END_OF_THINKING) && (output.trimStart().startsWith(THINKING) || prompt.trimEnd().endsWith(THINKING))
  const text = answerIn(output)
  return !isThinking && stops.some((stop) => stop !== '' && text.includes(stop))
}
