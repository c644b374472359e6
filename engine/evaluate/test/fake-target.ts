/** A target whose likelihoods and answers are functions of the text: every score of a task can be worked out by hand. For tests only. */
import type { ChatTurnText, EvaluationTarget, GenerateRequest, Loglikelihood, LoglikelihoodRequest } from '../tasks/target.ts'

export interface FakeTarget extends EvaluationTarget {
  readonly asked: (LoglikelihoodRequest | GenerateRequest)[]
}

export function createFakeTarget(
  answer: {
    readonly likelihood?: (request: LoglikelihoodRequest) => number | Loglikelihood
    readonly text?: (prompt: string, request: GenerateRequest) => string
    readonly rolling?: (text: string) => number
  },
  options: { readonly chat?: boolean; readonly parallel?: number; readonly fingerprint?: string } = {},
): FakeTarget {
  const asked: (LoglikelihoodRequest | GenerateRequest)[] = []
  return {
    asked,
    name: 'fake',
    kind: 'local',
    fingerprint: options.fingerprint ?? 'fake',
    protocol: 'fake',
    parallel: options.parallel ?? 3,
    endText: '</s>',
    renderChat:
      options.chat === false
        ? null
        : (turns: readonly ChatTurnText[], { continueFinal }) => {
            const text = turns
              .map(({ role, content }, i) => `<${role}>${content}${continueFinal && i === turns.length - 1 ? '' : '</>'}`)
              .join('')
            return continueFinal ? text : `${text}<assistant>`
          },
    async loglikelihood(request) {
      asked.push(request)
      const given = answer.likelihood?.(request) ?? 0
      return typeof given === 'number' ? { logprob: given, isGreedy: false, tokens: 1 } : given
    },
    async rolling(text) {
      return { logprob: answer.rolling?.(text) ?? 0, tokens: text.length }
    },
    async generate(request) {
      asked.push(request)
      const prompt = typeof request.prompt === 'string' ? request.prompt : JSON.stringify(request.prompt)
      return { text: answer.text?.(prompt, request) ?? '', tokens: 1 }
    },
  }
}
